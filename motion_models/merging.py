"""Touches comfy. New motion models from others: merged by weight, and saved with all that was done to them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.utils
import torch
from safetensors import SafetensorError

from .formats import is_pe
from .loader import LoadedMotionModel


def merge(
    a: LoadedMotionModel, b: LoadedMotionModel, ratio: float, ratio_of_level: Mapping[str, float]
) -> LoadedMotionModel:
    """(1 - r) * a + r * b, where r is `ratio` times the level's own; ComfyUI adds them when it loads the weights.

    What else a motion model is stays a's: its positions, its noise schedule, and its middle block where b has none.
    ValueError if a layer of the two differs in shape.
    """
    patcher, ours = a.patcher.clone(), a.patcher.model.state_dict()
    patches_by_ratio: dict[float, dict[str, Any]] = {}
    for key, patch in b.patcher.get_key_patches().items():
        if key not in ours or is_pe(key):
            continue
        shape = patch[0][0].shape
        if shape != ours[key].shape:
            raise ValueError(
                f"{a.name} ({a.family.base}) and {b.name} ({b.family.base}) cannot be merged, {key} is "
                f"{list(ours[key].shape)} in one and {list(shape)} in the other: choose two for the same base."
            )
        r = ratio * ratio_of_level.get(key.partition(".motion_modules")[0], 1.0)
        patches_by_ratio.setdefault(r, {})[key] = patch
    for r, patches in patches_by_ratio.items():
        patcher.add_patches(patches, r, 1.0 - r)
    name = f"{1.0 - ratio:g} x {recipe(a)} + {ratio:g} x {recipe(b)}"
    return dataclasses.replace(a, name=f"({name})", patcher=patcher, bare=patcher, loras=())


def recipe(motion: LoadedMotionModel) -> str:
    """What a motion model was made of, for people."""
    loras = "".join(f" + {lora.strength:g} x {os.path.basename(lora.path)}" for lora in motion.loras)
    return f"({motion.name}{loras})" if loras else motion.name


def save(motion: LoadedMotionModel, path: str) -> None:
    """Write a .safetensors file in the original layout of AnimateDiff, complete or not at all.

    OSError if the disk does not take it.
    """
    weights = {}
    for key, (first, *patches) in motion.patcher.get_key_patches().items():
        weight, convert = first
        weight = convert(weight, inplace=False)
        if patches:
            copy = weight.to(torch.float32, copy=True)  # it is added to in place
            weight = comfy.lora.calculate_weight(patches, copy, key).to(weight.dtype)
        weights[key] = weight.cpu().contiguous()
    metadata = {
        "format": "pt",
        "family": motion.family.name,
        "base": motion.family.base,
        "trained_frames": str(motion.family.trained_frames),
        "sources": recipe(motion),
    }
    unfinished = f"{path}.part"
    try:
        comfy.utils.save_torch_file(weights, unfinished, metadata)
        os.replace(unfinished, path)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)
