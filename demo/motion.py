"""The miniature's motion module: trained once, on clips of the base model's own look."""

from pathlib import Path

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from training import motion

from . import autoencoder, shapes
from .text_to_image import UNET, TextEncoder, prompts

FRAMES = 16
CLIPS = 4


def build() -> MotionModel:
    """v3's layout: no motion module in the middle block, 32 positions."""
    channels = tuple(UNET["model_channels"] * m for m in UNET["channel_mult"])
    return MotionModel(MotionModelConfig.for_unet(channels, mid=False))


def train(unet: UNetModel, text_encoder: TextEncoder, run_dir: Path, steps: int) -> dict[str, Tensor]:
    """Returns the module's state dict in the original layout."""
    torch.manual_seed(2)
    model = build()
    zero_output(model)
    projection = autoencoder.projection()

    def clips(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        scene = shapes.random_clip(CLIPS, FRAMES, generator)
        latents = autoencoder.encode(shapes.draw(scene, "paper"), *projection)
        first = shapes.Scene(*(value[::FRAMES] for value in vars(scene).values()))
        with torch.no_grad():
            context = text_encoder(prompts(first, generator))
        return latents.unflatten(0, (CLIPS, FRAMES)), context

    motion.train(unet, model, clips, run_dir, steps=steps, learning_rate=1e-3, seed=2)
    return model.state_dict()
