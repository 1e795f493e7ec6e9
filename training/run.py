"""Touches comfy. A training, from its configuration to a file that Load Motion Module or Load Motion LoRA reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from comfy.model_management import unload_all_models
from torch import Tensor

from ..motion_models.loader import load_motion_model
from ..motion_models.saving import write
from .checkpoint import Checkpoint, fingerprint, load_checkpoint
from .config import Config
from .data import Data, Encoders, Prompt, prepare
from .loop import Progress, Training
from .motion import MotionLoss
from .processes import OneProcess
from .samples import render
from .tasks import TASKS, Task, TaskOptions

IRRELEVANT = ("samples", "save_every", "output", "fit", "custom_nodes", "recompute")
"""Keys of a configuration that do not decide the result; [fit] is compared by the loop."""


def train(config: Config, processes: OneProcess, stop: Callable[[], bool] = lambda: False) -> Path:
    """Train and return the finished file.

    ValueError, in one sentence, for what cannot be trained. KeyboardInterrupt, with a state to resume from, after a
    step in which `stop` returns true.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(config)
    with task_for(config, checkpoint, processes.device) as task:
        empty, data = prepare_data(config, checkpoint, processes)
        unload_all_models()
        results = Results(config, checkpoint, task=task, processes=processes)
        training = Training(
            config.output / f"{config.name}.pt",
            task.parameters,
            config.fit,
            settings={**settings_of(config), "items in a step": config.objective.per_step(processes)},
            clips=data.identities(),
            may_change=config.data.may_change,
            processes=processes,
            save_every=config.save_every,
        )
        loss = MotionLoss(task.unet, task.alphas, options=config.objective, empty=empty)
        training.run(loss.steps(data, processes), results.report, stop)
        path = config.output / f"{config.name}.safetensors"
        if processes.index == 0:
            results.write(path, task.parameters, config.fit.steps)
    processes.end()
    return path


@dataclass(frozen=True)
class Results:
    """Writes the files of a training, finished or on the way, and samples of them."""

    config: Config
    checkpoint: Checkpoint
    task: Task
    processes: OneProcess

    def write(self, path: Path, values: Mapping[str, Tensor], step: int) -> None:
        """Write the values of a step as a file, and sampled clips beside it."""
        data = os.path.basename(self.config.data.folder or self.config.data.shards)  # the rest is nobody's business
        write(self.task.file(values), {**self.task.notes, "data": data, "steps": str(step)}, str(path))
        for sample, frames in render(self.config, self.checkpoint, path):
            self.processes.show(sample.stem, frames, step)
        unload_all_models()  # of ComfyUI's; the training has copies of its own

    def report(self, progress: Progress) -> None:
        """Write a file where samples are due."""
        step, every = len(progress.losses), self.config.samples.every
        if every and step % every == 0 and step < self.config.fit.steps:
            self.write(self.config.output / f"{self.config.name}_{step:06}.safetensors", progress.averages, step)


def prepare_data(config: Config, checkpoint: Checkpoint, processes: OneProcess) -> tuple[Prompt, Data]:
    """Return the empty prompt and the data, which the first process encodes and the others find in the cache."""

    @torch.no_grad()  # shards are encoded in the middle of the training
    def encode_frames(frames: Tensor) -> Tensor:
        return checkpoint.model.model.process_latent_in(checkpoint.vae.encode(frames))

    @torch.no_grad()
    def encode_text(text: str) -> Prompt:
        tokens = checkpoint.clip.tokenize(text)
        context, pooled = checkpoint.clip.encode_from_tokens(tokens, return_pooled=True)
        return Prompt(context[0].cpu(), pooled[0].cpu() if checkpoint.has_pooled_prompts else None)

    encoders = Encoders(
        encode_frames,
        encode_text,
        vae=fingerprint(config.vae or config.checkpoint),
        text_encoder=fingerprint(config.checkpoint, *config.loras),
    )

    def load() -> Data:
        return prepare(config.data, encoders, batch=config.objective.batch, seed=config.objective.seed)

    data = load() if processes.index == 0 else None
    processes.from_first(None)  # wait for it
    return encode_text(""), data or load()


def task_for(config: Config, checkpoint: Checkpoint, device: torch.device) -> AbstractContextManager[Task]:
    """Return the task of a configuration."""
    motion = load_motion_model(str(config.motion_module)) if config.motion_module else None
    options = TaskOptions(
        seed=config.objective.seed,
        device=device,
        dtype=config.objective.dtype,
        recompute=config.recompute,
        beta_schedule=config.beta_schedule,
        lora=config.lora,
        positions=config.positions,
        middle=config.middle,
        pictures=config.pictures,
        sparse_ctrl=config.sparse_ctrl,
        vae=checkpoint.vae,
    )
    return TASKS[config.train](checkpoint.model, motion, options)


def settings_of(config: Config) -> dict[str, Any]:
    """Return the values that, with the options of the loop, decide the result, as JSON has them: lists and texts."""
    values = {key: value for key, value in asdict(config).items() if key not in IRRELEVANT}
    for key in ("may_change", *([] if config.data.rate else ["frame_rate"])):
        del values["data"][key]
    return json.loads(json.dumps(values, default=str))
