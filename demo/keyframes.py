"""Measures how clips follow pictures: `python -m animatediff_native.demo.keyframes`.

The base model and the personalised one, which was in no training of theirs, get drawn pictures as keyframes: one at the
first frame, one at each end, or sketches at three frames. Writes the table of docs/measurements/keyframes.md, with a
row for each model that is there: PIA is not shipped.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import metrics, shapes
from .evaluate import FRAMES, Miniature
from .train import DEMO, MODELS, use_cpu

RESULTS = DEMO.parent / "docs" / "measurements" / "keyframes.md"
LOOKS = {"base": "paper", "personalised": "neon"}
COLUMNS = ("keyframe %", "place px", "shape %", "colour %", "step px", "jerk px")
HEAD = """# Clips that follow pictures

{date}, {machine}: the miniature with its SparseCtrl models, {seeds} seeds of each row. The personalised model was in no
training of theirs. This trains them, and this measures them:

    python tools/dev.py run -- python -m animatediff_native.demo.train_keyframes
    python tools/dev.py run -- python -m animatediff_native.demo.keyframes --seeds {seeds}

- *keyframe*: mean difference between a keyframe's picture and the clip's frame there, in percent of white. The
  autoencoder alone makes {autoencoder}; *none* is a clip of the same prompt that saw no picture.
- *place*: distance between the shape in a keyframe and the shape in the clip's frame there.
- *shape*, *colour*: frames that show what the prompt asks for.
- *step*, *jerk*: how far the shape moves from frame to frame, and the third difference of its path.

"""


@dataclass
class Measured:
    """Measurements of the clips of one row."""

    keyframe: list[float] = field(default_factory=list)
    place: list[float] = field(default_factory=list)
    shape: list[bool] = field(default_factory=list)
    colour: list[bool] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    jerk: list[float] = field(default_factory=list)

    def add(self, clip: Tensor, drawn: Tensor, scene: shapes.Scene, keyframes: Sequence[int]) -> None:
        """Add a clip (f, 3, h, w) that was to follow a drawn one at its keyframes."""
        frames = [metrics.read_frame(picture) for picture in clip]
        self.shape += [frame is not None and frame.shape == shapes.SHAPES[int(scene.shape[0])] for frame in frames]
        colour = list(shapes.COLOURS)[int(scene.colour[0])]
        self.colour += [frame is not None and frame.colour == colour for frame in frames]
        for keyframe in keyframes:
            self.keyframe.append(100 * float((clip[keyframe] - drawn[keyframe]).abs().mean()))
            frame = frames[keyframe]
            if frame is not None:
                self.place.append(float(np.linalg.norm(np.subtract(frame.centroid, scene.centre[keyframe].tolist()))))
        path = [frame.centroid for frame in frames if frame is not None]
        if len(path) > 3:
            self.step.append(metrics.displacement(path))
            self.jerk.append(metrics.jerk(path))

    def row(self) -> str:
        shares = (100 * sum(hits) / len(hits) for hits in (self.shape, self.colour))
        values = (mean(self.keyframe), mean(self.place), *shares, mean(self.step), mean(self.jerk))
        return " | ".join(f"{value:.1f}" for value in values)


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def drawn_clip(seed: int, look: str) -> tuple[shapes.Scene, Tensor]:
    """Return a random clip of a look as a scene and as pictures (f, 3, h, w)."""
    scene = shapes.random_clip(1, FRAMES, torch.Generator().manual_seed(50_000 + seed))
    return scene, shapes.draw(scene, look)


def sketches(scene: shapes.Scene) -> Tensor:
    """Return the outlines (f, 3, h, w) of a clip, drawn in blue since the Canny node does not see pale colours."""
    from .control import outlines

    blue = torch.full_like(scene.colour, list(shapes.COLOURS).index("blue"))
    return outlines(shapes.draw(replace(scene, colour=blue)))


class Row(NamedTuple):
    """How the clips of a row see pictures."""

    name: str
    positions: str = "0"
    sparse_ctrl: str = ""
    module: str = "miniature_motion"

    def motion_file(self, models: Path) -> Path:
        return models / "animatediff_models" / f"{self.module}.safetensors"

    def sparse_file(self, models: Path) -> Path:
        return models / "controlnet" / f"{self.sparse_ctrl}.safetensors"

    def is_there(self, models: Path) -> bool:
        """Return whether its models are trained."""
        return self.motion_file(models).exists() and (not self.sparse_ctrl or self.sparse_file(models).exists())


ROWS = (
    Row("none"),
    Row("first picture, SparseCtrl", sparse_ctrl="miniature_sparse_rgb"),
    Row("first picture, PIA", module="miniature_pia"),
    Row("first and last picture, SparseCtrl", positions="0, -1", sparse_ctrl="miniature_sparse_rgb"),
    Row("three sketches, SparseCtrl", positions="0, 8, -1", sparse_ctrl="miniature_sparse_scribble"),
)


def measure(miniature: Miniature, image_model: Any, look: str, row: Row, seeds: int, models: Path) -> Measured:
    """Return the measurements of a row of one image model."""
    from ..motion_models.loader import load_motion_model
    from ..sampling.animate import MotionSettings, animate
    from ..sampling.keyframes import KeyframeImages, Keyframes, parse_positions
    from ..sampling.pictures import PictureSettings
    from ..sampling.sparse_control import load_sparse_control

    module = load_motion_model(str(row.motion_file(models)))
    animated, positions = animate(image_model, module), parse_positions(row.positions)
    numbers = [int(position.frame(FRAMES)) for position in positions]
    measured = Measured()
    for seed in range(seeds):
        scene, drawn = drawn_clip(seed, look)
        seen = sketches(scene) if "scribble" in row.sparse_ctrl else drawn
        images = seen[numbers].movedim(1, -1)
        keyframes, control = Keyframes(images, positions, miniature.vae), None
        if row.sparse_ctrl:
            control = load_sparse_control(str(row.sparse_file(models)))
            control.set_cond_hint(KeyframeImages.of(keyframes, images).movedim(-1, 1))
        elif module.config.picture_input:
            animated = animate(image_model, module, MotionSettings(pictures=PictureSettings(keyframes)))
        clip = miniature.sample(animated, shapes.captions(scene)[0], seed, control=control)
        measured.add(clip, drawn, scene, numbers)
    return measured


def autoencoder_difference(miniature: Miniature, seeds: int) -> str:
    """Return how much the autoencoder alone changes the pictures of each look, in percent of white."""
    differences = []
    for look in LOOKS.values():
        pictures = torch.cat([drawn_clip(seed, look)[1][:1] for seed in range(seeds)])
        decoded = miniature.vae.decode(miniature.vae.encode(pictures.movedim(1, -1))).movedim(-1, 1)
        differences.append(f"{100 * float((decoded - pictures).abs().mean()):.1f} ({look})")
    return " and ".join(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--seeds", type=int, default=32, help="clips of each row; default 32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    use_cpu()
    miniature = Miniature(options.models)
    with torch.inference_mode():
        text = HEAD.format(
            date=time.strftime("%d %B %Y"),
            machine=f"{os.cpu_count()} CPU cores, torch {torch.__version__}",
            seeds=options.seeds,
            autoencoder=autoencoder_difference(miniature, options.seeds),
        )
        text += "| model | keyframes | " + " | ".join(COLUMNS) + " |\n|---|---|" + "--:|" * len(COLUMNS) + "\n"
        for name, look in LOOKS.items():
            for row in (row for row in ROWS if row.is_there(options.models)):
                measured = measure(miniature, getattr(miniature, name), look, row, options.seeds, options.models)
                text += f"| {name} | {row.name} | {measured.row()} |\n"
    print(text)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
