"""Touches comfy. What the nodes of new graphs do not do: old noise schedules, seeds, closed loops of short clips, and
pictures that come as latents."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from comfy.utils import common_upscale

from ..motion_models.schedules import set_beta_schedule
from ..sampling.clips import prepare_clips
from ..sampling.context_windows import ContextOptions, SlidingContext, WeightedWindows
from ..sampling.keyframes import Keyframes
from ..sampling.noise import KEY, draw, per_frame_seeds
from .enumerations import AUTOMATIC, BETA_SCHEDULES, CORE_SCHEDULES
from .expansion import Settings

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
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
class LatentKeyframes(Keyframes):
    """Pictures that came as latents, (n, c, h, w), in place of `images`."""

    def latents(self, height: int, width: int) -> Tensor:
        """Return them in this latent size; a whole clip of them has one for each frame."""
        return common_upscale(self.images, width, height, "nearest-exact", "center")


@dataclass(frozen=True)
class OldContextOptions(ContextOptions):
    """Windows that leave a clip whole if it fits into one, even as a closed loop. With `on_equal_length`, a clip that
    just fits becomes a closed loop."""

    on_equal_length: bool = False

    def windows(self, frames: int, step: int, steps: int) -> WeightedWindows:
        whole = frames < self.length or (frames == self.length and not self.on_equal_length)
        return ContextOptions.windows(replace(self, schedule="static") if whole else self, frames, step, steps)


class WholeClips(NamedTuple):
    """Says which of a model's windows leave a clip whole if it fits into one."""

    on_equal_length: dict[float, bool]
    """Whether a clip that just fits becomes a closed loop, by where in the sampling the windows start."""


def closed_loops(contexts: Settings | None) -> WholeClips | None:
    """Return what to ask for the closed loops in a chain of context options; None if it has none."""
    loops = {}
    while contexts is not None:
        inputs = contexts.inputs
        if inputs.get("closed_loop"):
            loops.setdefault(inputs.get("start_percent", 0.0), inputs.get("use_on_equal_length", False))
        contexts = inputs.get("prev_context")
    return WholeClips(loops) if loops else None


def whole_clips(model: ModelPatcher, loops: WholeClips) -> ModelPatcher:
    """Return a clone of a model whose closed loops leave a clip whole if it fits into one window."""
    model = model.clone()
    model_options: dict[str, Any] = model.model_options
    options = [
        OldContextOptions(**vars(each), on_equal_length=loops.on_equal_length[each.start_percent])
        if each.start_percent in loops.on_equal_length
        else each
        for each in model_options["context_handler"].options
    ]
    model_options["context_handler"] = SlidingContext(*options)
    return model


def set_schedule_and_seeds(model: ModelPatcher, name: str, sample_settings: Settings | None) -> ModelPatcher:
    """Return a clone of a model with a noise schedule of `BETA_SCHEDULES` and the seeds of old sample settings."""
    model = model.clone()
    set_old_beta_schedule(model, name)
    if sample_settings is not None:
        inputs = sample_settings.inputs
        per_frame = inputs["seed_gen"].startswith("auto1111")
        seeds = ClipSeeds(per_frame, inputs["seed_offset"], inputs["batch_offset"], inputs.get("seed_override"))
        model_options: dict[str, Any] = model.model_options
        model_options[KEY] = (*model_options.get(KEY, ()), seeds)
    return prepare_clips(model)


def set_old_beta_schedule(model: ModelPatcher, name: str) -> None:
    """Give a clone of a model a noise schedule. Models without discrete betas (flow) keep theirs."""
    from comfy.model_sampling import ModelSamplingDiscrete

    discrete = isinstance(model.get_model_object("model_sampling"), ModelSamplingDiscrete)
    if discrete and BETA_SCHEDULES[name] != ((AUTOMATIC,),):
        sampling = core_sampling(model, CORE_SCHEDULES[name]) if name in CORE_SCHEDULES else mean_sampling(model, name)
        model.add_object_patch("model_sampling", sampling)


def core_sampling(model: ModelPatcher, name: str) -> Any:
    sampling: Any = copy.deepcopy(model.get_model_object("model_sampling"))
    sampling._register_schedule(
        beta_schedule=name, linear_start=0.00085, linear_end=0.012, timesteps=1000, zsnr=sampling.zsnr
    )
    return sampling


def mean_sampling(model: ModelPatcher, name: str) -> Any:
    samplings = [sampling_of(model, schedules) for schedules in BETA_SCHEDULES[name]]
    if len(samplings) == 1:
        return samplings[0]
    mean = copy.deepcopy(samplings[0])
    mean.set_sigmas(torch.stack([sampling.sigmas for sampling in samplings]).mean(0))
    return mean


def sampling_of(model: ModelPatcher, schedules: tuple[str, ...]) -> Any:
    model = model.clone()
    for schedule in schedules:
        set_beta_schedule(model, schedule)
    return model.get_model_object("model_sampling")
