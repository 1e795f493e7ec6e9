"""Touches comfy. A training inside of a ComfyUI graph: shows its progress, and can be interrupted without loss."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ..motion_models.loader import LoadedMotionModel, load_motion_model
from ..motion_models.lora import apply_motion_lora
from ..motion_models.saving import write
from .data import EncodedClips, MemoryClip, Prompt
from .loop import FitOptions, Progress, fit
from .lora import LoraOptions
from .loss_curve import draw_losses
from .motion import MotionOptions, motion_losses
from .processes import OneProcess
from .tasks import Task, from_file, from_nothing, lora_task, module_task

FOLDER = "animatediff_training"
SECONDS_OF_A_PREVIEW = 0.5


@dataclass(frozen=True)
class Clips:
    """Latents (F, c, h, w) of clips as a VAE gives them, one prompt for all or one for each, and an empty prompt."""

    latents: Sequence[Tensor]
    prompts: Sequence[Prompt]
    empty: Prompt | None
    frames: int
    stride: int

    def __post_init__(self):
        if len(self.prompts) not in (1, len(self.latents)):
            raise ValueError(
                f"{len(self.prompts)} prompts for {len(self.latents)} clips: give one, or one for every clip."
            )

    def encoded(self, model: Any, batch: int, seed: int) -> EncodedClips:
        prompts = list(self.prompts) * (len(self.latents) if len(self.prompts) == 1 else 1)
        scaled = [model.model.process_latent_in(each.cpu()) for each in self.latents]
        clips = [MemoryClip(each, prompt) for each, prompt in zip(scaled, prompts, strict=True)]
        return EncodedClips(clips, self.frames, self.stride, batch, seed)


@dataclass(frozen=True)
class Trained:
    """What a training gave: a file in ComfyUI's temporary folder, the weights in it and their notes."""

    path: str
    weights: dict[str, Tensor]
    notes: dict[str, str]
    losses: list[float]
    scale: float = 1.0
    """Of what a LoRA adds."""


def prompt_of(conditioning: Any, name: str) -> Prompt:
    """The only entry of a CONDITIONING."""
    if len(conditioning) != 1:
        raise ValueError(f"{name} holds {len(conditioning)} prompts at once: give one prompt for each clip.")
    context, told = conditioning[0]
    pooled = told.get("pooled_output")
    return Prompt(context[0].cpu().clone(), None if pooled is None else pooled[0].cpu().clone())


def train_motion_lora(latents: list[Any], conditioning: list[Any], **inputs: Any) -> tuple[LoadedMotionModel, Trained]:
    """The motion model with the LoRA on it, and the LoRA, from the inputs of the node."""
    model, motion, seed = inputs["model"], inputs["motion_module"], inputs["seed"]
    clips, options = clips_of(latents, conditioning, inputs), lora_options(inputs)
    with gradients() as device:
        objective = objective_of(inputs, device)
        start = from_file(model, motion, device)
        task = lora_task(model, start, "family", options, seed, objective.dtype, inputs["recompute"])
        trained = train("motion_lora", model, task, clips, objective, fit_options(inputs), device)
        del start, task
    return apply_motion_lora(motion, trained.path, 1.0), replace(trained, scale=options.scale)


def train_motion_module(
    latents: list[Any], conditioning: list[Any], motion_module: LoadedMotionModel | None = None, **inputs: Any
) -> tuple[LoadedMotionModel, Trained]:
    model, seed, clips = inputs["model"], inputs["seed"], clips_of(latents, conditioning, inputs)
    with gradients() as device:
        objective = objective_of(inputs, device)
        if motion_module is not None:
            start = from_file(model, motion_module, device)
        else:
            start = from_nothing(model, max(32, inputs["frames"]), False, seed, device)
        task = module_task(model, start, "family", objective.dtype, inputs["recompute"])
        trained = train("motion_module", model, task, clips, objective, fit_options(inputs), device)
        del start, task
    return load_motion_model(trained.path), trained


def clips_of(latents: list[Any], conditioning: list[Any], inputs: dict[str, Any]) -> Clips:
    empty = prompt_of(inputs["empty_prompt"], "empty_prompt") if "empty_prompt" in inputs else None
    prompts = [prompt_of(each, "conditioning") for each in conditioning]
    return Clips([latent["samples"] for latent in latents], prompts, empty, inputs["frames"], inputs["stride"])


def lora_options(inputs: dict[str, Any]) -> LoraOptions:
    return LoraOptions(inputs["rank"], inputs["alpha"], inputs["projections"])


def objective_of(inputs: dict[str, Any], device: torch.device) -> MotionOptions:
    names = [field.name for field in fields(MotionOptions) if field.name in inputs]
    automatic = comfy.model_management.should_use_bf16(device)
    bf16 = automatic if inputs["precision"] == "automatic" else inputs["precision"] == "bf16"
    return MotionOptions(**{name: inputs[name] for name in names}, bf16=bf16)


def fit_options(inputs: dict[str, Any]) -> FitOptions:
    return FitOptions(inputs["steps"], inputs["learning_rate"])


@contextmanager
def gradients() -> Iterator[torch.device]:
    """ComfyUI runs nodes without them. Gives the device to train on, emptied of what ComfyUI keeps there."""
    comfy.model_management.unload_all_models()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield comfy.model_management.get_torch_device()
    finally:
        gc.collect()  # optimisers refer to each other in circles
        comfy.model_management.soft_empty_cache()


def train(
    name: str,
    model: Any,
    making: AbstractContextManager[Task],
    clips: Clips,
    objective: MotionOptions,
    options: FitOptions,
    device: torch.device,
) -> Trained:
    """Within `gradients`. An interrupted training goes on from its last step when it is queued again."""
    processes = OneProcess(device)
    with making as task:
        data = clips.encoded(model, objective.batch, objective.seed)
        losses = motion_losses(task.image_model, task.moving, data, clips.empty, task.alphas, objective, processes)
        settings = {**asdict(objective), **task.notes, "clips": fingerprint(clips), "weights": sums(task)}
        settings |= {"velocity": task.image_model.velocity, "alphas": task.alphas.sum().item()}
        run = f"{name}_{sha256(str((settings, asdict(options))).encode()).hexdigest()[:12]}"
        folder = Path(folder_paths.get_output_directory(), FOLDER)
        found = fit(
            run, task.parameters, losses, folder, options, settings=settings, processes=processes, report=reporter(name)
        )
        weights = {key: value.detach().cpu() for key, value in task.parameters.items()}
        told = {**task.notes, "data": f"{len(clips.latents)} clips", "steps": str(options.steps)}
        path = os.path.join(folder_paths.get_temp_directory(), FOLDER, f"{run}.safetensors")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(task.file(weights), told, path)
    for suffix in (".pt", ".png"):
        (folder / f"{run}{suffix}").unlink(missing_ok=True)
    return Trained(path, weights, told, found)


def reporter(name: str):
    """Moves the node's progress bar, with the loss as its preview, and stops where the user interrupts."""
    bar: Any = None
    drawn = 0.0

    def report(progress: Progress) -> None:
        nonlocal bar, drawn
        bar = bar or comfy.utils.ProgressBar(progress.steps)
        now, preview = time.monotonic(), None
        if now - drawn > SECONDS_OF_A_PREVIEW:
            drawn, preview = now, ("JPEG", draw_losses(progress.losses, name), None)
        bar.update_absolute(len(progress.losses), progress.steps, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return report


def fingerprint(clips: Clips) -> str:
    """Changes with what is learned from."""
    digest = sha256(f"{clips.frames} {clips.stride} {len(clips.prompts)}".encode())
    prompts = [*clips.prompts, *([clips.empty] if clips.empty is not None else [])]
    parts = [part for prompt in prompts for part in (prompt.context, prompt.pooled) if part is not None]
    for tensor in (*clips.latents, *parts):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def sums(task: Task) -> str:
    """Changes with the weights that a training starts from."""
    parts = [parameter.detach() for model in task.models for parameter in model.parameters()]
    return sha256(str([float(part.sum(dtype=torch.float32)) for part in parts]).encode()).hexdigest()
