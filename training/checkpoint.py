"""Touches comfy. Loads the image model of a training from its configuration."""

from __future__ import annotations

import asyncio
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.sd
import comfy.utils

if TYPE_CHECKING:
    from .config import Config

core_nodes: Any = importlib.import_module("nodes")  # ComfyUI's nodes.py; type checkers would see the pack's own folder


class Checkpoint(NamedTuple):
    """The models of a checkpoint, as ComfyUI's loader returns them, with the LoRAs of the configuration."""

    model: Any
    clip: Any
    vae: Any

    @property
    def has_pooled_prompts(self) -> bool:
        """Return whether the UNet takes pooled prompts, as SDXL's does."""
        return self.model.model.model_config.unet_config.get("adm_in_channels") is not None


def load_checkpoint(config: Config) -> Checkpoint:
    """Load the checkpoint, its LoRAs and its VAE. ValueError names the key whose file cannot be loaded."""
    for folder in config.custom_nodes:
        load_custom_node(folder)
    if not config.checkpoint.is_file():
        raise ValueError(f"checkpoint: there is no file {config.checkpoint}.")
    loaded: Any = comfy.sd.load_checkpoint_guess_config(str(config.checkpoint))
    model, clip, vae = loaded[:3]
    for path in config.loras:
        lora = comfy.utils.load_torch_file(str(path))
        model, clip = comfy.sd.load_lora_for_models(model, clip, lora, strength_model=1.0, strength_clip=1.0)
    if config.vae is not None:
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(config.vae)))
    if clip is None or vae is None:
        raise ValueError(f"checkpoint: {config.checkpoint} has no text encoder or no VAE: choose a full checkpoint.")
    return Checkpoint(model, clip, vae)


def load_custom_node(folder: Path) -> None:
    """Load a node pack, once in a process. ValueError if ComfyUI cannot load it."""
    path = os.path.abspath(folder)
    if path in core_nodes.LOADED_MODULE_DIRS.values():
        return
    if not asyncio.run(core_nodes.load_custom_node(path)):
        raise ValueError(f"custom_nodes: ComfyUI cannot load {path}: choose the folder of a node pack.")


def fingerprint(*files: Path) -> str:
    """Return a text that changes with the files."""
    return " ".join(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
