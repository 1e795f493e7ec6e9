"""Touches comfy. A training in a ComfyUI graph: shows its progress, and can be interrupted without loss."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from .loop import FitOptions, Progress, Training
from .lora import LoraOptions
from .loss_curve import draw_losses
from .motion import MotionLoss, MotionOptions
from .processes import OneProcess
from .tasks import TASKS, Task, TaskOptions

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

    @property
    def all_prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts, and the empty one if there is one."""
        return (*self.prompts, *([] if self.empty is None else [self.empty]))

    def check(self, model: Any) -> None:
        """Raise ValueError if a MODEL does not take these latents and prompts."""
        channels = model.model.latent_format.latent_channels
        width = model.model.model_config.unet_config.get("context_dim")
        for number, latents in enumerate(self.latents, 1):
            if latents.ndim != 4 or latents.shape[1] != channels:
                raise ValueError(
                    f"Clip {number} has the shape {list(latents.shape)}, and this model takes frames of {channels} "
                    "channels: encode the clips with the VAE of this checkpoint."
                )
            if not latents.isfinite().all():
                raise ValueError(f"Clip {number} holds NaN or infinite values: encode it again.")
        for prompt in self.all_prompts:
            if width is not None and prompt.context.shape[-1] != width:
                raise ValueError(
                    f"A prompt has {prompt.context.shape[-1]} features, and this model takes {width}: encode the "
                    "prompts with the text encoder of this checkpoint."
                )

    def encoded(self, model: Any, options: MotionOptions) -> EncodedClips:
        """Return the clips as a training takes them."""
        prompts = list(self.prompts) * (len(self.latents) if len(self.prompts) == 1 else 1)
        scaled = [model.model.process_latent_in(latents.cpu()) for latents in self.latents]
        clips = [MemoryClip(latents, prompt) for latents, prompt in zip(scaled, prompts, strict=True)]
        return EncodedClips(clips, frames=self.frames, stride=self.stride, batch=options.batch, seed=options.seed)

    def fingerprint(self) -> str:
        """Return a text that changes with what is learned from."""
        digest = sha256(f"{self.frames} {self.stride} {len(self.prompts)}".encode())
        parts = [part for prompt in self.all_prompts for part in (prompt.context, prompt.pooled) if part is not None]
        for tensor in (*self.latents, *parts):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Trained:
    """The result of a training: a file in ComfyUI's temporary folder, the weights in it and their metadata."""

    path: str
    weights: dict[str, Tensor]
    notes: dict[str, str]
    losses: list[float]
    scale: float = 1.0
    """Factor of what a LoRA adds."""


def train_motion_lora(latents: list[Any], conditioning: list[Any], **inputs: Any) -> tuple[LoadedMotionModel, Trained]:
    """Return the motion model with the LoRA on it, and the LoRA, from the inputs of the node."""
    lora = LoraOptions(inputs["rank"], inputs["alpha"], inputs["projections"])
    with gradients() as device:
        trained = train("motion LoRA", clips_of(latents, conditioning, inputs), inputs, device=device, lora=lora)
    return apply_motion_lora(inputs["motion_module"], trained.path, 1.0), replace(trained, scale=lora.scale)


def train_motion_module(
    latents: list[Any], conditioning: list[Any], **inputs: Any
) -> tuple[LoadedMotionModel, Trained]:
    """Return the trained motion model and its file, from the inputs of the node."""
    with gradients() as device:
        trained = train("motion module", clips_of(latents, conditioning, inputs), inputs, device=device)
    return load_motion_model(trained.path), trained


def clips_of(latents: list[Any], conditioning: list[Any], inputs: dict[str, Any]) -> Clips:
    """Return the clips of a node's inputs. ValueError if the model does not take them."""
    clips = Clips(
        latents=[latent["samples"] for latent in latents],
        prompts=[prompt_of(entry, "conditioning") for entry in conditioning],
        empty=prompt_of(inputs["empty_prompt"], "empty_prompt") if "empty_prompt" in inputs else None,
        frames=inputs["frames"],
        stride=inputs["stride"],
    )
    clips.check(inputs["model"])
    return clips


def prompt_of(conditioning: Any, name: str) -> Prompt:
    """Return the only entry of a CONDITIONING. ValueError if it has several."""
    if len(conditioning) != 1:
        raise ValueError(f"{name} holds {len(conditioning)} prompts at once: give one prompt for each clip.")
    context, values = conditioning[0]
    pooled = values.get("pooled_output")
    return Prompt(context[0].cpu().clone(), None if pooled is None else pooled[0].cpu().clone())


def objective_of(inputs: dict[str, Any], device: torch.device) -> MotionOptions:
    """Return the objective of a node's inputs."""
    names = [field.name for field in fields(MotionOptions) if field.name in inputs]
    automatic = comfy.model_management.should_use_bf16(device)
    bf16 = automatic if inputs["precision"] == "automatic" else inputs["precision"] == "bf16"
    return MotionOptions(**{name: inputs[name] for name in names}, bf16=bf16)


@contextmanager
def gradients() -> Iterator[torch.device]:
    """Turn on gradients, without which ComfyUI runs nodes, and yield the device."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield comfy.model_management.get_torch_device()
    finally:
        gc.collect()  # optimisers refer to each other in circles
        comfy.model_management.soft_empty_cache()


def train(
    kind: str, clips: Clips, inputs: dict[str, Any], *, device: torch.device, lora: LoraOptions | None = None
) -> Trained:
    """Train within `gradients`. An interrupted training resumes from its last step when it is queued again."""
    model, objective = inputs["model"], objective_of(inputs, device)
    if objective.caption_dropout and clips.empty is None:
        logging.info(
            f"Train {kind}: caption_dropout {objective.caption_dropout:g} does nothing without an empty_prompt."
        )
    fit = FitOptions(inputs["steps"], inputs["learning_rate"])
    options = TaskOptions(
        seed=inputs["seed"],
        device=device,
        dtype=objective.dtype,
        recompute=inputs["recompute"],
        lora=lora or LoraOptions(),
        positions=max(32, inputs["frames"]),
    )
    comfy.model_management.unload_all_models()  # once the inputs are known to be right
    with TASKS[kind](model, inputs.get("motion_module"), options) as task:
        settings, name = settings_of(objective, clips, task), kind.lower().replace(" ", "_")
        run = f"{name}_{sha256(str((settings, asdict(fit))).encode()).hexdigest()[:12]}"
        state, processes = Path(folder_paths.get_output_directory(), FOLDER, f"{run}.pt"), OneProcess(device)
        training = Training(state, task.parameters, fit, settings=settings, processes=processes)
        loss = MotionLoss(task.unet, task.alphas, options=objective, empty=clips.empty)
        losses = training.run(loss.steps(clips.encoded(model, objective), processes), Reporter(name))
        weights = {key: value.detach().cpu() for key, value in task.parameters.items()}
        notes = {**task.notes, "data": f"{len(clips.latents)} clips", "steps": str(fit.steps)}
        path = str(Path(folder_paths.get_temp_directory(), FOLDER, f"{run}.safetensors"))
        write(task.file(weights), notes, path)
    for suffix in (".pt", ".png"):
        state.with_suffix(suffix).unlink(missing_ok=True)
    return Trained(path=path, weights=weights, notes=notes, losses=losses)


def settings_of(objective: MotionOptions, clips: Clips, task: Task) -> dict[str, Any]:
    """Return all that, with the options of the loop, decides the result."""
    return {
        **asdict(objective),
        **task.notes,
        "clips": clips.fingerprint(),
        "weights": sums(task),
        "velocity": task.unet.predicts_velocity,
        "alphas": task.alphas.sum().item(),
    }


def sums(task: Task) -> str:
    """Return a text that changes with the weights that a training starts from."""
    parts = [parameter.detach() for model in task.models for parameter in model.parameters()]
    return sha256(str([float(part.sum(dtype=torch.float32)) for part in parts]).encode()).hexdigest()


class Reporter:
    """Moves the node's progress bar, with the loss as its preview, and stops where the user interrupts."""

    def __init__(self, name: str):
        self.name = name
        self.bar: Any = None
        self.drawn = 0.0

    def __call__(self, progress: Progress) -> None:
        self.bar = self.bar or comfy.utils.ProgressBar(progress.steps)
        now, preview = time.monotonic(), None
        if now - self.drawn > SECONDS_OF_A_PREVIEW:
            self.drawn, preview = now, ("JPEG", draw_losses(progress.losses, self.name), None)
        self.bar.update_absolute(len(progress.losses), progress.steps, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()
