"""Touches comfy. From a file to a motion model that ComfyUI's memory management can load, move and patch."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils

from .formats import AGAIN, Family, MotionFile, hint, read_motion_file
from .motion_model import MotionModel, MotionModelConfig

# What torch says of a pickle that asks for more than tensors and plain values.
FOREIGN_OBJECTS = re.compile(r"unsupported (global|class)|unrecognized function", re.IGNORECASE)


@dataclass(frozen=True)
class LoadedMotionModel:
    """What travels on the nodes' motion-model socket. `name` is the file's, for messages."""

    name: str
    family: Family
    config: MotionModelConfig
    patcher: comfy.model_patcher.ModelPatcher


def load_motion_model(path: str) -> LoadedMotionModel:
    """Load a motion-model file. ValueError, in one sentence, if it cannot be read or is something else."""
    file, name = read_file(path), os.path.basename(path)
    settings = hint(file.family, name)
    logging.info(f"AnimateDiff: {name} is {file.family.name}{f', made for {settings}' if settings else ''}.")
    return LoadedMotionModel(name, file.family, file.config, build_patcher(file, path))


def load_motion_patcher(path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The factory by which ComfyUI makes an independent copy, for another GPU or without dynamic loading."""
    return build_patcher(read_file(path), path, disable_dynamic)


def read_file(path: str) -> MotionFile:
    return read_motion_file(load_weights(path), os.path.basename(path))


def load_weights(path: str) -> Any:
    """What a file holds. ValueError, in one sentence, if it cannot be read or is more than weights."""
    name = os.path.basename(path)
    try:
        return comfy.utils.load_torch_file(path)  # never runs code from the file
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


def build_patcher(file: MotionFile, path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    management = comfy.model_management
    weight_dtype = comfy.utils.weight_dtype(file.state_dict)
    parameters = comfy.utils.calculate_parameters(file.state_dict)
    dtype = management.unet_dtype(model_params=parameters, weight_dtype=weight_dtype)
    offload_device = management.unet_offload_device()
    # Casting layers even where dtypes seem to agree: the UNet chooses its own, and the features come in that.
    model = MotionModel(file.config, dtype, offload_device, comfy.ops.manual_cast)
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=management.get_torch_device(), offload_device=offload_device)
    # Before the file's weights, in whatever type, take the parameters' place: dynamic loading casts to these types.
    management.archive_model_dtypes(model)
    model.load_state_dict(file.state_dict, assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (load_motion_patcher, (path,))
    return patcher
