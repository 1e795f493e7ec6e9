"""Draws the pictures of the help pages: `python -m animatediff_native.tools.build.help_pictures`.

They are written to web/docs/pictures and show the pack's own windows, weights, schedules and attention. Their only
words are names of options, so that the pages of all languages share them.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from animatediff_native import start_comfyui

from ...motion_models.motion_model import attend, sinusoids
from ...motion_models.schedules import BETA_SCHEDULES, BetaSchedule
from ...sampling.keyframe_picture import draw_keyframes
from ...sampling.motion_paths import MotionPath, boxes_of_poses
from ...sampling.path_picture import draw_paths
from ...sampling.paths import parse, poses
from ...sampling.window_picture import BACKGROUND, INK, SEEN, SHARED, UNSEEN, draw_windows
from ...sampling.windows import FUSES, SCHEDULES, fuse_weights, windows

ROOT = Path(__file__).resolve().parents[2]
PICTURES, DEMO_INPUT = ROOT / "web" / "docs" / "pictures", ROOT / "demo" / "input"
WIDTH, TEXT = 480, 17  # pixels; the editor shows help pages in a narrow column
SHARPER = 2  # curves are drawn this many times larger, so that they become smooth
FRAMES, LENGTH, OVERLAP = 40, 16, 4
COLOURS = [SEEN, SHARED, (117, 201, 133), (222, 122, 160)]
Point = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PICTURES)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    start_comfyui(cpu=True)
    for name, draw in PICTURE.items():
        draw().quantize(256, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)


def context_windows() -> Image.Image:
    """Draw the frames of each window of the default schedule."""
    left = 68
    shown = windows("static", FRAMES, LENGTH, overlap=OVERLAP)
    drawn = draw_windows(shown, FRAMES, WIDTH - left)
    canvas = Canvas(drawn.height)
    canvas.picture.paste(drawn, (left, 0))
    for row, window in enumerate(shown):
        canvas.write((left + 6, 16 + 18 * row + 9), f"{window[0]} - {window[-1]}", "rm")
    return canvas.picture


def window_schedules() -> Image.Image:
    """Draw a row for each schedule, with a column for each of the first two steps."""
    left, column, row = 104, 188, 116
    canvas = Canvas(30 + row * len(SCHEDULES))
    for step in range(2):
        canvas.write((left + column * (step + 0.5), 20), f"step {step + 1}", "mm")
    for number, schedule in enumerate(SCHEDULES):
        top = 30 + row * number
        canvas.write((12, top + 40), schedule, "lm")
        for step in range(2):
            shown = windows(schedule, FRAMES, LENGTH, overlap=OVERLAP, step=step)
            canvas.picture.paste(draw_windows(shown, FRAMES, column), (left + column * step, top))
    return canvas.picture


def fuse() -> Image.Image:
    """Draw each window's weight in each frame, for each fuse method."""
    canvas = Canvas(356, sharper=SHARPER)
    shown = windows("static", FRAMES, LENGTH, overlap=OVERLAP)
    for number, name in enumerate(FUSES):
        axes = Axes(canvas, left=40 + number % 2 * 234, top=38 + number // 2 * 176, width=190, height=106)
        axes.frame(name, across=[(frame / (FRAMES - 1), str(frame)) for frame in (0, 10, 20, 30, 39)])
        for window, weights, colour in zip(
            shown, fuse_weights(name, shown, FRAMES, overlap=OVERLAP), COLOURS, strict=False
        ):
            points = [(i / (FRAMES - 1), weight) for i, weight in zip(window, weights.tolist(), strict=True)]
            axes.line([(points[0][0], 0.0), *points, (points[-1][0], 0.0)], colour)
    return canvas.finish()


def beta_schedules() -> Image.Image:
    """Draw the share of noise in a latent at each timestep, a curve for all schedules with the same betas."""
    canvas = Canvas(320, sharper=SHARPER)
    axes = Axes(canvas, left=40, top=20, width=412, height=260)
    axes.frame("", across=[(timestep / 1000, str(timestep)) for timestep in range(0, 1001, 200)])
    curves: dict[tuple, list[str]] = {}
    for name, schedule in BETA_SCHEDULES.items():
        curves.setdefault(schedule[:3], []).append(name)
    for row, ((_, names), colour) in enumerate(zip(curves.items(), COLOURS, strict=True)):
        noise = share_of_noise(BETA_SCHEDULES[names[0]]).tolist()
        axes.line([(t / 999, share) for t, share in enumerate(noise)], colour)
        y = 160 + 28 * row
        canvas.line([(124, y), (146, y)], colour)
        canvas.write((154, y), ", ".join(names), "lm", size=16)
    return canvas.finish()


def share_of_noise(schedule: BetaSchedule) -> Tensor:
    """Return the standard deviation (1000,) of the noise in a latent of unit variance, as ComfyUI samples with it."""
    from comfy.model_sampling import ModelSamplingDiscrete

    sampling = ModelSamplingDiscrete()
    sampling._register_schedule(
        beta_schedule=schedule.beta_schedule, linear_start=schedule.linear_start, linear_end=schedule.linear_end
    )
    sigmas: Tensor = sampling.sigmas  # type: ignore[assignment]
    return sigmas / (1 + sigmas**2).sqrt()


def motion_scale() -> Image.Image:
    """Draw how much of each frame (a column) goes into each frame (a row), for three motion scales."""
    frames, cell, gap = 16, 8, 24
    canvas = Canvas(210)
    most = float(attention(frames, 2.0).max())
    for number, scale in enumerate((0.5, 1.0, 2.0)):
        left, top = 34 + number * (frames * cell + gap), 42
        canvas.write((left + frames * cell / 2, 22), f"{scale:g}", "mm", size=20)
        for row, weights in enumerate(attention(frames, scale).tolist()):
            for column, weight in enumerate(weights):
                x, y = left + column * cell, top + row * cell
                canvas.draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=heat(weight / most))
        for frame in (0, 15):
            canvas.write((left + (frame + 0.5) * cell, top + frames * cell + 18), str(frame), "mm")
            if number == 0:
                canvas.write((left - 6, top + (frame + 0.5) * cell), str(frame), "rm")
    return canvas.picture


def attention(frames: int, scale: float) -> Tensor:
    """Return the motion module's attention weights (frames, frames) where frames differ by their positions alone."""
    positions = sinusoids(frames, 64)
    return attend(positions, positions, torch.eye(frames, 64)[None], heads=1, motion_scale=scale)[0, :, :frames]


def keyframe_motion() -> Image.Image:
    """Draw PIA's affinities over a clip with a picture at its first frame, a panel for each kind."""
    from ...sampling.pictures import affinities

    canvas, amounts = Canvas(356, sharper=SHARPER), ("small", "moderate", "large")
    for number, kind in enumerate(("", "loop", "style transfer")):
        axes = Axes(canvas, left=40 + number % 2 * 234, top=38 + number // 2 * 176, width=190, height=106)
        axes.frame(kind, across=[(frame / 15, str(frame)) for frame in (0, 5, 10, 15)])
        for amount, colour in zip(amounts, COLOURS, strict=False):
            values = affinities(f"{amount} {kind}".strip(), places=[0], clip=16).tolist()
            axes.line([(frame / 15, value) for frame, value in enumerate(values)], colour)
    for row, (amount, colour) in enumerate(zip(amounts, COLOURS, strict=False)):
        y = 250 + 28 * row
        canvas.line([(284, y), (306, y)], colour)
        canvas.write((314, y), amount, "lm", size=16)
    return canvas.finish()


def keyframes() -> Image.Image:
    """Draw what Keyframe Images shows of the sketches of an example."""
    files = [DEMO_INPUT / f"sketch_{number}.png" for number in (1, 2, 3)]
    sketches = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) / 255.0 for file in files])
    return ImageOps.contain(draw_keyframes(sketches, (0, 8, 15)), (WIDTH, WIDTH))


def motion_paths() -> Image.Image:
    """Draw what Motion Path shows of two subjects that cross."""
    ways = "0: 20% 25%; 8 ease: 50% 50%; -1: 80% 75%", "0: 80% 30% scale 70%; -1: 20% 70%"
    boxes = [boxes_of_poses(poses(parse(way), 16), width=0.3, height=0.3) for way in ways]
    return ImageOps.contain(draw_paths([MotionPath(of_subject) for of_subject in boxes], 0.75), (WIDTH, WIDTH))


def heat(share: float) -> tuple[int, ...]:
    """Return a colour from dark through blue to yellow for a share from 0 to 1."""
    low, high, way = (UNSEEN, SEEN, 2 * share) if share < 0.5 else (SEEN, SHARED, min(2 * share - 1, 1.0))
    return tuple(round(a + (b - a) * way) for a, b in zip(low, high, strict=True))


class Canvas:
    """A picture that is drawn `sharper` times larger; positions are in pixels of the finished one."""

    def __init__(self, height: int, sharper: int = 1):
        self.sharper = sharper
        self.picture = Image.new("RGB", (WIDTH * sharper, height * sharper), BACKGROUND)
        self.draw = ImageDraw.Draw(self.picture)

    def write(self, at: Point, text: str, anchor: str, size: int = TEXT) -> None:
        font = ImageFont.load_default(size * self.sharper)
        self.draw.text(self.larger([at])[0], text, fill=INK, font=font, anchor=anchor)

    def line(self, points: Iterable[Point], colour: tuple[int, int, int], width: int = 3) -> None:
        self.draw.line(self.larger(points), fill=colour, width=width * self.sharper, joint="curve")

    def larger(self, points: Iterable[Point]) -> list[Point]:
        return [(x * self.sharper, y * self.sharper) for x, y in points]

    def finish(self) -> Image.Image:
        size = (WIDTH, self.picture.height // self.sharper)
        return self.picture.resize(size, Image.Resampling.LANCZOS)


class Axes:
    """A part of a canvas in which 0 to 1 runs from left to right and from bottom to top."""

    def __init__(self, canvas: Canvas, left: int, top: int, width: int, height: int):
        self.canvas = canvas
        self.left, self.top, self.width, self.height = left, top, width, height

    def frame(self, title: str, across: Sequence[tuple[float, str]]) -> None:
        for value in (0.0, 0.5, 1.0):
            self.line([(0.0, value), (1.0, value)], UNSEEN, 2)
            self.canvas.write(self.at(0.0, value, right=-7), f"{value:g}", "rm")
        for x, text in across:
            self.canvas.write(self.at(x, 0.0, down=17), text, "mm")
        self.canvas.write(self.at(0.5, 1.0, down=-18), title, "mm")

    def line(self, points: Iterable[Point], colour: tuple[int, int, int], width: int = 3) -> None:
        self.canvas.line([self.at(*point) for point in points], colour, width)

    def at(self, x: float, y: float, right: int = 0, down: int = 0) -> Point:
        return self.left + x * self.width + right, self.top + (1 - y) * self.height + down


PICTURE: dict[str, Callable[[], Image.Image]] = {
    "context_windows": context_windows,
    "window_schedules": window_schedules,
    "fuse": fuse,
    "beta_schedules": beta_schedules,
    "motion_scale": motion_scale,
    "keyframe_motion": keyframe_motion,
    "keyframes": keyframes,
    "motion_paths": motion_paths,
}

if __name__ == "__main__":
    main()
