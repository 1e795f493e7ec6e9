"""Trains the personalised variant of the miniature: a LoRA that learns another look from stills alone."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..training.diffusion import alphas_cumprod, structure_weight
from ..training.loop import FitOptions, Training, seeded
from ..training.lora import lora
from . import autoencoder
from .text_to_image import TextEncoder, picture_loss

RANK = 12
LOOK = "neon"


def train(unet: nn.Module, text_encoder: TextEncoder, run_dir: Path, steps: int) -> dict[str, Tensor]:
    """Train the LoRA and return its state dict with the key names that ComfyUI's Load LoRA reads."""
    torch.manual_seed(1)
    unet.requires_grad_(False)
    layers = [name for name, layer in unet.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    projection = autoencoder.projection()
    alphas = torch.stack([alphas_cumprod("image"), alphas_cumprod("motion")])

    def loss(generator: torch.Generator) -> Tensor:
        return picture_loss(unet, text_encoder, projection, alphas, LOOK, generator, structure_weight)

    with lora(unet, layers, RANK) as parameters:
        training = Training(run_dir / "personalise.pt", parameters, FitOptions(steps, learning_rate=2e-3))
        training.run(seeded(loss, seed=1))
    return {f"diffusion_model.{key}": value.detach() for key, value in parameters.items()}
