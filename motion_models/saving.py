"""Touches comfy. Save motion models, with their LoRAs and merges, and trained LoRAs as files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import comfy.lora
import comfy.utils
import torch
from torch import Tensor

from .files import whole_file
from .key_layouts import lora_key
from .loader import LoadedMotionModel
from .motion_model import MotionModel


def recipe(motion: LoadedMotionModel) -> str:
    """Return the files that a motion model was made of, for people."""
    loras = "".join(f" + {lora.strength:g} x {os.path.basename(lora.path)}" for lora in motion.loras)
    return f"({motion.name}{loras})" if loras else motion.name


def patched_weights(patcher: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a ModelPatcher below `prefix`, in their own type and with its LoRAs and merges in them."""
    for key, (first, *patches) in patcher.get_key_patches(prefix).items():
        weight, convert = first
        weight = convert(weight, inplace=False)
        if patches:
            copy = weight.to(torch.float32, copy=True)  # the patches are added to it in place
            weight = comfy.lora.calculate_weight(patches, copy, key).to(weight.dtype)
        yield key.removeprefix(prefix), weight


def float32_copy(motion: LoadedMotionModel, device: torch.device) -> MotionModel:
    """Return an independent copy for training, with the LoRAs and merges in its weights."""
    weights = {key: w.to(device, torch.float32, copy=True) for key, w in patched_weights(motion.patcher)}
    model = MotionModel(motion.config, torch.float32, torch.device("meta"))
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)


def notes(motion: LoadedMotionModel) -> dict[str, str]:
    """Return a saved file's metadata, for people and for Load Motion Module."""
    return {
        "family": motion.family.name,
        "base": motion.family.base,
        "trained_frames": str(motion.family.trained_frames),
        "sources": recipe(motion),
    }


def save(motion: LoadedMotionModel, path: str) -> None:
    """Write a motion model as a .safetensors file in AnimateDiff's original layout; see `write`."""
    write(dict(patched_weights(motion.patcher)), notes(motion), path)


def motion_lora_file(trained: Mapping[str, Tensor], layout: str, scale: float = 1.0) -> dict[str, Tensor]:
    """Return trained weights, `<path in the motion model>.lora_up.weight` and so on, under the keys of a layout.

    No layout has an alpha that all of its readers know, so the scale goes into the weights.
    """
    return {lora_key(key, layout): scaled(key, weight, scale) for key, weight in trained.items()}


def scaled(key: str, weight: Tensor, scale: float) -> Tensor:
    weight = weight.detach().to("cpu", torch.float32)
    return (weight * scale if ".lora_up." in key else weight.clone()).contiguous()


def domain_adapter_file(
    trained: Mapping[str, Tensor], to_diffusers: Mapping[str, str], scale: float = 1.0
) -> dict[str, Tensor]:
    """Return trained weights, `<path in ComfyUI's UNet>.lora_up.weight` and so on, under the keys of v3's own domain
    adapter. `to_diffusers` maps the path of a layer to diffusers' name of it,
    `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`."""
    paths = {key: key.partition(".lora_") for key in trained}
    renamed = {f"{to_diffusers[path]}{dot}{end}": trained[key] for key, (path, dot, end) in paths.items()}
    return motion_lora_file(renamed, "AnimateDiff", scale)


def write(weights: Mapping[str, Tensor], metadata: Mapping[str, str], path: str) -> None:
    """Write a .safetensors file, complete or not at all. OSError if the disk does not take it."""
    contiguous = {key: weight.detach().cpu().contiguous() for key, weight in weights.items()}
    with whole_file(path) as unfinished:
        comfy.utils.save_torch_file(contiguous, str(unfinished), {"format": "pt", **metadata})
