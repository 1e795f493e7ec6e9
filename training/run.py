"""Touches comfy. A training, from its configuration to a file that Load Motion Module or Load Motion LoRA reads."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import comfy.sd
import comfy.utils
import torch
from comfy.model_management import unload_all_models
from torch import Tensor

from ..motion_models.loader import load_motion_model
from ..motion_models.saving import write
from .config import Config
from .data import Data, Prompt, prepare
from .loop import Progress, fit, print_progress
from .motion import motion_losses
from .processes import OneProcess
from .samples import render
from .tasks import Task, adapter_task, from_file, from_nothing, lora_task, module_task


class ImageModels(NamedTuple):
    """What a checkpoint holds, as ComfyUI's loader gives it."""

    model: Any
    clip: Any
    vae: Any


def train(config: Config, processes: OneProcess, stop: Callable[[], bool] = lambda: False) -> Path:
    """The finished file. ValueError, in one sentence, for what cannot be trained; KeyboardInterrupt after a step in
    which `stop` says so, with a state to go on from."""
    config.output.mkdir(parents=True, exist_ok=True)
    image = load_checkpoint(config)
    with task_of(config, image.model, processes) as task:
        empty, data = prepared(config, image, processes)
        unload_all_models()
        losses = motion_losses(task.image_model, task.moving, data, empty, task.alphas, config.objective, processes)
        told = {**task.notes, "data": str(config.data.folder or config.data.shards)}

        def finished(path: Path, values: Mapping[str, Tensor], step: int) -> None:
            write(task.file(values), {**told, "steps": str(step)}, str(path))
            for sample, frames in render(config, image, path):
                processes.show(sample.stem, frames, step)
            unload_all_models()  # of ComfyUI's, for the training has copies of its own

        def report(progress: Progress) -> None:
            print_progress(progress)
            done, every = len(progress.losses), config.samples.every
            if every and done % every == 0 and done < config.fit.steps:
                path = config.output / f"{config.name}_{done:06}.safetensors"
                finished(path, progress.averages, done)

        settings = {**decisive(config), "items in a step": config.objective.per_step(processes)}
        fit(
            config.name,
            task.parameters,
            losses,
            config.output,
            config.fit,
            settings=settings,
            processes=processes,
            report=report,
            stop=stop,
            save_every=config.save_every,
        )
        path = config.output / f"{config.name}.safetensors"
        if processes.index == 0:
            finished(path, task.parameters, config.fit.steps)
    processes.end()
    return path


def prepared(config: Config, image: ImageModels, processes: OneProcess) -> tuple[Prompt, Data]:
    """The empty prompt, and the data: encoded by the first process, after which the others find it in the cache."""

    @torch.no_grad()  # shards are encoded in the middle of the training
    def encode_frames(frames: Tensor) -> Tensor:
        return image.model.model.process_latent_in(image.vae.encode(frames))

    @torch.no_grad()
    def encode_text(text: str) -> Prompt:
        context, pooled = image.clip.encode_from_tokens(image.clip.tokenize(text), return_pooled=True)
        return Prompt(context[0].cpu(), pooled[0].cpu() if sdxl and pooled is not None else None)

    def load() -> Data:
        return prepare(
            config.data,
            encode_frames,
            encode_text,
            vae=fingerprint(config.vae or config.checkpoint),
            text_encoder=fingerprint(config.checkpoint, *config.loras),
            batch=config.objective.batch,
            seed=config.objective.seed,
        )

    sdxl = image.model.model.model_config.unet_config.get("adm_in_channels") is not None
    data = load() if processes.index == 0 else None
    processes.from_first(None)
    return encode_text(""), data or load()


def fingerprint(*files: Path) -> str:
    """Changes with the files."""
    return " ".join(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


def load_checkpoint(config: Config) -> ImageModels:
    for folder in config.custom_nodes:
        import_pack(folder)
    if not config.checkpoint.is_file():
        raise ValueError(f"checkpoint: there is no file {config.checkpoint}.")
    loaded: Any = comfy.sd.load_checkpoint_guess_config(str(config.checkpoint))
    model, clip, vae = loaded[:3]
    for path in config.loras:
        model, clip = comfy.sd.load_lora_for_models(model, clip, comfy.utils.load_torch_file(str(path)), 1.0, 1.0)
    if config.vae is not None:
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(config.vae)))
    if clip is None or vae is None:
        raise ValueError(f"checkpoint: {config.checkpoint} has no text encoder or no VAE: choose a full checkpoint.")
    return ImageModels(model, clip, vae)


def import_pack(folder: Path) -> None:
    """As ComfyUI does."""
    name = folder.resolve().name.replace("-", "_")
    if name in sys.modules:
        return
    file, where = folder / "__init__.py", [str(folder)]
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=where)
    if spec is None or spec.loader is None or not file.is_file():
        raise ValueError(f"custom_nodes: there is no pack in {folder}.")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def task_of(config: Config, model: Any, processes: OneProcess) -> AbstractContextManager[Task]:
    dtype, device, seed = config.objective.dtype, processes.device, config.objective.seed
    if config.train == "domain adapter":
        return adapter_task(model, config.lora, seed, device, config.recompute)
    if config.motion_module is not None:
        start = from_file(model, load_motion_model(str(config.motion_module)), device)
    elif config.train == "motion module":
        start = from_nothing(model, config.positions, config.middle, seed, device)
    else:
        raise ValueError("motion_module: a motion LoRA needs the motion module that it is to alter.")
    if config.train == "motion LoRA":
        return lora_task(model, start, config.beta_schedule, config.lora, seed, dtype, config.recompute)
    return module_task(model, start, config.beta_schedule, dtype, config.recompute)


def decisive(config: Config) -> dict[str, Any]:
    """What else than the options of the loop decides what comes out, in plain values."""
    told = asdict(config)
    for key in ("samples", "save_every", "output", "fit", "custom_nodes", "recompute"):
        told.pop(key)
    return plain(told)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
