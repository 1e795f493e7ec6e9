"""Touches comfy. From a file to a motion model that ComfyUI's memory management can load, move and patch."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch

from .formats import AGAIN, Family, MotionFile, hint, is_pe, read_motion_file, stretched
from .motion_model import MotionModel, MotionModelConfig

# What torch says of a pickle that asks for more than tensors and plain values.
FOREIGN_OBJECTS = re.compile(r"unsupported (global|class)|unrecognized function", re.IGNORECASE)


@dataclass(frozen=True)
class MotionLora:
    """A motion LoRA file on a motion model: ComfyUI's patches by key."""

    path: str
    patches: Mapping[str, Any]
    strength: float


@dataclass(frozen=True)
class LoadedMotionModel:
    """What travels on the nodes' motion-model socket. `name` is the file's, for messages; `patcher` has the motion
    LoRAs on it, `bare` has not."""

    name: str
    family: Family
    config: MotionModelConfig
    patcher: comfy.model_patcher.ModelPatcher
    bare: comfy.model_patcher.ModelPatcher
    loras: tuple[MotionLora, ...] = ()


def load_motion_model(path: str, stretch_to: int = 0) -> LoadedMotionModel:
    """Load a motion-model file, its positions stretched over so many frames unless 0. ValueError, in one sentence, if
    it cannot be read or is something else."""
    file, name = read_file(path, stretch_to), os.path.basename(path)
    settings = hint(file.family, name)
    logging.info(f"AnimateDiff: {name} is {file.family.name}{f', made for {settings}' if settings else ''}.")
    patcher = build_patcher(file, path, stretch_to)
    return LoadedMotionModel(name, file.family, file.config, patcher, patcher)


def load_motion_patcher(path: str, stretch_to: int, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The factory by which ComfyUI makes an independent copy, for another GPU or without dynamic loading."""
    return build_patcher(read_file(path, stretch_to), path, stretch_to, disable_dynamic)


def read_file(path: str, stretch_to: int) -> MotionFile:
    weights, metadata = load_weights(path)
    file = read_motion_file(weights, os.path.basename(path), metadata)
    return stretched(file, stretch_to) if stretch_to else file


def load_weights(path: str) -> tuple[Any, dict[str, str]]:
    """What a file holds, and its notes. ValueError, in one sentence, if it cannot be read or is more than weights."""
    name = os.path.basename(path)
    try:
        weights, metadata = comfy.utils.load_torch_file(path, return_metadata=True)  # never runs code from the file
        return weights, metadata or {}
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise
    except Exception as error:
        if FOREIGN_OBJECTS.search(str(error)):
            raise ValueError(
                f"{name} holds more than weights, and nothing in it is run: use its .safetensors file instead."
            ) from error
        raise ValueError(f"{name} is no weights file, or a truncated one: {AGAIN}.") from error


def build_patcher(
    file: MotionFile, path: str, stretch_to: int, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Gives the file's weights the type and the place that ComfyUI chose for them."""
    management = comfy.model_management
    weight_dtype = comfy.utils.weight_dtype(file.state_dict)
    parameters = comfy.utils.calculate_parameters(file.state_dict)
    dtype = management.unet_dtype(model_params=parameters, weight_dtype=weight_dtype)
    offload_device = management.unet_offload_device()
    # Casting layers even where dtypes seem to agree: the UNet chooses its own, and the features come in that.
    model = MotionModel(file.config, dtype, torch.device("meta"), comfy.ops.manual_cast)
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=management.get_torch_device(), offload_device=offload_device)
    # Before the file's weights, in whatever type, take the parameters' place: dynamic loading casts to these types.
    management.archive_model_dtypes(model)
    if not patcher.is_dynamic():
        # The weights of a .safetensors file are the file itself, which may be replaced while they are in use.
        mapped = path.lower().endswith((".safetensors", ".sft"))
        for key, weight in file.state_dict.items():  # one at a time, so that they are not in memory twice
            file.state_dict[key] = weight.to(offload_device, weight.dtype if is_pe(key) else dtype, copy=mapped)
    model.load_state_dict(file.state_dict, assign=True)
    patcher.cached_patcher_init = (load_motion_patcher, (path, stretch_to))
    return patcher
