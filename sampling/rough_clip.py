"""Touches comfy. Let a clip follow a rough one: the dual clock of Time-to-Move (arXiv 2511.08633).

ComfyUI's sampling with a noise mask puts the rough clip, with the noise of the step, where the mask is 0; a *denoise
mask function* says for each step where that is. So a mask that holds noise levels gives each place its own clock, as
core's Differential Diffusion does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def follow_noise_levels(model: ModelPatcher) -> ModelPatcher:
    """Return a clone of `model` that denoises each place from the level on that the latent's noise mask holds."""
    model = model.clone()
    model.set_model_denoise_mask_function(released)
    return model


def released(sigma: Tensor, denoise_mask: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """Return 1 where a step denoises, and 0 where its noise is still above the level in the mask.

    Differential Diffusion takes levels as parts of the sampler's own range, and this as parts of the model's, so that
    they mean the same whatever the sampler's denoise. Where the mask is 0, the rough clip stays.
    """
    sampling = extra_options["model"].inner_model.model_sampling
    level = sampling.timestep(sigma[0]) / sampling.timestep(sampling.sigma_max)
    return ((denoise_mask >= level) & (denoise_mask > 0.0)).to(denoise_mask.dtype)


def noise_levels(masks: Tensor, size: tuple[int, int], inside: float, outside: float) -> Tensor:
    """Return the noise levels of each place of latents of a size, (n, 1, *size), from masks (n, h, w).

    A place that is partly covered lies between both.
    """
    covered = F.adaptive_avg_pool2d(masks[:, None].float().clamp(0.0, 1.0), size)
    return outside + (inside - outside) * covered
