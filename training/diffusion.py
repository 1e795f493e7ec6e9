"""The noise-prediction loss that image and motion models are trained with (DDPM, arXiv 2006.11239, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

TIMESTEPS = 1000


def alphas_cumprod(schedule: str, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """Return (1000,) products of 1 - beta.

    The betas of "image" have evenly spaced square roots, as Stable Diffusion's; those of "motion" are evenly spaced, as
    AnimateDiff's.
    """
    if schedule == "image":
        betas = torch.linspace(start**0.5, end**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    elif schedule == "motion":
        betas = torch.linspace(start, end, TIMESTEPS, dtype=torch.float64)
    else:
        raise ValueError(f"There is no noise schedule named {schedule!r}; use 'image' or 'motion'.")
    return torch.cumprod(1 - betas, 0).float()


def add_noise(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Return sqrt(alpha) x + sqrt(1 - alpha) noise, with one cumulative alpha (n,) per latent (n, ...)."""
    alpha = alpha.view(-1, *[1] * (latents.ndim - 1))
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def without_signal(noise: Tensor, latents: Tensor, last_alpha: Tensor, share: Tensor) -> Tensor:
    """Return noise that lacks a share (n,) of the latents (n, ...) that `add_noise` would show at the last timestep.

    With all of it, the noisiest latents are noise alone, as at the start of sampling, and those of other timesteps are
    what a sampler that adds no noise passes through from there.
    """
    share = share.view(-1, *[1] * (latents.ndim - 1))
    return noise - share * (last_alpha / (1 - last_alpha)).sqrt() * latents


def velocity(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Return the target of v-prediction, sqrt(alpha) noise - sqrt(1 - alpha) x (arXiv 2202.00512, section 4)."""
    alpha = alpha.view(-1, *[1] * (latents.ndim - 1))
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents


def structure_weight(alpha: Tensor, least: float = 0.05) -> Tensor:
    """Return weights (n,) of the squared errors of predicted noise, from 1 to 1 / least, that are larger at high noise.

    What the frames of a clip have in common (the place of a shape, the look) is decided at high noise, where a wrong
    picture is only a small error of the predicted noise. This is the weight of a loss on the velocity (arXiv
    2202.00512, section 4), bounded.
    """
    signal_to_noise = alpha / (1 - alpha)
    return (1 + signal_to_noise) / (least + signal_to_noise)
