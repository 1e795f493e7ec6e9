"""Touches comfy. Loads the image model of a training from its configuration."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.lora
import comfy.lora_convert
import comfy.samplers
import comfy.sd

from ..motion_models.formats import Keys
from ..motion_models.loader import load_weights
from ..sampling.timeline import cut

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
    check_names(config)
    for key, path in files_of(config):
        if not path.is_file():
            raise ValueError(f"{key}: there is no file {path}.")
    if config.data.folder is not None and not config.data.folder.is_dir():
        raise ValueError(f"data.folder: there is no folder {config.data.folder}.")
    try:
        loaded: Any = comfy.sd.load_checkpoint_guess_config(str(config.checkpoint))
    except Exception as error:  # ComfyUI, safetensors and pickle raise a dozen kinds
        raise ValueError(
            f"checkpoint: {config.checkpoint} is not a checkpoint that ComfyUI can load: choose a full checkpoint."
        ) from error
    model, clip, vae = loaded[:3]
    if config.vae is not None:
        vae = comfy.sd.VAE(sd=load_weights(str(config.vae))[0])
        if vae.first_stage_model is None:
            raise ValueError(f"vae: {config.vae} is not a VAE that ComfyUI knows: choose another file.")
    if clip is None or vae is None or vae.first_stage_model is None:
        raise ValueError(f"checkpoint: {config.checkpoint} has no text encoder or no VAE: choose a full checkpoint.")
    for path in config.loras:
        model, clip = with_lora(model, clip, path)
    return Checkpoint(model, clip, vae)


def check_names(config: Config) -> None:
    """Raise ValueError for a sampler or scheduler that neither ComfyUI nor a node pack has."""
    sampler = comfy.samplers.KSampler
    for key, known in (("sampler", sampler.SAMPLERS), ("scheduler", sampler.SCHEDULERS)):
        name = getattr(config.samples, key)
        if name not in known:
            raise ValueError(f"samples.{key}: there is no {cut(name)}: use one of {', '.join(known)}.")


def files_of(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield the files that a configuration names, by their keys."""
    files = {
        "checkpoint": [config.checkpoint],
        "motion_module": [config.motion_module],
        "loras": config.loras,
        "vae": [config.vae],
        "data.captions": [config.data.captions],
        "sparse_ctrl.start": [config.sparse_ctrl.start],
        "samples.keyframes": config.samples.keyframes,
    }
    return ((key, path) for key, paths in files.items() for path in paths if path is not None)


def with_lora(model: Any, clip: Any, path: Path) -> tuple[Any, Any]:
    """Return an image model and its text encoder with a LoRA. ValueError if it is not one for them."""
    lora = load_weights(str(path))[0]
    keys = Keys(lora)
    if keys.motion:
        kind, remedy = "motion module", "name it under motion_module"
        if keys.has("lora"):
            kind, remedy = "motion LoRA", "save a motion module with it by Save Motion Module, and name that one"
        raise ValueError(f"loras: {path.name} is a {kind}, and these LoRAs are for the image model: {remedy}.")
    layers = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, comfy.lora.model_lora_keys_unet(model.model, {}))
    if not comfy.lora.load_lora(comfy.lora_convert.convert_lora(lora), layers, log_missing=False):
        raise ValueError(f"loras: {path.name} changes nothing of this checkpoint: choose a LoRA for its kind of model.")
    return comfy.sd.load_lora_for_models(model, clip, lora, strength_model=1.0, strength_clip=1.0)


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
