"""Touches comfy. Motion models with all that was done to them, as weights and as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import comfy.lora
import comfy.utils
import torch
from torch import Tensor

from .files import whole_file
from .loader import LoadedMotionModel
from .motion_model import MotionModel


def recipe(motion: LoadedMotionModel) -> str:
    """What a motion model was made of, for people."""
    loras = "".join(f" + {lora.strength:g} x {os.path.basename(lora.path)}" for lora in motion.loras)
    return f"({motion.name}{loras})" if loras else motion.name


def patched_weights(patcher: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The weights of a ModelPatcher below `prefix`, in their own type and with its LoRAs and merges on them."""
    for key, (first, *patches) in patcher.get_key_patches(prefix).items():
        weight, convert = first
        weight = convert(weight, inplace=False)
        if patches:
            copy = weight.to(torch.float32, copy=True)  # it is added to in place
            weight = comfy.lora.calculate_weight(patches, copy, key).to(weight.dtype)
        yield key.removeprefix(prefix), weight


def float32_copy(motion: LoadedMotionModel, device: torch.device) -> MotionModel:
    """A motion model of its own for training, with the LoRAs and merges in its weights."""
    weights = {key: w.to(device, torch.float32, copy=True) for key, w in patched_weights(motion.patcher)}
    model = MotionModel(motion.config, torch.float32, torch.device("meta"))
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)


def notes(motion: LoadedMotionModel) -> dict[str, str]:
    """What a file says of itself, for people and for Load Motion Module."""
    return {
        "family": motion.family.name,
        "base": motion.family.base,
        "trained_frames": str(motion.family.trained_frames),
        "sources": recipe(motion),
    }


def save(motion: LoadedMotionModel, path: str) -> None:
    """A .safetensors file in the original layout of AnimateDiff; see `write`."""
    write(dict(patched_weights(motion.patcher)), notes(motion), path)


def write(weights: Mapping[str, Tensor], metadata: Mapping[str, str], path: str) -> None:
    """A .safetensors file, complete or not at all. OSError if the disk does not take it."""
    contiguous = {key: weight.detach().cpu().contiguous() for key, weight in weights.items()}
    with whole_file(path) as unfinished:
        comfy.utils.save_torch_file(contiguous, str(unfinished), {"format": "pt", **metadata})
