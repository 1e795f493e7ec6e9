"""Trains the miniature's motion module on clips of the base model's own look, and a motion LoRA for it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ..motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from ..motion_models.saving import motion_lora_file
from ..motion_models.unet import motion_hooks, unet_slots
from ..training.data import Item, Prompt
from ..training.diffusion import alphas_cumprod
from ..training.frozen_unet import CleanClips, FrozenUNet
from ..training.loop import FitOptions, Losses, Training
from ..training.lora import layers_of, lora
from ..training.motion import MotionLoss, MotionOptions, weights
from ..training.processes import OneProcess
from . import autoencoder, shapes
from .text_to_image import UNET, TextEncoder, prompts

FRAMES = 16
CLIPS = 4
LORA_RANK = 2
LEFT = math.pi


@dataclass(frozen=True)
class DrawnClips:
    """Clips of the base model's look, drawn on demand."""

    text_encoder: TextEncoder
    seed: int
    direction: float | None = None

    def stream(self, first: int, process: int = 0, processes: int = 1) -> Iterator[Item]:
        projection = autoencoder.projection()
        for number in count(first + process, processes):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            scene = shapes.random_clip(1, FRAMES, generator, self.direction)
            latents = autoencoder.encode(shapes.draw(scene, "paper"), *projection)
            still = shapes.Scene(*(value[:1] for value in vars(scene).values()))
            with torch.no_grad():
                context = self.text_encoder(prompts(still, generator))[0]
            yield Item(number, latents, Prompt(context, None))

    def identities(self) -> dict[str, str]:
        return {}  # there are no files


def build() -> MotionModel:
    """Return a motion model in v3's layout: none in the middle block, 32 positions."""
    channels = tuple(UNET["model_channels"] * m for m in UNET["channel_mult"])
    return MotionModel(MotionModelConfig.for_unet(channels, mid=False))


def losses(unet: UNetModel, model: MotionModel, clips: DrawnClips, options: MotionOptions) -> Losses:
    unet.requires_grad_(False)

    slots = unet_slots(unet)

    def moving(frames: int, _clips: CleanClips | None):
        return motion_hooks(slots, model, frames)

    loss = MotionLoss(FrozenUNet(unet, moving), alphas=alphas_cumprod("motion"), options=options)
    return loss.steps(clips, OneProcess())


def train(unet: UNetModel, text_encoder: TextEncoder, run_dir: Path, steps: int) -> MotionModel:
    torch.manual_seed(2)
    model = build()
    zero_output(model)
    options = MotionOptions(batch=CLIPS, seed=2, loss="velocity", least=0.05)
    learned = losses(unet, model, DrawnClips(text_encoder, seed=2), options)
    Training(run_dir / "motion.pt", weights(model), FitOptions(steps, learning_rate=1e-3)).run(learned)
    return model


def train_lora(
    unet: UNetModel, text_encoder: TextEncoder, model: MotionModel, run_dir: Path, steps: int
) -> dict[str, Tensor]:
    """Train a LoRA with which everything moves to the left, as when a camera pans to the right.

    Returns its state dict in AnimateDiff's own layout (arXiv 2307.04725, section 4.3).
    """
    model.requires_grad_(False)
    options = MotionOptions(batch=CLIPS, seed=3, loss="velocity", first_timestep=600)
    learned = losses(unet, model, DrawnClips(text_encoder, seed=3, direction=LEFT), options)
    generator = torch.Generator().manual_seed(3)
    with lora(model, layers_of(model, "attention"), LORA_RANK, generator=generator) as parameters:
        Training(run_dir / "pan.pt", parameters, FitOptions(steps, learning_rate=1e-2)).run(learned)
    return motion_lora_file(parameters, "AnimateDiff")
