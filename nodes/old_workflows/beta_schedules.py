"""Noise schedules by the names that old workflows hold."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from ...motion_models.schedules import KEEP, set_beta_schedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ...motion_models.formats import Family

AUTOSELECT = "autoselect"

# The mean of one or more noise schedules. Each is one of ours, or the second set on top of the first: the betas of the
# second, at the timesteps of the first.
MEANS: dict[str, tuple[tuple[str, ...], ...]] = {
    "use existing": ((KEEP,),),
    "sqrt_linear (AnimateDiff)": (("AnimateDiff SD1.5",),),
    "linear (AnimateDiff-SDXL)": (("AnimateDiff SDXL",),),
    "linear (HotshotXL/default)": (("Stable Diffusion",),),
    "linear (default)": (("Stable Diffusion",),),
    "avg(sqrt_linear,linear)": (("AnimateDiff SD1.5",), ("Stable Diffusion",)),
    "lcm avg(sqrt_linear,linear)": (("LCM", "AnimateDiff SD1.5"), ("LCM",)),
    "lcm": (("LCM",),),
    "lcm[100_ots]": (("LCM (100 timesteps)", "Stable Diffusion"),),
    "lcm >> sqrt_linear": (("LCM", "AnimateDiff SD1.5"),),
}
# The same, in ComfyUI's spelling. Its own "squaredcos_cap_v2" is "cosine", but does not come out as a tensor.
CORE = {"sqrt": "sqrt", "cosine": "cosine", "squaredcos_cap_v2": "cosine"}
OLD_BETA_SCHEDULES = (AUTOSELECT, *MEANS, *CORE)


def with_beta_schedule(model: ModelPatcher, name: str, family: Family | None) -> ModelPatcher:
    """A clone of `model` with a noise schedule of `OLD_BETA_SCHEDULES`; autoselect is that of the family, or without
    one the model's own. Models without discrete betas (flow) keep theirs."""
    from comfy.model_sampling import ModelSamplingDiscrete

    model = model.clone()
    if name == AUTOSELECT:
        set_beta_schedule(model, family.beta_schedule if family else KEEP)
    elif isinstance(model.get_model_object("model_sampling"), ModelSamplingDiscrete):
        model.add_object_patch("model_sampling", core_sampling(model, name) if name in CORE else mean(model, name))
    return model


def core_sampling(model: ModelPatcher, name: str) -> Any:
    sampling: Any = copy.deepcopy(model.get_model_object("model_sampling"))
    sampling._register_schedule(
        beta_schedule=CORE[name], linear_start=0.00085, linear_end=0.012, timesteps=1000, zsnr=sampling.zsnr
    )
    return sampling


def mean(model: ModelPatcher, name: str) -> Any:
    samplings = [sampling_of(model, schedules) for schedules in MEANS[name]]
    if len(samplings) == 1:
        return samplings[0]
    sampling = copy.deepcopy(samplings[0])
    sampling.set_sigmas(torch.stack([each.sigmas for each in samplings]).mean(0))
    return sampling


def sampling_of(model: ModelPatcher, schedules: tuple[str, ...]) -> Any:
    model = model.clone()
    for schedule in schedules:
        set_beta_schedule(model, schedule)
    return model.get_model_object("model_sampling")
