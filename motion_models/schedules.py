"""Touches comfy. The betas that a motion model was trained with, given to the MODEL that it animates."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

AUTOMATIC = "automatic"
KEEP = "keep the model's own"


class BetaSchedule(NamedTuple):
    """Arguments of `ModelSamplingDiscrete`, with ComfyUI's names.

    They are the reverse of the papers': ComfyUI's "sqrt_linear" is a linspace of the betas, which AnimateDiff and
    diffusers call "linear"; ComfyUI's "linear" is a linspace of their square roots, diffusers' "scaled_linear".
    """

    beta_schedule: str
    linear_start: float
    linear_end: float


BETA_SCHEDULES = {
    "AnimateDiff SD1.5": BetaSchedule("sqrt_linear", 0.00085, 0.012),
    "AnimateDiff SDXL": BetaSchedule("linear", 0.00085, 0.020),
    "Stable Diffusion": BetaSchedule("linear", 0.00085, 0.012),
}


def set_beta_schedule(model: ModelPatcher, name: str) -> None:
    """Register the named schedule on a copy of the model's own sampling, so that its prediction type (eps,
    v-prediction) and zero terminal SNR survive. Models without discrete betas (flow) are left as they are."""
    from comfy.model_sampling import ModelSamplingDiscrete

    sampling = model.get_model_object("model_sampling")
    if name == KEEP or not isinstance(sampling, ModelSamplingDiscrete):
        return
    sampling = copy.deepcopy(sampling)
    kept = len(sampling.sigmas)
    sampling._register_schedule(**BETA_SCHEDULES[name]._asdict(), timesteps=1000, zsnr=sampling.zsnr)
    if kept < len(sampling.sigmas):  # a distilled model (LCM) knows every 20th timestep only
        every = len(sampling.sigmas) // kept
        sampling.set_sigmas(sampling.sigmas[every - 1 :: every])
    model.add_object_patch("model_sampling", sampling)
