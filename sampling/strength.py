"""Strength and motion scale of a motion module: in each frame, region and level of the UNet, and over the sampling.

Needs no ComfyUI. *Strength* scales what a motion module adds to the UNet's features, *motion scale* the keys of its
attention. Shapes: `b` conds, `f` frames of a call, `h w` features of a block.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion_models.motion_model import Amount
from .calls import CallFrames
from .curves import SAMPLING, SAMPLING_POINTS, Curve

# The blocks of a motion model by resolution, as their keys begin; `down_blocks.0` and `up_blocks.3` see the finest.
LEVELS = (*(f"down_blocks.{i}" for i in range(4)), "mid_block", *(f"up_blocks.{i}" for i in range(4)))
Area = tuple[tuple[int, int], int, int, int, int]
"""Size of the latent, (h, w), then height, width, top and left of a cond's part of it."""


@dataclass(frozen=True)
class MotionStrength:
    """The values of one Motion Strength node; those of several nodes multiply."""

    strength: float | Curve = 1.0
    motion_scale: float | Curve = 1.0
    strength_of_level: Mapping[str, float] = field(default_factory=dict)
    motion_scale_of_level: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Factor:
    """Strength or motion scale in one clip: the product of what all nodes say of it."""

    over_sampling: tuple[float, ...]
    """At each of the sampling's moments, or one number where it does not change."""
    over_frames: tuple[Tensor, ...]
    """Curves, (frames, 1, 1) or (frames, h, w) of the latent."""
    of_level: Mapping[str, float]

    @classmethod
    def product(
        cls,
        values: Sequence[float | Curve],
        of_levels: Sequence[Mapping[str, float]],
        levels: Sequence[str],
        frames: int,
        latent_size: tuple[int, int],
    ) -> Factor:
        """Multiply `values` and the numbers of each of the motion model's `levels`.

        ValueError if a curve has numbers or masks for another count of frames.
        """
        curves = [value for value in values if isinstance(value, Curve)]
        over_frames = [resized(curve.over_frames(frames), latent_size) for curve in curves if curve.over != SAMPLING]
        over_sampling = [curve.over_sampling() for curve in curves if curve.over == SAMPLING]
        of_level = {level: math.prod(numbers.get(level, 1.0) for numbers in of_levels) for level in levels}
        number = math.prod(float(value) for value in values if not isinstance(value, Curve))
        if not all(curve.any() for curve in over_frames) or not any(of_level.values()):
            number = 0.0
        moments = zip(*(curve.tolist() for curve in over_sampling), strict=True) if over_sampling else ((),)
        return cls(
            over_sampling=tuple(math.prod(numbers, start=number) for numbers in moments),
            over_frames=tuple(curve.expand(frames, -1, -1) for curve in over_frames),
            of_level=of_level,
        )

    @property
    def has_regions(self) -> bool:
        return any(curve.shape[1] * curve.shape[2] > 1 for curve in self.over_frames)

    def at(self, moment: int) -> float:
        """Return the part that is the same in all levels and frames."""
        return self.over_sampling[moment if len(self.over_sampling) > 1 else 0]

    def in_call(
        self, call: CallFrames, moment: int = 0, areas: Sequence[Area | None] = (None,)
    ) -> Callable[[str, Tensor], Amount]:
        """Return the function that gives the number for a module of one UNet call; see `ClipStrength.in_call`."""

        @functools.cache  # most modules share their size with others
        def over_frames(size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
            curves = (in_view(curve, call, areas=areas, size=size) for curve in self.over_frames)
            return functools.reduce(torch.mul, curves).to(device, dtype)

        def amount(module: str, features: Tensor) -> Amount:
            number = self.at(moment) * self.of_level[module.partition(".motion_modules")[0]]
            if not self.over_frames or number == 0.0:
                return number
            size = (features.shape[-2], features.shape[-1])
            product = over_frames(size, features.device, features.dtype)
            return product.repeat(count_tiles(features, call, len(areas)), 1, 1, 1) * number

        return amount


@dataclass(frozen=True)
class ClipStrength:
    """Strength and motion scale in one clip."""

    strength: Factor
    motion_scale: Factor

    @classmethod
    def product(
        cls, settings: Sequence[MotionStrength], levels: Sequence[str], frames: int, latent_size: tuple[int, int]
    ) -> ClipStrength:
        """Multiply the settings of several nodes for a clip; see `Factor.product`."""
        clip = {"levels": levels, "frames": frames, "latent_size": latent_size}
        return cls(
            Factor.product([s.strength for s in settings], [s.strength_of_level for s in settings], **clip),
            Factor.product([s.motion_scale for s in settings], [s.motion_scale_of_level for s in settings], **clip),
        )

    @property
    def has_regions(self) -> bool:
        return self.strength.has_regions or self.motion_scale.has_regions

    def rests(self, moment: int) -> bool:
        """Return whether the motion model adds nothing at a moment of the sampling."""
        return self.strength.at(moment) == 0.0

    def in_call(
        self, call: CallFrames, moment: int = 0, areas: Sequence[Area | None] = (None,)
    ) -> Callable[[str, Tensor], tuple[Amount, Amount]]:
        """Return the function that gives strength and motion scale for a motion module of one UNet call.

        The function takes the module's name and its features, (b f) c h w, and gives numbers, or tensors
        (b f) 1 h w (or 1 1). Each cond sees its area of the latent (None: all of it).
        """
        strength, motion_scale = (factor.in_call(call, moment, areas) for factor in (self.strength, self.motion_scale))
        return lambda module, features: (strength(module, features), motion_scale(module, features))


def count_tiles(features: Tensor, call: CallFrames, conds: int) -> int:
    """Return how often a call holds its frames: more than once where another node puts the tiles of a large picture
    after each other. ValueError if nothing tells which frames the call holds."""
    tiles, rest = divmod(len(features), len(call.frames) * conds)
    if rest:
        raise ValueError(
            f"The model was called with {len(features) // conds} of {call.clip} frames without saying which: with a "
            "Motion Curve or keyframes, use Sliding Context or ComfyUI's own context windows."
        )
    return tiles


def in_view(curve: Tensor, call: CallFrames, areas: Sequence[Area | None], size: tuple[int, int]) -> Tensor:
    """Return the part of a curve, frames h w, that a call sees, at the size of its features: (b f) 1 h w, or
    (b f) 1 1 1."""
    return torch.cat([resized(cropped(curve[call.frames], area), size) for area in areas])[:, None]


def cropped(x: Tensor, area: Area | None) -> Tensor:
    """Return an area of masks (n, h, w); numbers (n, 1, 1) stay."""
    if area is None or x.shape[-2:] == (1, 1):
        return x
    latent_size, height, width, top, left = area
    return resized(x, latent_size)[..., top : top + height, left : left + width]


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks (n, h, w) at another size; numbers (n, 1, 1) stay.

    Each new pixel is the mean of those that it covers, so 0 and 1 stay so inside a region.
    """
    return x if x.shape[-2:] in ((1, 1), size) else F.interpolate(x[:, None], size, mode="area")[:, 0]


def moments(percent_to_sigma: Callable[[float], float]) -> list[float]:
    """Return the noise levels, falling, at which a curve over the sampling takes its values."""
    return [percent_to_sigma(i / (SAMPLING_POINTS - 1)) for i in range(SAMPLING_POINTS)]


def moment_of(sigma: float, falling: Sequence[float]) -> int:
    """Return the first moment at which there is no more noise than `sigma`."""
    return min(bisect.bisect_left(falling, -sigma, key=lambda s: -s), len(falling) - 1)
