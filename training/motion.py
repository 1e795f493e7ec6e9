"""Training a motion model on clips while the image model stays frozen (arXiv 2307.04725, section 4.2)."""

from collections.abc import Callable
from pathlib import Path

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from motion_models.motion_model import MotionModel
from motion_models.unet import motion_in_unet
from training.diffusion import TIMESTEPS, add_noise, alphas_cumprod, structure_weight
from training.loop import fit

# Clips and their text features: a generator -> latents (b, f, c, h, w) and context (b, tokens, features).
Clips = Callable[[torch.Generator], tuple[Tensor, Tensor]]


def train(
    unet: UNetModel, model: MotionModel, clips: Clips, run_dir: Path, *, steps: int, learning_rate: float, seed: int = 0
) -> None:
    """Trains `model` in place: one timestep for all frames of a clip, each frame with noise of its own."""
    unet.requires_grad_(False)
    alphas = alphas_cumprod("motion")

    def loss(generator: torch.Generator) -> Tensor:
        latents, context = clips(generator)
        b, f = latents.shape[:2]
        time = torch.randint(TIMESTEPS, (b,), generator=generator)
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
        return (structure_weight(alphas[time]) * error).mean()

    positions = {name for name, _ in model.named_parameters() if name.endswith("pos_encoder.pe")}
    trained = {name: p for name, p in model.named_parameters() if name not in positions}
    fit("motion", trained, loss, run_dir, steps=steps, learning_rate=learning_rate, seed=seed)
