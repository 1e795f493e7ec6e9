"""Numbers that change over the frames of a clip or in the course of its sampling. Needs no ComfyUI.

Every source gives its numbers as a tensor (n, 1, 1), or (n, h, w) where they also differ from place to place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

FRAMES, SAMPLING = "frames", "sampling"
SAMPLING_POINTS = 1001  # a curve over the sampling is read to a thousandth

EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease": lambda t: (1.0 - math.cos(math.pi * t)) / 2.0,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2.0 - t),
    "hold": lambda _: 0.0,
}
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
KEYFRAME = re.compile(rf"(\d+\.?\d*|\.\d+)\s*(%?)\s*:\s*\(?\s*({NUMBER})\s*\)?\s*([a-z-]*)")


class Source(Protocol):
    def values(self, n: int) -> Tensor:
        """Numbers for n frames, or for n evenly spaced moments of the sampling: (n, 1, 1) or (n, h, w), or (1, ...)
        where one counts for all."""
        ...


@dataclass(frozen=True)
class Curve:
    """What the Motion Curve node makes."""

    source: Source
    over: str = FRAMES

    def over_frames(self, frames: int) -> Tensor:
        return self.source.values(frames)

    def over_sampling(self) -> Tensor:
        """Numbers at `SAMPLING_POINTS` moments from the start of the sampling to its end."""
        return self.source.values(SAMPLING_POINTS).flatten()


@dataclass(frozen=True)
class Keyframe:
    position: float
    """A frame's number, or with `relative` the part of the way from first to last."""
    relative: bool
    value: float
    easing: str
    """Of the way to the next keyframe, as in CSS."""


@dataclass(frozen=True)
class Keyframes:
    keys: tuple[Keyframe, ...]

    def values(self, n: int) -> Tensor:
        """Before the first keyframe its value holds, and after the last one that one's."""
        placed = sorted(
            ((key.position * (n - 1) if key.relative else key.position, key) for key in self.keys), key=lambda at: at[0]
        )
        return torch.tensor([value_at(placed, float(i)) for i in range(n)]).view(n, 1, 1)


def value_at(placed: Sequence[tuple[float, Keyframe]], position: float) -> float:
    before = [at for at in placed if at[0] <= position]
    after = [at for at in placed if at[0] > position]
    if not before or not after:
        return (before[-1] if before else after[0])[1].value
    (start, key), (end, next_key) = before[-1], after[0]
    t = EASINGS[key.easing]((position - start) / (end - start))
    return key.value + t * (next_key.value - key.value)


@dataclass(frozen=True)
class Samples:
    """One number or mask for all frames, or one for each; n, 1 or h, 1 or w."""

    tensor: Tensor
    name: str

    def values(self, n: int) -> Tensor:
        if len(self.tensor) not in (1, n):
            raise ValueError(f"{len(self.tensor)} {self.name} for {n} frames: give one, or one for every frame.")
        return self.tensor


@dataclass(frozen=True)
class Spread:
    """A list of numbers spread evenly from first to last, with straight lines between them."""

    numbers: tuple[float, ...]

    def values(self, n: int) -> Tensor:
        at = numpy.linspace(0.0, len(self.numbers) - 1.0, n)
        return torch.from_numpy(numpy.interp(at, range(len(self.numbers)), self.numbers)).float().view(n, 1, 1)


@dataclass(frozen=True)
class Drawn:
    """A curve drawn in ComfyUI's Curve Editor, from the first to the last frame."""

    curve: Any
    low: float
    high: float

    def values(self, n: int) -> Tensor:
        drawn = self.curve.interp_array(numpy.linspace(0.0, 1.0, n))
        return between(self.low, self.high, torch.from_numpy(drawn).float().view(n, 1, 1))


@dataclass(frozen=True)
class Loudness:
    """Of each frame's stretch of sound, from `low` in silence to `high` at the loudest frame of the clip."""

    rms: Tensor
    low: float
    high: float

    def values(self, n: int) -> Tensor:
        rms = torch.zeros(n)
        rms[: len(self.rms)] = self.rms[:n]  # after its end a sound is silent
        return between(self.low, self.high, (rms / rms.max().clamp_min(1e-9)).view(n, 1, 1))


def between(low: float, high: float, x: Tensor) -> Tensor:
    """0 becomes `low` and 1 `high`, to the bit."""
    return low * (1.0 - x) + high * x


def parse(text: str, over: str = FRAMES) -> Source:
    """Keyframes, as "frame: value easing", or without any colon a list of numbers; divided by lines, commas or blanks.

    Over the sampling a keyframe's position is the part that is done, from 0 to 1. ValueError quotes what is neither.
    """
    if ":" not in text:
        return from_numbers(parse_numbers(text), over)
    entries = (entry.strip().lower() for entry in re.split(r"[\n,;]", text))
    return Keyframes(tuple(parse_keyframe(entry, over) for entry in entries if entry))


def parse_numbers(text: str) -> list[float]:
    words = re.split(r"[\s,;]+", text.strip(" \t\n\r,;[]()"))
    wrong = next((word for word in words if not re.fullmatch(NUMBER, word)), None)
    if wrong is not None:
        raise ValueError(f'"{wrong}" is no number: write keyframes such as "0: 0.5", or numbers such as "0.5 1 1".')
    return [float(word) for word in words]


def parse_keyframe(entry: str, over: str) -> Keyframe:
    found = KEYFRAME.fullmatch(entry)
    if found is None or found[4] not in ("", *EASINGS):
        raise ValueError(
            f'"{entry}" is no keyframe: write "frame: value", and if you like one of {", ".join(EASINGS)} after it.'
        )
    position, relative = float(found[1]), bool(found[2]) or over == SAMPLING
    if found[2]:
        position /= 100.0
    if relative and position > 1.0:
        raise ValueError(f'"{entry}" lies after the end: write its position from 0 to 1, or as a percentage.')
    return Keyframe(position, relative, float(found[3]), found[4] or "linear")


def from_numbers(numbers: Sequence[float], over: str = FRAMES) -> Source:
    """One number, or one for every frame; over the sampling any number of them."""
    if not numbers:
        raise ValueError("The list of numbers is empty: give one number, or one for every frame.")
    if over == SAMPLING:
        return Spread(tuple(numbers))
    return Samples(torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1), "numbers")


def from_mask(mask: Tensor, low: float, high: float) -> Source:
    """A mask, (h, w) or (n, h, w): black is `low` and white `high`."""
    mask = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    return Samples(between(low, high, mask), "masks")


def from_audio(waveform: Tensor, sample_rate: int, frame_rate: float, low: float, high: float) -> Source:
    """Root mean square of a sound, (1, channels, samples), over each frame's stretch of it."""
    energy = waveform.cpu().double().square().flatten(0, -2).mean(0)
    frames = max(1, math.ceil(len(energy) / sample_rate * frame_rate))
    edges = (torch.arange(frames + 1) * (sample_rate / frame_rate)).round().long().clamp_max(len(energy))
    until = torch.cat([energy.new_zeros(1), energy.cumsum(0)])[edges]
    return Loudness((until.diff().clamp_min(0.0) / edges.diff().clamp_min(1)).sqrt().float(), low, high)
