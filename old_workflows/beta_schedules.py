"""Touches comfy. Noise schedules by the names that old workflows hold."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from ..motion_models.schedules import KEEP, set_beta_schedule
from .enumerations import AUTOMATIC, BETA_SCHEDULES, CORE_SCHEDULES

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..motion_models.formats import Family


def set_old_beta_schedule(model: ModelPatcher, name: str, family: Family | None) -> None:
    """Give `model`, a clone, a noise schedule of `BETA_SCHEDULES`.

    Autoselect is that of the family, or without one the model's own. Models without discrete betas (flow) keep theirs.
    """
    from comfy.model_sampling import ModelSamplingDiscrete

    if BETA_SCHEDULES[name] == ((AUTOMATIC,),):
        set_beta_schedule(model, family.beta_schedule if family else KEEP)
    elif isinstance(model.get_model_object("model_sampling"), ModelSamplingDiscrete):
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
