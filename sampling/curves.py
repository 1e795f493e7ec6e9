"""Build numbers that change over the frames of a clip or over its sampling. Needs no ComfyUI.

A source is a function from a number of frames, or of evenly spaced moments of the sampling, to a tensor (n, 1, 1), or
(n, h, w) where the numbers also differ from place to place. Its first dimension is 1 where one number counts for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch
from torch import Tensor

from . import timeline
from .timeline import BLANK, NUMBER, WORD, Key, Place, Values, cut

FRAMES, SAMPLING = "frames", "sampling"
SAMPLING_POINTS = 1001  # a curve over the sampling is read to a thousandth

SIGNED = rf"[-+]?{NUMBER}"
VALUE = re.compile(rf"{BLANK}*(?:\({BLANK}*)?({SIGNED})(?:{BLANK}*\))?(?=[\s,;]|{WORD}(?![\w.])|\Z)", re.IGNORECASE)
ENTRY = re.compile(r"[ \t]*([^\n,;]*)")
COMMENT = re.compile(r"(?<!\S)--[^\n]*")
LISTED = re.compile(rf"{COMMENT.pattern}|([^\s,;()\[\]]+)")

Source = Callable[[int], Tensor]


@dataclass(frozen=True)
class Curve:
    """Numbers over the frames of a clip or over its sampling, as Motion Curve gives them."""

    source: Source
    over: str = FRAMES

    def over_frames(self, frames: int) -> Tensor:
        """Return the numbers of each frame: (frames, 1, 1) or (frames, h, w), or (1, ...) where one counts for all."""
        return finite(self.source(frames))

    def over_sampling(self) -> Tensor:
        """Return the numbers at `SAMPLING_POINTS` moments from the start of the sampling to its end."""
        return finite(self.source(SAMPLING_POINTS)).flatten()


def finite(numbers: Tensor) -> Tensor:
    """Return the same numbers. ValueError if one is NaN or infinite."""
    if not numbers.isfinite().all():
        raise ValueError("A Motion Curve holds NaN or infinite numbers: correct its keyframes or its source.")
    return numbers


def parse(text: str, over: str = FRAMES) -> Source:
    """Return the source of keyframes in the timeline grammar, or of a list of numbers without any colon.

    Over the sampling a keyframe's position is the part that is done, from 0 to 1. ValueError names the line and column
    of a mistake.
    """
    numbers = [] if re.search("[:=]", COMMENT.sub("", text)) else read_list(text)
    if numbers:
        return from_numbers(numbers, over)
    return partial(keyframes, timeline.parse(text, NUMBERS, parts_only=over == SAMPLING))


def read_list(text: str) -> list[float]:
    """Return numbers that are divided by lines, commas or blanks, in brackets or without."""
    numbers = []
    for word in LISTED.finditer(text):
        if word[1] and not re.fullmatch(SIGNED, word[1]):
            sentence = 'is not a number: write keyframes such as "0: 0.5", or numbers such as "0.5 1 1".'
            raise Place(text, word.start()).error(f'"{cut(word[1])}" {sentence}')
        numbers += [float(word[1])] if word[1] else []
    return numbers


def read_number(head: re.Match[str]) -> tuple[float, int]:
    """Return the number behind a key's head, with or without parentheses, and its end in the text."""
    text = head.string
    value = VALUE.match(text, head.end())
    if value is None:
        entry = ENTRY.match(text, head.end())
        written, at = (cut(entry[1]), entry.start(1)) if entry else ("", head.end())
        raise Place(text, at).error(f'"{written}" is not a number: write "frame: number", such as "0: 0.5".')
    return float(value[1]), value.end()


NUMBERS = Values("number", "0: 0.5", read_number)


def keyframes(keys: Sequence[Key[float]], n: int) -> Tensor:
    """Return the numbers between keyframes: (n, 1, 1). ValueError names two ranges that claim the same frame."""
    shown = timeline.blends(timeline.spans(keys, n, arithmetic=float, jumps=True), n)
    return torch.tensor([b.first + b.t * (b.second - b.first) for b in shown]).view(n, 1, 1)


def from_numbers(numbers: Sequence[float], over: str = FRAMES) -> Source:
    """Return the source of one number, or of one for every frame; over the sampling of any number of them."""
    if not numbers:
        raise ValueError("The list of numbers is empty: give one number, or one for every frame.")
    if over == SAMPLING:
        return partial(spread, tuple(numbers))
    return partial(samples, torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1), "numbers")


def spread(numbers: Sequence[float], n: int) -> Tensor:
    """Return numbers spread evenly from first to last, with straight lines between them: (n, 1, 1)."""
    at = numpy.linspace(0.0, len(numbers) - 1.0, n)
    return torch.from_numpy(numpy.interp(at, range(len(numbers)), numbers)).float().view(n, 1, 1)


def samples(tensor: Tensor, name: str, n: int) -> Tensor:
    """Return one number or mask for all frames, or one for each. ValueError if there are others than 1 or n."""
    if len(tensor) not in (1, n):
        raise ValueError(f"{len(tensor)} {name} for {n} frames: give one, or one for every frame.")
    return tensor


def from_mask(mask: Tensor, low: float, high: float) -> Source:
    """Return the source of a mask, (h, w) or (n, h, w): black is `low` and white `high`."""
    mask = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    return partial(samples, between(low, high, mask), "masks")


def from_curve_editor(curve: Any, low: float, high: float) -> Source:
    """Return the source of a curve drawn in ComfyUI's Curve Editor, from the first to the last frame."""

    def drawn(n: int) -> Tensor:
        values = curve.interp_array(numpy.linspace(0.0, 1.0, n))
        return between(low, high, torch.from_numpy(values).float().view(n, 1, 1))

    return drawn


def from_audio(waveform: Tensor, sample_rate: int, frame_rate: float, low: float, high: float) -> Source:
    """Return the source of a sound's loudness, (1, channels, samples): the root mean square over each frame's stretch.

    Silence is `low` and the loudest frame of the clip `high`. A sound is silent after its end.
    """
    if sample_rate <= 0:
        raise ValueError(f"The sound has a sample rate of {sample_rate}: connect another.")
    energy = waveform.cpu().double().square().flatten(0, -2).mean(0)
    total = torch.cat([energy.new_zeros(1), energy.cumsum(0)])

    def loudness(n: int) -> Tensor:
        edges = (torch.arange(n + 1) * (sample_rate / frame_rate)).round().clamp_max(len(energy)).long()
        rms = (total[edges].diff().clamp_min(0.0) / edges.diff().clamp_min(1)).sqrt().float()
        return between(low, high, (rms / rms.max().clamp_min(1e-9)).view(n, 1, 1))

    return loudness


def between(low: float, high: float, x: Tensor) -> Tensor:
    """Return numbers from `low` for 0 to `high` for 1, both to the bit."""
    return low * (1.0 - x) + high * x
