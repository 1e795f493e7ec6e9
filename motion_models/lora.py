"""Touches comfy. Apply motion LoRAs (arXiv 2307.04725, section 4.3): low-rank changes of linear layers."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import comfy.lora
from torch import Tensor

from .formats import AGAIN, Keys
from .key_layouts import layer_spellings
from .loader import LoadedMotionModel, MotionLora, load_weights
from .lora_checks import UnusableKey, check_layer

CHOOSE = "choose one such as v2_lora_PanLeft.ckpt"
OTHER_CHANGES = (".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm")  # ComfyUI would read them as LoRAs


def apply_motion_lora(motion: LoadedMotionModel, path: str, strength: float) -> LoadedMotionModel:
    """Return the motion model with a motion LoRA; ComfyUI adds strength * up @ down when it loads the weights.

    Raises ValueError, one sentence for the user, if the file is not a motion LoRA or fits no layer.
    """
    name = os.path.basename(path)
    keys = Keys(load_weights(path)[0])
    if not keys.has("lora"):
        raise ValueError(f"{name} is not a motion LoRA: {CHOOSE}.")
    if not keys.motion:
        raise ValueError(
            f"{name} is a LoRA for the image model, which does not change motion: use Load LoRA for this file."
        )
    patches = read_patches(keys.state_dict, motion, name)
    report(name, keys.state_dict, patches=patches, motion=motion)
    loras = with_lora(motion.loras, MotionLora(path, patches, strength))
    patcher = motion.bare.clone()
    for lora in loras:
        patcher.add_patches(lora.patches, lora.strength)
    return dataclasses.replace(motion, patcher=patcher, loras=loras)


def with_lora(loras: tuple[MotionLora, ...], new: MotionLora) -> tuple[MotionLora, ...]:
    """Return the LoRAs with one more. Strengths of one file add up, so a LoRA and its opposite leave nothing at all."""
    strength = new.strength + sum(lora.strength for lora in loras if lora.path == new.path)
    remaining = tuple(lora for lora in loras if lora.path != new.path)
    return (*remaining, dataclasses.replace(new, strength=strength)) if strength else remaining


def read_patches(lora: Mapping[str, Tensor], motion: LoadedMotionModel, name: str) -> dict[str, Any]:
    """Return ComfyUI's patches by the keys of a motion model's weights. ValueError if there is none, or a wrong one."""
    weights = motion.patcher.model.state_dict()
    paths = (key.removesuffix(".weight") for key, weight in weights.items() if weight.ndim == 2)  # linear layers
    layers = {spelling: f"{path}.weight" for path in paths for spelling in layer_spellings(path)}
    # Copied, since the tensors of a .safetensors file are the file itself, which may be replaced while they are in use.
    low_rank = {key: tensor.clone() for key, tensor in lora.items() if not key.endswith(OTHER_CHANGES)}
    kind = "choose a motion LoRA that was made for this kind of motion module"
    try:
        for layer, key in layers.items():
            check_layer(low_rank, layer, tuple(weights[key].shape))
    except UnusableKey as error:
        fault = f"{error.key} {error.fault}"
        if error.misfit:
            raise ValueError(f"{name} does not fit {motion.name}, because {fault}: {kind}.") from error
        raise ValueError(f"{name} is a damaged motion LoRA, {fault}: {AGAIN}.") from error
    patches = comfy.lora.load_lora(low_rank, layers, log_missing=False)
    if not patches:
        raise ValueError(f"{name} fits no layer of {motion.name}: {kind}.")
    return patches


def report(name: str, lora: Mapping[str, Tensor], patches: Mapping[str, Any], motion: LoadedMotionModel) -> None:
    """Log how many layers the LoRA changes, and which of its keys are not used."""
    used = set().union(*(adapter.loaded_keys for adapter in patches.values()))
    unused = [key for key in lora if key not in used]
    logging.info(f"AnimateDiff: {name} changes {len(patches)} layers of {motion.name}.")
    if unused and not motion.config.mid and all("mid_block" in key for key in unused):
        logging.warning(
            f"AnimateDiff: {name} was made for a module with a middle block, such as v2, and {motion.name} has none: "
            f"{len(unused)} of its {len(lora)} keys are left out."
        )
    elif unused:
        logging.warning(f"AnimateDiff: {len(unused)} of the {len(lora)} keys of {name} fit no layer: {unused[0]} ...")
