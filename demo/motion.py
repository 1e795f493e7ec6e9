"""The miniature's motion module, trained once on clips of the base model's own look, and a motion LoRA for it."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from training import motion
from training.diffusion import structure_weight
from training.lora import lora

from . import autoencoder, shapes
from .text_to_image import UNET, TextEncoder, prompts

FRAMES = 16
CLIPS = 4
LORA_RANK = 2
LEFT = math.pi


def build() -> MotionModel:
    """v3's layout: no motion module in the middle block, 32 positions."""
    channels = tuple(UNET["model_channels"] * m for m in UNET["channel_mult"])
    return MotionModel(MotionModelConfig.for_unet(channels, mid=False))


def train(unet: UNetModel, text_encoder: TextEncoder, run_dir: Path, steps: int) -> MotionModel:
    torch.manual_seed(2)
    model = build()
    zero_output(model)
    clips = drawn_clips(text_encoder)
    motion.train("motion", unet, model, motion.weights(model), clips, run_dir, steps=steps, learning_rate=1e-3, seed=2)
    return model


def train_lora(
    unet: UNetModel, text_encoder: TextEncoder, model: MotionModel, run_dir: Path, steps: int
) -> dict[str, Tensor]:
    """Everything goes to the left, as when a camera pans to the right (arXiv 2307.04725, section 4.3). Returns the
    LoRA's state dict in the spelling of AnimateDiff's own."""
    torch.manual_seed(3)
    model.requires_grad_(False)
    layers = [name for name, _ in model.named_modules() if re.search(r"\.to_(q|k|v|out\.0)$", name)]
    clips = drawn_clips(text_encoder, LEFT)
    with lora(model, layers, LORA_RANK) as parameters:
        motion.train(
            "pan",
            unet,
            model,
            parameters,
            clips,
            run_dir,
            steps=steps,
            learning_rate=1e-2,
            seed=3,
            first_timestep=600,
            weight=lambda alpha: structure_weight(alpha, least=0.001),
        )
    return {official(key): value for key, value in parameters.items()}


def official(key: str) -> str:
    """`x.to_out.0.lora_up.weight` -> `x.processor.to_out_lora.up.weight`"""
    return re.sub(r"\.(to_\w+?)(?:\.0)?\.lora_(up|down)\.", r".processor.\1_lora.\2.", key)


def drawn_clips(
    text_encoder: TextEncoder, direction: float | None = None
) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    """Clips of the base model's look, as `training.motion` takes them."""
    projection = autoencoder.projection()

    def clips(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        scene = shapes.random_clip(CLIPS, FRAMES, generator, direction)
        latents = autoencoder.encode(shapes.draw(scene, "paper"), *projection)
        first = shapes.Scene(*(value[::FRAMES] for value in vars(scene).values()))
        with torch.no_grad():
            context = text_encoder(prompts(first, generator))
        return latents.unflatten(0, (CLIPS, FRAMES)), context

    return clips
