"""Measures how clips follow a dragged cut-out: `python -m animatediff_native.demo.drag`.

A shape of a drawn picture is cut out and dragged along a bent path; the base model and the personalised one follow the
rough clip with several pairs of noise levels. Writes the table of docs/measurements/drag.md.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import metrics, shapes
from .evaluate import FRAMES, Miniature, with_module
from .keyframes import LOOKS, mean
from .train import DEMO, MODELS, use_cpu

RESULTS = DEMO.parent / "docs" / "measurements" / "drag.md"
COLUMNS = ("place px", "place sizes", "correlation", "shape %", "colour %", "step px", "jerk px")
LEVELS = [(0.4, 0.8), (0.5, 0.8), (0.6, 0.8), (0.7, 0.8), (0.6, 1.0), (0.8, 1.0)]
MARGIN = {"paper": 1.0, "neon": 6.0}  # pixels around the outline that belong to the shape
HEAD = """# Clips that follow a dragged cut-out

{date}, {machine}: the miniature, {seeds} seeds of each row. This measures them:

    python tools/dev.py run -- python -m animatediff_native.demo.drag --seeds {seeds}

A shape of a drawn picture is cut out with Drag Cut-out and dragged along a bent path. The clips follow it with Follow
Rough Clip, at the noise levels *inside* and *outside*. *none* is a clip of the same prompt and seed that follows
nothing, and *rough* is the rough clip itself.

- *place*: mean distance between the shape and the place on the path, in pixels and in sizes of the shape.
- *correlation*: of the shape's path with the one that was asked for.
- *shape*, *colour*: frames that show what was cut out.
- *step*, *jerk*: how far the shape moves from frame to frame, and the third difference of its path.

"""


class Task(NamedTuple):
    """A cut-out to drag."""

    scene: shapes.Scene
    picture: Tensor
    """(1, h, w, 3)"""
    mask: Tensor
    """(1, h, w)"""
    path: str
    places: np.ndarray
    """(FRAMES, 2): x and y in pixels."""


def task(seed: int, look: str) -> Task:
    """Return a shape at the start of a random way, which is dragged through the middle of that way to its end."""
    from ..sampling import paths

    clip = shapes.random_clip(1, FRAMES, torch.Generator().manual_seed(60_000 + seed))
    scene = shapes.Scene(*(value[:1] for value in vars(clip).values()))
    keys = {0: 0, 8: 8, -1: FRAMES - 1}
    lines = (f"{key}: {{:.2%}} {{:.2%}}".format(*(clip.centre[at] / shapes.SIZE).tolist()) for key, at in keys.items())
    path = "\n".join(lines)
    places = np.array([(pose.x, pose.y) for pose in paths.poses(paths.parse(path), FRAMES)]) * shapes.SIZE
    mask = (shapes.signed_distance(scene) < MARGIN[look]).float()
    return Task(scene, picture=shapes.draw(scene, look).movedim(1, -1), mask=mask, path=path, places=places)


@dataclass
class Measured:
    """Measurements of the clips of one row."""

    place: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    correlation: list[float] = field(default_factory=list)
    shape: list[bool] = field(default_factory=list)
    colour: list[bool] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    jerk: list[float] = field(default_factory=list)

    def add(self, clip: Tensor, task: Task) -> None:
        """Add a clip (f, 3, h, w). Frames without a visible shape count as wrong, and at no place."""
        frames = [metrics.read_frame(picture) for picture in clip]
        shape, colour = shapes.SHAPES[int(task.scene.shape[0])], list(shapes.COLOURS)[int(task.scene.colour[0])]
        self.shape += [frame is not None and frame.shape == shape for frame in frames]
        self.colour += [frame is not None and frame.colour == colour for frame in frames]
        seen = [(frame.centroid, place) for frame, place in zip(frames, task.places, strict=True) if frame]
        if len(seen) > 3:
            path, asked = (np.array(points) for points in zip(*seen, strict=True))
            distances = np.linalg.norm(path - asked, axis=1)
            self.place.append(float(distances.mean()))
            self.sizes.append(float(distances.mean()) / (2 * float(task.scene.radius[0])))
            self.correlation.append(correlation(path, asked))
            self.step.append(metrics.displacement(list(path)))
            self.jerk.append(metrics.jerk(list(path)))

    def row(self) -> str:
        shares = [100 * mean([float(hit) for hit in hits]) for hits in (self.shape, self.colour)]
        values = (mean(self.place), *shares, mean(self.step), mean(self.jerk))
        place, *rest = (f"{value:.1f}" for value in values)
        return " | ".join([place, f"{mean(self.sizes):.2f}", f"{mean(self.correlation):.2f}", *rest])


def correlation(path: np.ndarray, asked: np.ndarray) -> float:
    """Return Pearson's correlation of two ways (n, 2), over both of their coordinates."""
    a, b = path - path.mean(0), asked - asked.mean(0)
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def clips(miniature: Miniature, name: str, tasks: Sequence[Task], levels: tuple[float, float] | None, module: Path):
    """Yield the clip of each task at two noise levels, or without a rough clip at None."""
    from ..nodes.drag_cutout import DragCutout
    from ..nodes.follow_rough_clip import FollowRoughClip

    model, latent = with_module(getattr(miniature, name), module), None
    for seed, task in enumerate(tasks):
        followed = model
        if levels is not None:
            images, masks = DragCutout.execute(task.picture, task.mask, task.path, FRAMES).args
            noise = {"inside": levels[0], "outside": levels[1]}
            followed, latent = FollowRoughClip.execute(model, images, masks, miniature.vae, **noise).args
        yield miniature.sample(followed, shapes.captions(task.scene)[0], seed, latent=latent)


def rough_clips(tasks: Sequence[Task]):
    """Yield the rough clip of each task."""
    from ..nodes.drag_cutout import DragCutout

    for task in tasks:
        yield DragCutout.execute(task.picture, task.mask, task.path, FRAMES).args[0].movedim(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--seeds", type=int, default=32, help="clips of each row; default 32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    use_cpu()
    module = options.models / "animatediff_models" / "miniature_motion.safetensors"
    machine = f"{os.cpu_count()} CPU cores, torch {torch.__version__}"
    text = HEAD.format(date=time.strftime("%d %B %Y"), machine=machine, seeds=options.seeds)
    text += "| model | inside | outside | " + " | ".join(COLUMNS) + " |\n|---|--:|--:|" + "--:|" * len(COLUMNS) + "\n"
    with torch.inference_mode():
        miniature = Miniature(options.models)
        for name, look in LOOKS.items():
            tasks = [task(seed, look) for seed in range(options.seeds)]
            rows = {"rough | ": rough_clips(tasks)}
            rows["none | "] = clips(miniature, name, tasks, levels=None, module=module)
            for levels in LEVELS:
                rows["{} | {}".format(*levels)] = clips(miniature, name, tasks, levels=levels, module=module)
            for row, its_clips in rows.items():
                measured = Measured()
                for clip, its_task in zip(its_clips, tasks, strict=True):
                    measured.add(clip, its_task)
                text += f"| {name} | {row} | {measured.row()} |\n"
                options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
