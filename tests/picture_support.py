"""Modules that see pictures, keyframes and a VAE, as small as the models of comfy_support."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.taesd.taesd
import safetensors.torch
import torch
from comfy_support import CHANNELS, motion_state_dict, randomise
from torch import Tensor

from animatediff_native.motion_models.loader import LoadedMotionModel, load_motion_model
from animatediff_native.motion_models.motion_model import MotionModelConfig
from animatediff_native.motion_models.picture_inputs import LCM_ENCODER, PIA_CONV
from animatediff_native.sampling.keyframes import Keyframes, parse_positions

SCALE_FACTOR = 0.18215  # of SD1.5's latents
PICTURE_INPUT = {"PIA": PIA_CONV, "AnimateLCM-I2V": LCM_ENCODER}


def picture_weights(family: str, channels: tuple[int, ...] = CHANNELS, seed: int = 1) -> dict[str, Tensor]:
    """Random weights of a family under its published keys. None of them is zero, so that all of them count."""
    lcm = family == "AnimateLCM-I2V"
    config = MotionModelConfig.for_unet(
        channels, mid=lcm, pe_length=64 if lcm else 32, picture_input=PICTURE_INPUT[family]
    )
    weights = motion_state_dict(seed=seed, config=config)
    return {key: tensor for key, tensor in weights.items() if not (lcm and key.endswith(".pe"))}


def load_picture_motion(folder: Path, family: str, **options: Any) -> LoadedMotionModel:
    """Write a file and load it, as a user does."""
    path = folder / f"{family}.safetensors"
    safetensors.torch.save_file(picture_weights(family, **options), path)
    return load_motion_model(str(path))


@functools.cache
def vae() -> Any:
    """A VAE of ComfyUI's with random weights."""
    network = comfy.taesd.taesd.TAESD()
    randomise(network, seed=7)
    return comfy.sd.VAE(sd=network.state_dict())


def keyframes(frames: str = "0", count: int = 1, size: int = 64) -> Keyframes:
    pictures = torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(8))
    return Keyframes(pictures, parse_positions(frames), vae())


def latents_of(of: Keyframes, size: int = 8) -> Tensor:
    """The latents of keyframes in the model's own scale."""
    return of.latents(size, size) * SCALE_FACTOR
