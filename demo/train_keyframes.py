"""Trains what lets the miniature see pictures: `python -m animatediff_native.demo.train_keyframes`.

Draws clips as videos, trains two SparseCtrl models and PIA on them with `python -m training`, as a user would, and
writes the results in fp16. Interrupted, it goes on where it was.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from safetensors.torch import load_file, save_file

from . import shapes
from .clips import FRAMES, write_clips
from .fine_tune import MODULE, train
from .train import MODELS

OBJECTIVE = {"loss": "velocity", "least": 0.05, "caption_dropout": 0.3, "from_noise": 1.0}


class Stage(NamedTuple):
    """Settings of one of the trainings, each of which goes on with what the one before it has learned."""

    name: str
    frames: int
    batch: int
    steps: int
    learning_rate: float

    def settings(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "data": data | {"frames": self.frames},
            "fit": {"steps": self.steps, "learning_rate": self.learning_rate},
            "objective": OBJECTIVE | {"batch": self.batch},
        }


# Stills teach most quickly what a picture means, and short clips, all of whose frames are like it, that others follow.
STILLS, SHORT = Stage("stills", 1, 10, 700, 2e-3), Stage("short", 4, 6, 900, 1e-3)
CLIPS = Stage("clips", FRAMES, 2, 700, 7e-4)


def train_sparse_ctrl(sees: str, train_on: Callable[..., Path], data: dict[str, Any]) -> Path:
    start: dict[str, Any] = {}
    for stage in (STILLS, SHORT, CLIPS):
        options = {"train": "SparseCtrl", "motion_module": str(MODULE), "sparse_ctrl": {"sees": sees} | start}
        file = train_on(f"{stage.name}_{sees}", **options, **stage.settings(data))
        start = {"start": str(file)}
    return file


def train_pia(train_on: Callable[..., Path], data: dict[str, Any]) -> Path:
    """Train PIA from the miniature's motion module."""
    file = MODULE
    for stage in (SHORT, CLIPS):
        options = {"train": "motion module", "pictures": True, "motion_module": str(file)}
        file = train_on(f"{stage.name}_pia", **options, **stage.settings(data))
    return file


TRAININGS: dict[str, Callable[..., Path]] = {
    "controlnet/miniature_sparse_rgb": partial(train_sparse_ctrl, "rgb"),
    "controlnet/miniature_sparse_scribble": partial(train_sparse_ctrl, "scribble"),
    "animatediff_models/miniature_pia": train_pia,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, default=Path("output") / "keyframes", help="clips, states and curves")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the finished files go")
    parser.add_argument("--only", choices=[name.rsplit("_", 1)[1] for name in TRAININGS], help="default: all")
    options = parser.parse_args()
    run_dir = options.run_dir.resolve()
    clips = write_clips(run_dir / "clips", 130, seed=11)
    data = {"folder": str(clips), "stride": 1, "size": shapes.SIZE, "flip": True}

    def train_on(name: str, **settings: Any) -> Path:
        return train(run_dir, name, clips, **settings)

    for name, training in TRAININGS.items():
        if options.only is None or name.endswith(options.only):
            write_half(training(train_on=train_on, data=data), options.models / f"{name}.safetensors")


def write_half(file: Path, half: Path) -> None:
    """Write a file's weights in fp16, with its metadata."""
    with safetensors.safe_open(file, "pt") as weights:
        metadata = weights.metadata()
    save_file({key: value.half() for key, value in load_file(file).items()}, half, metadata=metadata)
    print(half)


if __name__ == "__main__":
    main()
