"""Touches comfy. Give a MODEL the noise schedule that its motion model was trained with."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .loader import LoadedMotionModel

AUTOMATIC = "automatic"
KEEP = "keep the model's own"


class BetaSchedule(NamedTuple):
    """The arguments of `ModelSamplingDiscrete`, by ComfyUI's names.

    They are the reverse of the papers': ComfyUI's "sqrt_linear" is a linspace of the betas, which AnimateDiff and
    diffusers call "linear"; ComfyUI's "linear" is a linspace of their square roots, diffusers' "scaled_linear".
    """

    beta_schedule: str
    linear_start: float
    linear_end: float
    lcm_timesteps: int = 0
    """Latent consistency models sample at this many of the 1000 timesteps (arXiv 2310.04378, section 4.3)."""


BETA_SCHEDULES = {
    "AnimateDiff SD1.5": BetaSchedule("sqrt_linear", 0.00085, 0.012),
    "AnimateDiff SDXL": BetaSchedule("linear", 0.00085, 0.020),
    "Stable Diffusion": BetaSchedule("linear", 0.00085, 0.012),
    # AnimateLCM as ComfyUI's users know it, and as its authors' configuration has it.
    "LCM": BetaSchedule("linear", 0.00085, 0.012, lcm_timesteps=50),
    "LCM (100 timesteps)": BetaSchedule("sqrt_linear", 0.00085, 0.012, lcm_timesteps=100),
    "AnimateLCM-I2V": BetaSchedule("sqrt_linear", 0.00085, 0.014, lcm_timesteps=200),
}


def set_beta_schedule(model: ModelPatcher, name: str) -> Any:
    """Register the named schedule on a copy of the model's own sampling, which keeps its prediction type (eps,
    v-prediction) and zero terminal SNR. Return that copy.

    Models without discrete betas (flow, continuous) are left unchanged, and nothing is returned.
    """
    from comfy.model_sampling import ModelSamplingDiscrete

    sampling: Any = model.get_model_object("model_sampling")
    if name == KEEP or not isinstance(sampling, ModelSamplingDiscrete):
        return None
    schedule = BETA_SCHEDULES[name]
    if schedule.lcm_timesteps:
        sampling = lcm_sampling(model, schedule.lcm_timesteps)
    else:
        sampling = copy.deepcopy(sampling)
    timesteps = len(sampling.sigmas)
    sampling._register_schedule(
        beta_schedule=schedule.beta_schedule,
        linear_start=schedule.linear_start,
        linear_end=schedule.linear_end,
        timesteps=1000,
        zsnr=sampling.zsnr,
    )
    if timesteps < len(sampling.sigmas):  # a distilled model (LCM) knows only every 20th timestep
        step = len(sampling.sigmas) // timesteps
        sampling.set_sigmas(sampling.sigmas[step - 1 :: step])
    model.add_object_patch("model_sampling", sampling)
    return sampling


def set_trained_schedule(model: ModelPatcher, motion: LoadedMotionModel, chosen: str) -> Any:
    """Give `model` the chosen noise schedule, `AUTOMATIC` being the motion model's, and return what
    `set_beta_schedule` does. ValueError if a schedule was chosen by name for a model that can have none."""
    name = motion.family.beta_schedule if chosen == AUTOMATIC else chosen
    sampling = set_beta_schedule(model, name)
    if sampling is None and name != KEEP:
        message = f"{kind_of_sampling(model)} gives the model noise levels without a beta schedule"
        if chosen != AUTOMATIC:
            raise ValueError(f'{message}: set beta_schedule to "{KEEP}" instead of "{name}", or remove that node.')
        logging.warning(f'AnimateDiff: {message}, so {motion.name} goes without the "{name}" that it was trained with.')
    return sampling


def report_other_schedule(model: ModelPatcher, own: Any, motion: str) -> None:
    """Log it if a later node has undone the noise schedule `own` that a motion model has set."""
    last: Any = model.get_model_object("model_sampling")
    if own is None or last is own:
        return
    before, after = (sampling.sigmas.cpu() for sampling in (own, last))
    if before.shape != after.shape or not torch.allclose(before, after):
        logging.warning(
            f"AnimateDiff: a later node ({kind_of_sampling(model)}) replaces the noise schedule that {motion} was "
            "given: place it before Apply AnimateDiff."
        )


def kind_of_sampling(model: ModelPatcher) -> str:
    """Return the class of a model's noise levels, named as the node that sets it: "ModelSamplingContinuousEDM"."""
    return type(model.get_model_object("model_sampling")).__mro__[1].__name__


def lcm_sampling(model: ModelPatcher, timesteps: int) -> Any:
    """Return ComfyUI's sampling for latent consistency models, as its ModelSamplingDiscrete node sets it."""
    from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscreteDistilled

    class Sampling(ModelSamplingDiscreteDistilled, LCM):
        original_timesteps = timesteps

    return Sampling(model.model.model_config)
