"""Touches comfy. Motion LoRAs (arXiv 2307.04725, section 4.3): low-rank changes of a motion model's linear layers."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import comfy.lora
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from .formats import AGAIN, canonical, is_finite, unwrap
from .loader import LoadedMotionModel, MotionLora, load_weights

TAKE = "choose one such as v2_lora_PanLeft.ckpt"
OTHER_CHANGES = (".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm")  # they would take a LoRA's place


def apply_motion_lora(motion: LoadedMotionModel, path: str, strength: float) -> LoadedMotionModel:
    """A motion model with a motion LoRA on it; ComfyUI adds strength * up @ down when it loads the weights.

    ValueError, in one sentence, if the file is no motion LoRA or fits nowhere.
    """
    name = os.path.basename(path)
    keys = canonical(unwrap(load_weights(path)[0]))
    lora = keys.state_dict
    if not keys.has("lora"):
        raise ValueError(f"{name} is no motion LoRA: {TAKE}.")
    if not keys.motion:
        raise ValueError(f"{name} is a LoRA for the image model, which alters no motion: use Load LoRA for this file.")
    weights = motion.patcher.model.state_dict()
    layers = {spelling: key for key in weights if key.endswith(".weight") for spelling in spellings(key)}
    low_rank = {key: tensor for key, tensor in lora.items() if not key.endswith(OTHER_CHANGES)}
    patches: dict[str, Any] = comfy.lora.load_lora(low_rank, layers, log_missing=False)
    if not patches:
        raise ValueError(f"{name} fits no layer of {motion.name}: choose a motion LoRA that was made for its kind.")
    check_shapes(patches, weights, name, motion.name)
    report(name, lora, patches, motion)
    loras = added(motion.loras, MotionLora(path, patches, strength))
    patcher = motion.bare.clone()
    for each in loras:
        patcher.add_patches(each.patches, each.strength)
    return dataclasses.replace(motion, patcher=patcher, loras=loras)


def added(loras: tuple[MotionLora, ...], new: MotionLora) -> tuple[MotionLora, ...]:
    """Strengths of one file add up before anything is rounded, so a LoRA and its opposite leave nothing at all."""
    strength = new.strength + sum(lora.strength for lora in loras if lora.path == new.path)
    others = tuple(lora for lora in loras if lora.path != new.path)
    return (*others, dataclasses.replace(new, strength=strength)) if strength else others


def spellings(key: str) -> list[str]:
    """How files name the layer of a weight: the official LoRAs, MotionDirector's, diffusers', PEFT's and kohya's.

    `...attention_blocks.0.to_out.0.weight` is for the first two `...attention_blocks.0.processor.to_out` and
    `...attention_blocks.0.to_out.processor.0`.
    """
    layers = [key.removesuffix(".weight")]
    if layers[0].endswith(".to_out.0"):
        layers.append(layers[0].removesuffix(".0"))
    with_processor = [".processor.".join(layer.rsplit(".", 1)) for layer in layers]
    return [*layers, *with_processor, "lora_unet_" + layers[0].replace(".", "_")]


def check_shapes(patches: Mapping[str, Any], weights: Mapping[str, Tensor], name: str, module: str) -> None:
    """ValueError if up @ down has not the shape of the weight that it is to be added to."""
    for key, adapter in patches.items():
        if not isinstance(adapter, LoRAAdapter):
            continue
        up, down = adapter.weights[:2]
        if (up.shape[0], down.shape[1], up.shape[1]) != (*weights[key].shape, down.shape[0]):
            raise ValueError(
                f"{name} does not fit {module}, its change of {key} is {up.shape[0]} x {down.shape[1]} instead of "
                f"{' x '.join(map(str, weights[key].shape))}: choose a motion LoRA that was made for its kind."
            )
        if not (is_finite(up) and is_finite(down)):
            raise ValueError(f"{name} is a damaged motion LoRA, its change of {key} holds NaN or infinity: {AGAIN}.")


def report(name: str, lora: Mapping[str, Tensor], patches: Mapping[str, Any], motion: LoadedMotionModel) -> None:
    """Tell the log what the LoRA alters, and what of it is left out."""
    used = set().union(*(adapter.loaded_keys for adapter in patches.values()))
    left = [key for key in lora if key not in used]
    logging.info(f"AnimateDiff: {name} alters {len(patches)} layers of {motion.name}.")
    if left and not motion.config.mid and all("mid_block" in key for key in left):
        logging.warning(
            f"AnimateDiff: {name} was made for a module with a middle block, as v2 has it, and {motion.name} has none: "
            f"{len(left)} of its {len(lora)} keys are left out."
        )
    elif left:
        logging.warning(f"AnimateDiff: {len(left)} of the {len(lora)} keys of {name} fit no layer: {left[0]} ...")
