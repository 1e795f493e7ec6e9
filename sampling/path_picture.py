"""A picture of motion paths: the way of each subject, and its box in some of the frames. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .motion_paths import ABSENT, MotionPath
from .window_picture import BACKGROUND, TEXT, WIDTH

COLOURS = ("#4f94e0", "#f5be5c", "#6cc48a", "#e0705f", "#b48ae0", "#5fd0d8")
BOXES = 4  # of a path, from its first frame to its last
DOT = 3  # pixels


def draw_paths(paths: Sequence[MotionPath], shape: float) -> Image.Image:
    """Draw paths into a picture whose height is `shape` times its width, with the frames' numbers at their boxes."""
    size = (WIDTH, min(max(round(WIDTH * shape), WIDTH // 4), 2 * WIDTH))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for number, path in enumerate(paths):
        colour, last = COLOURS[number % len(COLOURS)], len(path.boxes) - 1
        way = [at(size, *box.middle) for box in path.boxes if box is not ABSENT]
        draw.line(way, fill=colour, width=2)
        for x, y in way:
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour)
        for frame in sorted({round(last * i / (BOXES - 1)) for i in range(BOXES)}):
            box = path.boxes[frame]
            if box is not ABSENT:
                corners = at(size, box.left, box.top), at(size, box.right, box.bottom)
                draw.rectangle(corners, outline=colour)
                draw.text((corners[0][0] + 4, corners[0][1] + 2), str(frame), fill=colour, font=font)
    return sheet


def at(size: tuple[int, int], x: float, y: float) -> tuple[float, float]:
    """Return a place of the picture in pixels; far outside it nothing is drawn, however far that is."""
    return size[0] * min(max(x, -10.0), 10.0), size[1] * min(max(y, -10.0), 10.0)
