"""Sample Settings of old workflows: the noise that a clip begins with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ...sampling.noise import Arrangement, ClipNoise, draw, per_frame_seeds
from . import sockets

if TYPE_CHECKING:
    from torch import Tensor

NOISE_TYPES = ("default", "constant", "empty", "repeated_context", "FreeNoise")
SEED_GENERATORS = ("comfy", "auto1111", "comfy [gpu]", "auto1111 [gpu]")
FAR = 2**53 - 1


@dataclass(frozen=True)
class ClipSeeds:
    """Draws noise, (f, c, h, w), with other seeds than the sampler's."""

    per_frame: bool = False
    offset: int = 0
    skipped: int = 0
    """Frames whose noise is drawn and left out."""
    instead: int | None = None
    """A seed that is used instead of the sampler's."""

    def __call__(self, noise: Tensor, seed: int) -> Tensor:
        seed = (seed if self.instead is None else self.instead) + self.offset
        if self.per_frame:
            return per_frame_seeds(noise, seed + self.skipped)
        return draw((self.skipped + len(noise), *noise.shape[1:]), seed)[self.skipped :].to(noise)


@dataclass(frozen=True)
class NoiseSettings:
    """What Sample Settings sets."""

    noise_type: str = "default"
    seeds: ClipSeeds = ClipSeeds()

    def arrangements(self, context_length: int | None) -> tuple[Arrangement, ...]:
        """For windows of that many frames, or none. FreeNoise is not among them: the windows bring it."""
        drawn = (self.seeds,) if self.seeds != ClipSeeds() else ()
        if self.noise_type == "constant":
            return (*drawn, ClipNoise("constant"))
        if self.noise_type == "repeated_context" and context_length is not None:
            return (*drawn, ClipNoise("repeated", period=context_length))
        if self.noise_type == "repeated_context":
            logging.warning("AnimateDiff: repeated_context changes nothing without context options.")
        return drawn


NOT_SET = NoiseSettings()


class OldSampleSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        description = "From an old workflow. In new graphs Sliding Context (FreeNoise) and Clip Noise do this."
        inputs: list[io.Input] = [
            io.Int.Input(
                "batch_offset", default=0, min=0, max=FAR, tooltip="Frames whose noise is left out at the beginning."
            ),
            io.Combo.Input(
                "noise_type",
                options=list(NOISE_TYPES),
                default="default",
                tooltip="What the frames' noise has in common.",
            ),
            io.Combo.Input(
                "seed_gen",
                options=list(SEED_GENERATORS),
                default="comfy",
                tooltip="One seed for the clip (comfy), or one for each frame (auto1111); always drawn on the CPU.",
            ),
            io.Int.Input("seed_offset", default=0, min=-FAR, max=FAR, tooltip="Added to the seed."),
            io.Int.Input(
                "seed_override", optional=True, force_input=True, min=0, max=2**64 - 1, tooltip="Instead of the seed."
            ),
            *sockets.not_carried_over(
                "noise_layers", "iteration_opts", "custom_cfg", "sigma_schedule", "image_inject", "ancestral_opts"
            ),
        ]
        output = sockets.SampleSettings.Output(display_name="settings", tooltip="For Use Evolved Sampling or a loader.")
        return sockets.old_node("AnimateDiffSamplingSettings", "Sample Settings", description, inputs, output)

    @classmethod
    def execute(
        cls,
        batch_offset: int,
        noise_type: str,
        seed_gen: str,
        seed_offset: int,
        seed_override: int | None = None,
        **others,
    ) -> io.NodeOutput:
        sockets.refuse(others)
        if noise_type == "empty":
            raise ValueError("The noise type 'empty' is not carried over from old workflows: choose another.")
        if isinstance(seed_override, (list, tuple)):
            raise ValueError("A list of seeds is not carried over from old workflows: give seed_override one number.")
        if seed_gen.endswith("[gpu]"):
            logging.warning(f"AnimateDiff: noise is drawn on the CPU, so clips of {seed_gen} come out differently.")
        seeds = ClipSeeds(seed_gen.startswith("auto1111"), seed_offset, batch_offset, seed_override)
        return io.NodeOutput(NoiseSettings(noise_type, seeds))
