"""Measures how steady long clips of the miniature are: `python -m animatediff_native.demo.long_clips`.

Clips of 64 and 200 frames are sampled through ComfyUI with each schedule and each fuse of Sliding Context, with and
without FreeNoise. Writes the table of docs/measurements/long_clips.md, a row at a time.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import metrics
from .evaluate import PROMPTS, Miniature, with_module
from .train import DEMO, MODELS, use_cpu

RESULTS = DEMO.parent / "docs" / "measurements" / "long_clips.md"
COLUMNS = ("seam", "step px", "jerk px", "join", "colour drift %", "shape %")
HEAD = """# Long clips

{date}, {machine}: the miniature's base model, {seeds} of each row. This measures them:

    python tools/dev.py run -- python -m animatediff_native.demo.long_clips

- *seam*: how much neighbouring frames differ where one window passes into another, with the movement taken out, divided
  by the same elsewhere. 1 means no visible seam.
- *step*, *jerk*: how far the shape moves from frame to frame, and the third difference of its path.
- *join*: how far it moves from the last frame to the first, divided by the mean step: about 1 in a closed loop.
- *colour drift*: how much its mean colour differs between the first 16 frames and the last 16, in percent of white.
- *shape*: frames that show the shape of the prompt.

"""


@dataclass(frozen=True)
class Row:
    """The settings of one row of the table."""

    frames: int
    schedule: str
    fuse: str
    free_noise: bool

    def options(self) -> Any:
        from ..sampling.context_windows import ContextOptions

        return ContextOptions(schedule=self.schedule, fuse=self.fuse, free_noise=self.free_noise)

    def seams(self) -> list[bool]:
        """Return for each pair of neighbouring frames whether the windows around them change.

        The windows are those of the first sampling step, which decides the path of a clip.
        """
        windows, _ = replace(self.options(), stride=1).windows(self.frames, 0, 1)
        of_frame = [{i for i, window in enumerate(windows) if frame in window} for frame in range(self.frames)]
        return [a != b or len(a) > 1 for a, b in pairwise(of_frame)]


def rows(lengths: list[int]) -> Iterator[Row]:
    from ..sampling.windows import FUSES, SCHEDULES

    choices = [(schedule, "pyramid") for schedule in SCHEDULES] + [("static", fuse) for fuse in FUSES[1:]]
    for frames in lengths:
        for free_noise in (True, False):
            yield from (Row(frames, *choice, free_noise) for choice in choices)


@dataclass
class Measured:
    """Measurements of the clips of one row."""

    at_seams: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    jerk: list[float] = field(default_factory=list)
    join: list[float] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    shape: list[float] = field(default_factory=list)

    def add(self, clip: Tensor, seams: list[bool], shape: str) -> None:
        """Add a clip (f, 3, h, w) in [0, 1]."""
        frames = [metrics.read_frame(picture) for picture in clip]
        self.shape.append(100 * sum(frame is not None and frame.shape == shape for frame in frames) / len(frames))
        path = [frame.centroid if frame else None for frame in frames]
        for i, seam in enumerate(seams):
            a, b = path[i], path[i + 1]
            if a is not None and b is not None:
                (self.at_seams if seam else self.elsewhere).append(difference(clip[i], a, clip[i + 1], b))
        seen = [place for place in path if place is not None]
        step = metrics.displacement(seen)
        self.step.append(step)
        self.jerk.append(metrics.jerk(seen))
        self.join.append(float(np.linalg.norm(np.subtract(seen[-1], seen[0]))) / step)
        self.drift.append(100 * float((mean_colour(clip[:16]) - mean_colour(clip[-16:])).abs().mean()))

    def columns(self) -> dict[str, float]:
        seam = mean(self.at_seams) / mean(self.elsewhere)
        values = [seam, *map(mean, (self.step, self.jerk, self.join, self.drift, self.shape))]
        return dict(zip(COLUMNS, values, strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def difference(a: Tensor, place_a: tuple[float, float], b: Tensor, place_b: tuple[float, float]) -> float:
    """Return the mean absolute difference of two pictures (3, h, w) around their shapes' centroids (x, y)."""
    return float((cut_out(a, place_a) - cut_out(b, place_b)).abs().mean())


def cut_out(picture: Tensor, place: tuple[float, float], size: int = metrics.CROP) -> Tensor:
    """Return size x size pixels around a place, which may lie between pixels, interpolated bilinearly."""
    h, w = picture.shape[1:]
    around = torch.arange(size) - (size - 1) / 2
    x, y = ((place[0] + around) * 2 / w - 1, (place[1] + around) * 2 / h - 1)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(picture[None], grid, padding_mode="border", align_corners=False)[0]


def mean_colour(clip: Tensor) -> Tensor:
    """Return the mean colour of the saturated pixels of a clip (f, 3, h, w), which are the shape's."""
    saturated = (clip.amax(1) - clip.amin(1)) > metrics.SATURATED
    return clip.movedim(1, -1)[saturated].mean(0)


def measure(miniature: Miniature, model: Any, row: Row, seeds: int) -> Measured:
    from ..sampling.clips import apply_sliding_context

    model, measured = apply_sliding_context(model, row.options()), Measured()
    for seed, (colour, shape) in enumerate(PROMPTS[:seeds]):
        measured.add(miniature.sample(model, f"a {colour} {shape}", seed, row.frames), row.seams(), shape)
    return measured


def line(row: Row, columns: dict[str, float]) -> str:
    free_noise = "yes" if row.free_noise else "no"
    numbers = (f"{value:.2f}" if name in ("seam", "join") else f"{value:.1f}" for name, value in columns.items())
    return f"| {row.frames} | {row.schedule} | {row.fuse} | {free_noise} | " + " | ".join(numbers) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 200])
    parser.add_argument("--seeds", type=int, help="of each row; default 3 up to 64 frames, 1 beyond")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    use_cpu()
    miniature = Miniature(options.models)
    model = with_module(miniature.base, options.models / "animatediff_models" / "miniature_motion.safetensors")
    seeds = {frames: options.seeds or (3 if frames <= 64 else 1) for frames in options.frames}
    seeds_per_row = ", ".join(f"{n} seed{'s' * (n > 1)} of {frames} frames" for frames, n in seeds.items())
    machine = f"{os.cpu_count()} CPU cores, torch {torch.__version__}"
    text = HEAD.format(date=time.strftime("%d %B %Y"), machine=machine, seeds=seeds_per_row)
    text += "| frames | schedule | fuse | FreeNoise | " + " | ".join(COLUMNS) + " |\n"
    text += "|--:|---|---|---|" + "--:|" * len(COLUMNS) + "\n"
    with torch.inference_mode():
        for row in rows(options.frames):
            result = line(row, measure(miniature, model, row, seeds[row.frames]).columns())
            text += result + "\n"
            print(result, flush=True)
            options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
