"""Trains what lets the miniature see pictures: `python -m animatediff_native.demo.train_keyframes`.

Draws clips as videos, trains two SparseCtrl models and PIA's picture input on them with `python -m training`, as a user
would, and writes the results in fp16. Takes about two hours on two CPU cores.
"""

import argparse
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file

from .clips import write_clips
from .fine_tune import MODULE, train
from .train import MODELS

OBJECTIVE = {"loss": "velocity", "least": 0.05, "batch": 2, "caption_dropout": 0.3}
MODELS_OF_PICTURES: dict[str, dict[str, Any]] = {
    "controlnet/miniature_sparse_rgb": {"train": "SparseCtrl", "sparse_ctrl": {"sees": "rgb"}},
    "controlnet/miniature_sparse_scribble": {"train": "SparseCtrl", "sparse_ctrl": {"sees": "scribble"}},
    "animatediff_models/miniature_pia": {"train": "motion module", "pictures": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, default=Path("output") / "keyframes", help="clips, state and curves")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the finished files go")
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    clips = write_clips(options.run_dir / "clips", 130, seed=11)
    for name, settings in MODELS_OF_PICTURES.items():
        trained = train(
            options.run_dir,
            Path(name).name,
            clips,
            motion_module=str(MODULE),
            data={"folder": str(clips), "stride": 1, "size": 96, "flip": True},
            fit={"steps": options.steps, "learning_rate": 7e-4},
            objective=OBJECTIVE,
            **settings,
        )
        write_half(trained, options.models / f"{name}.safetensors")


def write_half(file: Path, half: Path) -> None:
    """Write a file's weights in fp16, with its metadata."""
    with safetensors.safe_open(file, "pt") as weights:
        metadata = weights.metadata()
    save_file({key: value.half() for key, value in load_file(file).items()}, half, metadata=metadata)
    print(half)


if __name__ == "__main__":
    main()
