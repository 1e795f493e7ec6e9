"""A picture of keyframes with the frames that they belong to. Needs no ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from .window_picture import BACKGROUND, INK, TEXT, WIDTH

GAP, CAPTION = 8, 24  # pixels


def draw_keyframes(images: Tensor, frames: Sequence[int]) -> Image.Image:
    """Draw the pictures, (n, h, w, 3) from 0 to 1, in the order of their frames, with the frame's number below each."""
    columns = min(len(frames), max(3, math.ceil(math.sqrt(len(frames)))))
    rows = math.ceil(len(frames) / columns)
    width = (WIDTH - GAP) // columns - GAP
    height = min(max(width * images.shape[1] // images.shape[2], 1), 2 * width)
    sheet = Image.new("RGB", (WIDTH, GAP + rows * (height + CAPTION)), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    ordered = sorted(zip(frames, images, strict=True), key=lambda keyframe: keyframe[0])
    for i, (frame, image) in enumerate(ordered):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + CAPTION)
        pixels = (image[..., :3].expand(-1, -1, 3).clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()
        sheet.paste(ImageOps.pad(Image.fromarray(pixels), (width, height), color=BACKGROUND), (x, y))
        draw.text((x + width / 2, y + height + CAPTION / 2), str(frame), fill=INK, font=font, anchor="mm")
    return sheet
