"""Configurations that train the miniature on clips of its own look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from animatediff_native.demo.clips import UP, write_clips
from animatediff_native.demo.fine_tune import MODULE, toml
from animatediff_native.demo.train import DEMO, MODELS
from animatediff_native.training.loop import FitOptions, Training, seeded

CHECKPOINT = MODELS / "checkpoints" / "miniature.safetensors"


def drawn_clips(folder: Path, count: int) -> Path:
    """Videos of shapes that go up, each with its caption in a text file."""
    return write_clips(folder, count, UP)


def configuration(clips: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """A step of a motion LoRA."""
    config: dict[str, Any] = {
        "train": "motion LoRA",
        "name": "m",
        "checkpoint": str(CHECKPOINT),
        "motion_module": str(MODULE),
        "custom_nodes": [str(DEMO / "comfyui-miniature")],
        "output": str(output),
        "data": {"folder": str(clips), "frames": 4, "stride": 1, "size": 64},
        "fit": {"steps": 1, "learning_rate": 1e-3},
        "objective": {"loss": "velocity"},
        "lora": {"rank": 2},
    }
    return {key: value for key, value in (config | changes).items() if value is not None}


def write_config(file: Path, config: dict[str, Any]) -> Path:
    file.write_text(toml(config), encoding="utf-8")
    return file


def fit_a_line(folder: Path) -> None:
    """Fit weights to noise in 150 steps, each saved as the state `line.pt`, and write them to `end.pt`."""
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    weight = Parameter(torch.zeros(400, 400))

    def loss(generator: torch.Generator) -> torch.Tensor:
        return (weight - torch.randn(400, 400, generator=generator)).square().mean()

    training = Training(folder / "line.pt", {"weight": weight}, FitOptions(150, 0.1), save_every=0.0)
    training.run(seeded(loss, 0))
    torch.save(weight.data, folder / "end.pt")
