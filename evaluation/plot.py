"""Draws a score: what changes over a clip. Needs no ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .score import Score

WIDTH, PANEL, HEAD = 768, 168, 44  # pixels
LEFT, RIGHT, ABOVE, BELOW = 64, 20, 30, 26  # from a panel's edges to its axes
SCALE = 2  # drawn this much larger, for smooth lines
INK, FAINT, LINE, SEAM = "#22262e", "#c8ccd4", "#2a5bd7", "#f6d7b0"


def plot(score: Score) -> Tensor:
    """Return a picture (height, width, 3) in [0, 1] with the window seams marked.

    It has panels of motion, of the similarity of neighbours if it was measured, and of the warping error.
    """
    panels = [("Motion, pixels per frame", score.motion_of_steps, math.inf)]
    if score.similarity_of_steps:
        panels.append(("Smoothness: similarity of neighbouring frames times 100", score.similarity_of_steps, 100))
    panels.append(("Warping error times 1000", score.warping_error_of_steps, math.inf))
    picture = Image.new("RGB", (WIDTH * SCALE, (HEAD + PANEL * len(panels)) * SCALE), "white")
    draw = ImageDraw.Draw(picture)
    legend = "   Shaded: window seams." if score.seams else ""
    movement = "still" if score.still else f"motion {score.motion:.2f} pixels per frame"
    head = f"{score.frames} frames, {movement}, by {score.optical_flow}.{legend}"
    write(draw, (LEFT, 22), head, anchor="lm", size=16)
    for row, (title, values, most) in enumerate(panels):
        draw_panel(draw, HEAD + PANEL * row, title, values=values, axis=limits(values, most), seams=score.seams)
    smooth = picture.resize((WIDTH, picture.height // SCALE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(smooth)).float() / 255


def draw_panel(
    draw: ImageDraw.ImageDraw,
    top: int,
    title: str,
    values: Sequence[float],
    axis: tuple[float, float],
    seams: Sequence[int],
) -> None:
    """Draw a line of `values`, one for each step, below a title; `top` is in pixels."""
    (low, high), steps = axis, len(values)
    upper, lower = top + ABOVE, top + PANEL - BELOW

    def x(step: float) -> float:
        return SCALE * (LEFT + (step + 0.5) / steps * (WIDTH - LEFT - RIGHT))

    def y(value: float) -> float:
        return SCALE * (lower - (value - low) / (high - low) * (lower - upper))

    for seam in seams:
        draw.rectangle((x(seam - 0.5), y(high), x(seam + 0.5), y(low)), fill=SEAM)
    for value in (low, (low + high) / 2, high):
        draw.line((x(-0.5), y(value), x(steps - 0.5), y(value)), fill=FAINT, width=SCALE)
        write(draw, (LEFT - 8, y(value) / SCALE), f"{value:.4g}", anchor="rm")
    for step in range(0, steps, -(-steps // 12)):
        write(draw, (x(step) / SCALE, lower + 12), f"{step}-{step + 1}", anchor="mm")
    points = [(x(step), y(value)) for step, value in enumerate(values)]
    draw.line(points, fill=LINE, width=2 * SCALE, joint="curve")
    for px, py in points if steps <= 100 else ():
        draw.ellipse((px - 5, py - 5, px + 5, py + 5), fill=LINE)
    write(draw, (LEFT, top + ABOVE / 2 - 2), title, anchor="lm", size=15)


def limits(values: Sequence[float], most: float) -> tuple[float, float]:
    """Return round limits of an axis for values of at most `most`, wide enough for small changes to look small."""
    low, high = min(values), max(values)
    if low < 0.7 * high:
        low = 0.0
    room = max(high - low, 0.02 * abs(high), 0.1)
    unit = 10 ** math.floor(math.log10(room)) / 2
    high = min(math.ceil((low + room) / unit) * unit, most)
    return math.floor(min(low, high - room) / unit) * unit, high


def write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str, size: int = 13) -> None:
    """Write text; `at` and `size` are in pixels of the finished picture."""
    font = ImageFont.load_default(size * SCALE)
    draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=INK, font=font, anchor=anchor)
