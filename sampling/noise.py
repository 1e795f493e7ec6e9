"""The noise that a clip begins with: drawn, arranged from frame to frame, and blended. Needs no ComfyUI.

Noise is (f, c, h, w). An arrangement depends on the run's seed alone and changes nothing in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KEY = "animatediff_native.noise"
"""Under which a MODEL's `model_options` hold a tuple of arrangements."""

Arrangement = Callable[[Tensor, int], Tensor]
"""From noise (f, c, h, w) and the run's seed to noise of the same shape."""


def arrange(noise: Tensor, seed: int, arrangements: Iterable[Arrangement]) -> Tensor:
    """Return noise after all `arrangements`, in their order. Zeros, which mean no noise, stay zeros."""
    if not noise.any():
        return noise
    for arrangement in arrangements:
        noise = arrangement(noise, seed)
    return noise


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU, so that a seed means the same on every device."""
    return torch.Generator("cpu").manual_seed(seed % 2**64)


def draw(shape: Sequence[int], seed: int) -> Tensor:
    """Return the noise that ComfyUI draws for a latent of this shape, in float32 and on the CPU."""
    return torch.randn(tuple(shape), generator=generator(seed))


@dataclass(frozen=True)
class FreeNoise:
    """The noise rescheduling of FreeNoise (arXiv 2310.15169), which makes the windows of a long clip agree.

    Past the first `length` frames, every `stride` frames repeat those of `length` frames before in random order, with
    diffusers' choice of frames and cut at the end. ValueError unless 1 <= stride <= length.
    """

    length: int
    stride: int

    def __post_init__(self):
        if not 1 <= self.stride <= self.length:
            raise ValueError(f"The stride of {self.stride} frames must be from 1 to FreeNoise's {self.length} frames.")

    def __call__(self, noise: Tensor, seed: int) -> Tensor:
        frames, shuffles = len(noise), generator(seed)
        source = torch.arange(frames)
        for start in range(self.length, frames, self.stride):
            shuffled = start - self.length + torch.randperm(self.stride, generator=shuffles)
            source[start : start + self.stride] = source[shuffled[: frames - start]]
        return noise[source.to(noise.device)]


def repeated(noise: Tensor, period: int) -> Tensor:
    """Return the noise of the first `period` frames, over and over."""
    return noise[torch.arange(len(noise), device=noise.device) % period]


def per_frame_seeds(noise: Tensor, seed: int) -> Tensor:
    """Return noise whose frame i is drawn with the seed `seed` + i, whatever the number of frames."""
    return torch.stack([draw(noise.shape[1:], seed + i) for i in range(len(noise))]).to(noise)


KINDS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "constant": lambda noise, seed, period: repeated(noise, 1),
    "repeated": lambda noise, seed, period: repeated(noise, period),
    "per-frame seeds": lambda noise, seed, period: per_frame_seeds(noise, seed),
}


@dataclass(frozen=True)
class ClipNoise:
    """One of `KINDS` of noise, of which `share` (0 to 1) is blended into each frame's own."""

    kind: str
    share: float = 1.0
    period: int = 16
    """Frames after which "repeated" noise starts over."""

    def __call__(self, noise: Tensor, seed: int) -> Tensor:
        return blend(noise, KINDS[self.kind](noise, seed, self.period), self.share)


def blend(own: Tensor, other: Tensor, share: float) -> Tensor:
    """Return (1 - share) own + share other, (f, c, h, w), at unit variance; a share of 0 or 1 gives exactly one.

    The variance of two frames' blend depends on their correlation, which is about 0 for frames of their own and 1
    where one is the other, as the first frame of constant noise is.
    """
    correlation = torch.cosine_similarity(own.flatten(1).float(), other.flatten(1).float(), dim=1)
    variance = (1 - share) ** 2 + share**2 + 2 * share * (1 - share) * correlation
    return ((1 - share) * own + share * other) / variance.sqrt().view(-1, 1, 1, 1).to(own)
