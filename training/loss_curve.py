"""Draws the loss of a training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import log10

from PIL import Image, ImageDraw

SIZE = (640, 320)
MARGIN = 44
PAPER, INK, LOSS, MEAN = "white", "#5b6472", "#c8ccd4", "#2a5bd7"


def draw_losses(losses: Sequence[float], title: str) -> Image.Image:
    """Return a picture of every step's loss in grey and its running mean over a fiftieth of the steps in blue.

    The axis is logarithmic.
    """
    picture = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 12), f"{title}: step {len(losses)}", fill=INK)
    logs = [log10(max(loss, 1e-9)) for loss in losses]
    if not logs:
        return picture
    window = max(1, len(logs) // 50)
    low, high = min(logs), max(logs)
    span = max(high - low, 0.1)
    width, height = SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN

    def place(step: float, value: float) -> tuple[float, float]:
        return MARGIN + width * step / max(1, len(logs) - 1), MARGIN + height * (high - value) / span

    for value in (low, (low + high) / 2, high):
        x, y = place(0, value)
        draw.line(((x, y), (x + width, y)), fill="#eceef2")
        draw.text((x - 4, y), f"{10**value:.3g}", fill=INK, anchor="rm")
    draw.line([place(step, value) for step, value in enumerate(logs)], fill=LOSS)
    sums = [0.0, *accumulate(losses)]
    means = [(b - a) / window for a, b in zip(sums, sums[window:], strict=False)]
    smooth = [place(i + (window - 1) / 2, log10(max(mean, 1e-9))) for i, mean in enumerate(means)]
    draw.line(smooth, fill=MEAN, width=2)
    draw.text((MARGIN + width, MARGIN + height + 14), f"mean of the last {window}: {means[-1]:.4g}", INK, anchor="rm")
    return picture
