"""Trains what lets the miniature see pictures: `python -m animatediff_native.demo.train_keyframes`.

Draws clips as videos, trains two SparseCtrl models and PIA on them with `python -m training`, as a user would, and
writes the results in fp16. Interrupted, it goes on where it was.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file

from . import shapes
from .clips import write_clips
from .fine_tune import MODULE, train
from .train import MODELS

OBJECTIVE = {"loss": "velocity", "least": 0.05, "batch": 2, "caption_dropout": 0.3}


def train_sparse_ctrl(sees: str, train_on: Callable[..., Path], data: dict[str, Any]) -> Path:
    """Train a SparseCtrl on stills, which teach it most quickly what a picture means, and then on clips."""
    on_stills = train_on(
        f"stills_{sees}",
        train="SparseCtrl",
        motion_module=str(MODULE),
        data=data | {"frames": 1},
        fit={"steps": 700, "learning_rate": 2e-3},
        objective=OBJECTIVE | {"batch": 10},
        sparse_ctrl={"sees": sees},
    )
    return train_on(
        f"miniature_sparse_{sees}",
        train="SparseCtrl",
        motion_module=str(MODULE),
        data=data,
        fit={"steps": 1500, "learning_rate": 1e-3},
        objective=OBJECTIVE,
        sparse_ctrl={"sees": sees, "start": str(on_stills)},
    )


def train_pia(train_on: Callable[..., Path], data: dict[str, Any]) -> Path:
    """Train PIA from the miniature's motion module, at first on short clips, whose frames are all like the picture."""
    # With an offset, or it reads the background's tint from the noisy clip alone.
    settings = {"train": "motion module", "pictures": True, "objective": OBJECTIVE | {"noise_offset": 0.1}}
    on_short_clips = train_on(
        "short_pia",
        motion_module=str(MODULE),
        data=data | {"frames": 4},
        fit={"steps": 1000, "learning_rate": 1e-3},
        **(settings | {"objective": settings["objective"] | {"batch": 8}}),
    )
    return train_on(
        "miniature_pia",
        motion_module=str(on_short_clips),
        data=data,
        fit={"steps": 1500, "learning_rate": 1e-3},
        **settings,
    )


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
