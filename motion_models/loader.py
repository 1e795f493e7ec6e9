"""Touches comfy. Load a motion-model file into a ModelPatcher, so that ComfyUI moves and patches its weights."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
from torch import Tensor, nn

from .formats import AGAIN, Family, MotionFile, hint, is_pe, read_motion_file, stretch
from .key_layouts import unwrap
from .motion_model import MotionModel, MotionModelConfig

M = TypeVar("M", bound=nn.Module)
MOST_SHARED = 2  # times that a file uses each of its numbers, on the average, since layers can share weights
# torch's error for a pickle that asks for more than tensors and plain values.
FOREIGN_OBJECTS = re.compile(r"unsupported (global|class)|unrecognized function", re.IGNORECASE)


@dataclass(frozen=True)
class MotionLora:
    """A motion LoRA that a motion model carries, as ComfyUI's patches by key."""

    path: str
    patches: Mapping[str, Any]
    strength: float


@dataclass(frozen=True)
class LoadedMotionModel:
    """A motion model as it travels between nodes. `name` is the file's, for messages; `patcher` carries the motion
    LoRAs, `bare` does not."""

    name: str
    family: Family
    config: MotionModelConfig
    patcher: comfy.model_patcher.ModelPatcher
    bare: comfy.model_patcher.ModelPatcher
    loras: tuple[MotionLora, ...] = ()
    camera: Any = None
    """The `CameraSettings` that the run-time follows, from a CameraCtrl file that the model was given."""


def load_motion_model(path: str, stretch_to: int = 0) -> LoadedMotionModel:
    """Load a motion-model file; its positions are stretched over `stretch_to` frames unless that is 0.

    Raises ValueError, one sentence for the user, if the file cannot be read or holds something else.
    """
    family, model = read_model(path, stretch_to)
    name = os.path.basename(path)
    settings = hint(family, name)
    logging.info(f"AnimateDiff: {name} is {family.name}{f', made for {settings}' if settings else ''}.")
    patcher = build_patcher(model, path, reload=(load_motion_patcher, (path, stretch_to)))
    return LoadedMotionModel(name, family, config=model.config, patcher=patcher, bare=patcher)


def load_motion_patcher(path: str, stretch_to: int, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Load a file again. ComfyUI calls this for a copy on another GPU or one without dynamic loading."""
    _, model = read_model(path, stretch_to)
    reload = (load_motion_patcher, (path, stretch_to))
    return build_patcher(model, path, reload=reload, disable_dynamic=disable_dynamic)


def read_model(path: str, stretch_to: int) -> tuple[Family, MotionModel]:
    """Return a file's family and a motion model that holds the file's own tensors."""
    file = read_file(path, stretch_to)
    return file.family, build_model(MotionModel, file.config, file.state_dict)


def build_model(kind: Callable[..., M], config: Any, state_dict: Mapping[str, Tensor]) -> M:
    """Return a model of a kind that holds these tensors, in the type that ComfyUI chooses."""
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state_dict), weight_dtype=comfy.utils.weight_dtype(state_dict)
    )
    # Casting layers even where dtypes seem to agree: the UNet chooses its own, and the features come in that.
    model = kind(config, dtype, torch.device("meta"), operations=comfy.ops.manual_cast)
    # Before the file's weights, in whatever type, take the parameters' place: dynamic loading casts to these types.
    comfy.model_management.archive_model_dtypes(model)
    model.load_state_dict(state_dict, assign=True)
    return model


def read_file(path: str, stretch_to: int) -> MotionFile:
    weights, metadata = load_weights(path)
    file = read_motion_file(weights, os.path.basename(path), metadata)
    return stretch(file, stretch_to) if stretch_to else file


def load_weights(path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file and its metadata.

    Raises ValueError, one sentence for the user, if the file cannot be read or holds more than weights.
    """
    name = os.path.basename(path)
    try:
        check_zip(path)
        content, metadata = comfy.utils.load_torch_file(path, return_metadata=True)  # never runs code from the file
        weights, size = unwrap(content), os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise
    except Exception as error:
        if FOREIGN_OBJECTS.search(str(error)):
            raise ValueError(
                f"{name} holds more than weights, and nothing in it was run: use its .safetensors file instead."
            ) from error
        raise ValueError(f"{name} is not a weights file, or is truncated: {AGAIN}.") from error
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > MOST_SHARED * size:
        raise ValueError(f"{name} promises more weights than it holds: {AGAIN}.")
    return weights, metadata or {}


def check_zip(path: str) -> None:
    """Raise BadZipFile if a .ckpt file is packed: torch never packs one, and a small file could fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > os.path.getsize(path):
                raise zipfile.BadZipFile(f"{path} unpacks to more than it holds")


def build_patcher(
    model: Any, path: str, reload: tuple[Callable[..., Any], tuple[Any, ...]], disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Return a ModelPatcher for a model from that file, its weights in the type and on the device that ComfyUI chose.

    `reload` is the function and its arguments by which ComfyUI gets a copy on another device.
    """
    management = comfy.model_management
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(
        model, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )
    if not patcher.is_dynamic():
        convert_weights(model, patcher.offload_device, path)
    patcher.cached_patcher_init = reload
    return patcher


def convert_weights(model: Any, device: torch.device, path: str) -> None:
    """Give the weights of a model from that file its dtype, one at a time, so that they are never in memory twice."""
    # The weights of a .safetensors file are the file itself, which may be replaced while they are in use.
    copy = path.lower().endswith((".safetensors", ".sft"))
    for key, parameter in model.named_parameters():
        parameter.data = parameter.data.to(device, parameter.dtype if is_pe(key) else model.dtype, copy=copy)
