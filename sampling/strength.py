"""How strongly a motion model works: in each frame, place and block of the UNet, and over the sampling.

Needs no ComfyUI. *Effect* scales what a motion module adds to the UNet's features, *scale* the keys of its attention.
Shapes: `b` conds, `f` frames of a call, `h w` features of a block.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .curves import SAMPLING, SAMPLING_POINTS, Curve

# The blocks of a motion model by resolution, as their keys begin; `down_blocks.0` and `up_blocks.3` see the finest.
LEVELS = (*(f"down_blocks.{i}" for i in range(4)), "mid_block", *(f"up_blocks.{i}" for i in range(4)))
Area = tuple[int, int, int, int]  # height, width, top and left of a cond's part of the latent


@dataclass(frozen=True)
class MotionStrength:
    """What one node sets; those of several nodes multiply."""

    effect: float | Curve = 1.0
    scale: float | Curve = 1.0
    effect_of_level: Mapping[str, float] = field(default_factory=dict)
    scale_of_level: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Factor:
    """Effect or scale in one clip: the product of a number, curves over its frames, curves over its sampling, and a
    number for each level."""

    number: float
    over_frames: tuple[Tensor, ...]  # each (frames, 1, 1), or (frames, h, w) of the latent
    over_sampling: tuple[Tensor, ...]  # each (SAMPLING_POINTS)
    of_level: Mapping[str, float]

    @classmethod
    def of(
        cls,
        values: Sequence[float | Curve],
        of_levels: Sequence[Mapping[str, float]],
        levels: Sequence[str],
        frames: int,
        latent: tuple[int, int],
    ) -> Factor:
        """ValueError if a curve has numbers or masks for another count of frames."""
        curves = [value for value in values if isinstance(value, Curve)]
        over_frames = [resized(curve.over_frames(frames), latent) for curve in curves if curve.over != SAMPLING]
        of_level = {level: math.prod(each.get(level, 1.0) for each in of_levels) for level in levels}
        number = math.prod(float(value) for value in values if not isinstance(value, Curve))
        return cls(
            number if all(curve.any() for curve in over_frames) and any(of_level.values()) else 0.0,
            tuple(curve.expand(frames, -1, -1) for curve in over_frames),
            tuple(curve.over_sampling() for curve in curves if curve.over == SAMPLING),
            of_level,
        )

    def at(self, moment: int) -> float:
        """The part of it that is the same in all blocks and frames."""
        return math.prod((float(curve[moment]) for curve in self.over_sampling), start=self.number)


@dataclass(frozen=True)
class ClipStrength:
    """Effect and scale in one clip of that many frames, of latents of that height and width."""

    effect: Factor
    scale: Factor
    frames: int
    latent: tuple[int, int]

    @classmethod
    def of(
        cls, strengths: Sequence[MotionStrength], levels: Sequence[str], frames: int, latent: tuple[int, int]
    ) -> ClipStrength:
        """For a motion model with these levels, and latents of that height and width."""
        effect, effect_of_level = [s.effect for s in strengths], [s.effect_of_level for s in strengths]
        scale, scale_of_level = [s.scale for s in strengths], [s.scale_of_level for s in strengths]
        return cls(
            Factor.of(effect, effect_of_level, levels, frames, latent),
            Factor.of(scale, scale_of_level, levels, frames, latent),
            frames,
            latent,
        )

    @property
    def over_sampling(self) -> bool:
        return bool(self.effect.over_sampling or self.scale.over_sampling)

    @property
    def has_regions(self) -> bool:
        return any(t.shape[1] * t.shape[2] > 1 for t in (*self.effect.over_frames, *self.scale.over_frames))


@dataclass(frozen=True)
class CallStrength:
    """Effect and scale in one UNet call, which holds the frames `indices` of the clip (None: all of them), at one
    `moment` of the sampling; each cond sees its area of the latent (None: all of it)."""

    clip: ClipStrength
    moment: int = 0
    indices: Sequence[int] | None = None
    areas: Sequence[Area | None] = (None,)
    made: dict[Any, Tensor] = field(default_factory=dict, compare=False)

    @property
    def rests(self) -> bool:
        return self.clip.effect.at(self.moment) == 0.0

    def __call__(self, slot: str, features: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """For the motion module `slot` and its features, (b f) c h w: numbers, or tensors (b f) 1 h w (or 1 1)."""
        return self.factor(self.clip.effect, slot, features), self.factor(self.clip.scale, slot, features)

    def factor(self, factor: Factor, slot: str, features: Tensor) -> float | Tensor:
        number = factor.at(self.moment) * factor.of_level[slot.partition(".motion_modules")[0]]
        if not factor.over_frames or number == 0.0:
            return number
        size = (features.shape[-2], features.shape[-1])
        if (factor, size) not in self.made:  # most slots share their size with others
            product = functools.reduce(torch.mul, (self.placed(curve, size) for curve in factor.over_frames))
            tiles = self.tiles(features.shape[0])
            self.made[factor, size] = product.to(features.device, features.dtype).repeat(tiles, 1, 1, 1)
        return self.made[factor, size] * number

    def tiles(self, latents: int) -> int:
        """How often a call of that many latents holds its frames: more than once where another node has put the tiles
        of a large picture after each other. ValueError if it is not known which frames it holds."""
        frames = self.clip.frames if self.indices is None else len(self.indices)
        tiles, rest = divmod(latents, frames * len(self.areas))
        if rest:
            raise ValueError(
                f"{latents // len(self.areas)} of {self.clip.frames} frames came alone, and nothing says "
                "which: use Sliding Context or ComfyUI's own context windows with a Motion Curve."
            )
        return tiles

    def placed(self, curve: Tensor, size: tuple[int, int]) -> Tensor:
        """The part of frames, h, w that the call sees, at the size of its features: (b f) 1 h w, or (b f) 1 1 1."""
        frames = curve if self.indices is None else curve[list(self.indices)]
        parts = [resized(cropped(frames, area), size) for area in self.areas]
        return torch.cat(parts)[:, None]


def cropped(x: Tensor, area: Area | None) -> Tensor:
    if area is None or x.shape[-2:] == (1, 1):
        return x
    height, width, top, left = area
    return x[..., top : top + height, left : left + width]


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (n, h, w) of another size; numbers (n, 1, 1) stay. Each new pixel is the mean of those that it covers, so 0
    and 1 stay so inside of a region."""
    return x if x.shape[-2:] in ((1, 1), size) else F.interpolate(x[:, None], size, mode="area")[:, 0]


def moments(percent_to_sigma: Callable[[float], float]) -> list[float]:
    """Noise levels, falling, at which a curve over the sampling takes its values."""
    return [percent_to_sigma(i / (SAMPLING_POINTS - 1)) for i in range(SAMPLING_POINTS)]


def moment_of(sigma: float, falling: Sequence[float]) -> int:
    """The first moment at which there is no more noise than `sigma`."""
    return min(bisect.bisect_left(falling, -sigma, key=lambda s: -s), len(falling) - 1)
