"""Training a motion model or LoRA on clips while the image model stays frozen (arXiv 2307.04725, section 4)."""

from collections.abc import Callable
from pathlib import Path

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor
from torch.nn import Parameter

from motion_models.motion_model import MotionModel
from motion_models.unet import motion_in_unet
from training.diffusion import TIMESTEPS, add_noise, alphas_cumprod, structure_weight
from training.loop import fit

# Clips and their text features: a generator -> latents (b, f, c, h, w) and context (b, tokens, features).
Clips = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def weights(model: MotionModel) -> dict[str, Parameter]:
    """What of a motion model is trained: all but its positions."""
    return {name: p for name, p in model.named_parameters() if not name.endswith("pos_encoder.pe")}


def train(
    name: str,
    unet: UNetModel,
    model: MotionModel,
    parameters: dict[str, Parameter],
    clips: Clips,
    run_dir: Path,
    *,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    first_timestep: int = 0,
    weight: Callable[[Tensor], Tensor] = structure_weight,
) -> None:
    """Trains `parameters` of `model` in place: one timestep for all frames of a clip, each frame with its own noise.

    `weight` maps a clip's alpha to the weight of its error. Where things go is settled at the highest noise: a motion
    LoRA learns it more quickly from a later `first_timestep` on."""
    unet.requires_grad_(False)
    alphas = alphas_cumprod("motion")

    def loss(generator: torch.Generator) -> Tensor:
        latents, context = clips(generator)
        b, f = latents.shape[:2]
        time = torch.randint(first_timestep, TIMESTEPS, (b,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = add_noise(latents, noise, alphas[time])
        with motion_in_unet(unet, model, f):
            predicted = unet(
                noisy.flatten(0, 1),
                time.float().repeat_interleave(f),
                context.repeat_interleave(f, 0),
                transformer_options={},
            )
        error = (predicted.unflatten(0, (b, f)) - noise).square().mean((1, 2, 3, 4))
        return (weight(alphas[time]) * error).mean()

    fit(name, parameters, loss, run_dir, steps=steps, learning_rate=learning_rate, seed=seed)
