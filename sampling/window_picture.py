"""A picture of context windows: which frames of the clip each call of the model sees. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, RULER, TEXT = 512, 16, 28, 16  # pixels; the ruler below the rows holds the frames' numbers
ROWS, HIGHEST, HIGHEST_ROW = 40, 240, 18
STEPS = [digit * 10**zeros for zeros in range(9) for digit in (1, 2, 5)]  # from a number of the ruler to the next
INK = "#d9dde5"
BACKGROUND, UNSEEN, SEEN, SHARED = COLOURS = ((32, 35, 42), (49, 54, 64), (79, 148, 224), (245, 190, 92))


def draw_windows(windows: Sequence[Sequence[int]], frames: int, width: int = WIDTH) -> Image.Image:
    """Draw a row for each window: frames that it alone sees are blue, frames that another window sees too are yellow.

    The 41st window begins again in the first row. Where a clip has more frames than pixels, each shows several.
    """
    cells = to_rows(windows, frames)
    height = min(HIGHEST // len(cells), HIGHEST_ROW)
    across = width - 2 * MARGIN
    first = np.arange(across) * frames // across  # frame of each pixel
    pixels = np.maximum.reduceat(cells, first, axis=1).repeat(height, axis=0)
    pixels[height - 1 :: height] = 0
    if across >= 5 * frames:
        pixels[:, 1:][:, np.diff(first) > 0] = 0
    picture = Image.new("RGB", (width, MARGIN + len(pixels) + RULER), BACKGROUND)
    picture.paste(Image.fromarray(np.array(COLOURS, dtype=np.uint8)[pixels]), (MARGIN, MARGIN))
    label_frames(ImageDraw.Draw(picture), frames, across, y=MARGIN + len(pixels) + RULER // 2)
    return picture


def to_rows(windows: Sequence[Sequence[int]], frames: int) -> np.ndarray:
    """Return (rows, frames) of indices into COLOURS."""
    seen = np.zeros((min(len(windows), ROWS), frames), dtype=bool)
    calls = np.zeros(frames, dtype=int)
    for number, window in enumerate(windows):
        seen[number % ROWS, list(window)] = True
        calls[list(window)] += 1
    return np.where(seen, np.where(calls > 1, 3, 2), 1)


def label_frames(draw: ImageDraw.ImageDraw, frames: int, across: int, y: int) -> None:
    """Write the first frame, the last, and round numbers between them where there is room."""
    font = ImageFont.load_default(TEXT)
    widest = font.getlength(str(frames))
    room = 1.8 * widest / across * frames
    step = next(step for step in STEPS if step >= room)
    for frame in (0, *range(step, int(frames - 1 - room) + 1, step), frames - 1):
        x = min(MARGIN + (frame + 0.5) / frames * across, MARGIN + across - widest / 2)
        draw.text((x, y), str(frame), fill=INK, font=font, anchor="mm")
