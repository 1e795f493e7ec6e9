"""Sample Settings of old workflows: the noise that a clip begins with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..sampling.noise import Arrangement, ClipNoise, draw, per_frame_seeds
from .enumerations import NOISE_TYPES

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClipSeeds:
    """Draws noise, (f, c, h, w), with other seeds than the sampler's."""

    per_frame: bool = False
    offset: int = 0
    skipped: int = 0
    """Frames whose noise is drawn and left out."""
    override: int | None = None
    """A seed that is used instead of the sampler's."""

    def __call__(self, noise: Tensor, seed: int) -> Tensor:
        seed = (seed if self.override is None else self.override) + self.offset
        if self.per_frame:
            return per_frame_seeds(noise, seed + self.skipped)
        return draw((self.skipped + len(noise), *noise.shape[1:]), seed)[self.skipped :].to(noise)


@dataclass(frozen=True)
class NoiseSettings:
    """The choices of Sample Settings."""

    noise_type: str = "default"
    seeds: ClipSeeds = ClipSeeds()

    def arrangements(self, context_length: int | None) -> tuple[Arrangement, ...]:
        """Return what arranges the noise for windows of that many frames, or for none.

        FreeNoise is not part of it: the windows bring it.
        """
        drawn = (self.seeds,) if self.seeds != ClipSeeds() else ()
        noise = NOISE_TYPES[self.noise_type]
        if noise == "repeated" and context_length is None:
            logging.warning("AnimateDiff: repeated_context has no effect without context options.")
        elif noise is not None:
            return (*drawn, ClipNoise(noise, period=context_length or 1))
        return drawn


NOT_SET = NoiseSettings()


def sample_settings(
    batch_offset: int, noise_type: str, seed_gen: str, seed_offset: int, seed_override: int | None = None
) -> NoiseSettings:
    if noise_type == "empty":
        raise ValueError("The noise type 'empty' is not carried over from old workflows: choose another.")
    if isinstance(seed_override, (list, tuple)):
        raise ValueError("A list of seeds is not carried over from old workflows: give seed_override one number.")
    if seed_gen.endswith("[gpu]"):
        logging.warning(f"AnimateDiff: noise is drawn on the CPU, so {seed_gen} gives other clips than before.")
    return NoiseSettings(
        noise_type, ClipSeeds(seed_gen.startswith("auto1111"), seed_offset, batch_offset, seed_override)
    )
