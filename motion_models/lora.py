"""Touches comfy. Apply motion LoRAs (arXiv 2307.04725, section 4.3): low-rank changes of linear layers."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import comfy.lora
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from .formats import AGAIN, Keys, is_finite
from .key_layouts import layer_spellings, unwrap
from .loader import LoadedMotionModel, MotionLora, load_weights

CHOOSE = "choose one such as v2_lora_PanLeft.ckpt"
OTHER_CHANGES = (".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm")  # ComfyUI would read them as LoRAs


def apply_motion_lora(motion: LoadedMotionModel, path: str, strength: float) -> LoadedMotionModel:
    """Return the motion model with a motion LoRA; ComfyUI adds strength * up @ down when it loads the weights.

    Raises ValueError, one sentence for the user, if the file is not a motion LoRA or fits no layer.
    """
    name = os.path.basename(path)
    keys = Keys(unwrap(load_weights(path)[0]))
    if not keys.has("lora"):
        raise ValueError(f"{name} is not a motion LoRA: {CHOOSE}.")
    if not keys.motion:
        raise ValueError(
            f"{name} is a LoRA for the image model, which does not change motion: use Load LoRA for this file."
        )
    weights = motion.patcher.model.state_dict()
    paths = (key.removesuffix(".weight") for key in weights if key.endswith(".weight"))
    layers = {spelling: f"{path}.weight" for path in paths for spelling in layer_spellings(path)}
    low_rank = {key: tensor for key, tensor in keys.state_dict.items() if not key.endswith(OTHER_CHANGES)}
    patches: dict[str, Any] = comfy.lora.load_lora(low_rank, layers, log_missing=False)
    if not patches:
        raise ValueError(
            f"{name} fits no layer of {motion.name}: choose a motion LoRA that was made for this kind of motion module."
        )
    check_shapes(patches, weights, name, motion.name)
    report(name, keys.state_dict, patches, motion)
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


def check_shapes(patches: Mapping[str, Any], weights: Mapping[str, Tensor], name: str, module: str) -> None:
    """Raise ValueError if up @ down does not have the shape of its weight, or is not finite."""
    for key, adapter in patches.items():
        if not isinstance(adapter, LoRAAdapter):
            continue
        up, down = adapter.weights[:2]
        if (up.shape[0], down.shape[1], up.shape[1]) != (*weights[key].shape, down.shape[0]):
            raise ValueError(
                f"{name} does not fit {module}, because its change of {key} is {up.shape[0]} x {down.shape[1]} "
                f"instead of {' x '.join(map(str, weights[key].shape))}: choose a motion LoRA that was made for this "
                "kind of motion module."
            )
        if not (is_finite(up) and is_finite(down)):
            raise ValueError(
                f"{name} is a damaged motion LoRA, because its change of {key} holds NaN or infinite values: {AGAIN}."
            )


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
