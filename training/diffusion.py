"""The noise-prediction loss that image and motion models are trained with (DDPM, arXiv 2006.11239, section 3.4)."""

import torch
from torch import Tensor

TIMESTEPS = 1000


def alphas_cumprod(schedule: str) -> Tensor:
    """(1000,) products of 1 - beta; "image": Stable Diffusion's betas, "motion": AnimateDiff's, linear in beta."""
    if schedule == "image":
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    elif schedule == "motion":
        betas = torch.linspace(0.00085, 0.012, TIMESTEPS, dtype=torch.float64)
    else:
        raise ValueError(f"There is no noise schedule named {schedule!r}; use 'image' or 'motion'.")
    return torch.cumprod(1 - betas, 0).float()


def add_noise(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """sqrt(alpha) x + sqrt(1 - alpha) noise, with one cumulative alpha (n,) per latent (n, ...)."""
    alpha = alpha.view(-1, *[1] * (latents.ndim - 1))
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def structure_weight(alpha: Tensor, least: float = 0.05) -> Tensor:
    """Weights (n,) for the squared errors of predicted noise that make the loss care about high noise, 1 to 1 / least.

    What a clip's frames have in common (where the shape is, which look it has) is settled at high noise, where a
    wrong picture is only a small error of the predicted noise. This is the weight of a loss on the velocity (arXiv
    2202.00512, section 4), bounded.
    """
    signal_to_noise = alpha / (1 - alpha)
    return (1 + signal_to_noise) / (least + signal_to_noise)
