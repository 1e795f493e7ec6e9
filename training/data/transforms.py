"""Crops and resizes decoded frames to the sizes of the training. Needs no ComfyUI."""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]
"""Height and width in pixels."""


def buckets(size: int) -> list[Size]:
    """Return sizes of about size x size pixels, up to four times as wide as high or the opposite.

    Sides are multiples of 64 (down to size 256) or of a quarter of the size, and always of 8.
    """
    step = max(8, min(64, size // 32 * 8))
    widths = range(-(-size // step) * step, 2 * size + 1, step)
    wide = [(max(1, round(size**2 / width / step)) * step, width) for width in widths]
    return wide + [(width, height) for height, width in wide if height != width]


def nearest_bucket(frame: Size, size: int) -> Size:
    """Return the bucket of the shape nearest to a frame's; of several, the one nearest to size x size pixels."""
    height, width = frame

    def distance(bucket: Size) -> tuple[float, float]:
        shape, area = bucket[1] / bucket[0], bucket[0] * bucket[1]
        return round(abs(log(shape * height / width)), 6), abs(log(area / size**2))

    return min(buckets(size), key=distance)


def fit(frame: Tensor, size: Size, place: tuple[float, float] = (0.5, 0.5), part: float = 1.0) -> Tensor:
    """Return a uint8 frame (H, W, 3) as (h, w, 3) in [0, 1], cropped to the shape of `size` and then resized.

    `place` is where the crop lies: 0 is the top or left, 0.5 the centre, 1 the bottom or right. `part` is the share
    of the largest possible crop's sides.
    """
    scale = part * min(frame.shape[0] / size[0], frame.shape[1] / size[1])
    height, width = (max(1, round(scale * side)) for side in size)
    top, left = round(place[0] * (frame.shape[0] - height)), round(place[1] * (frame.shape[1] - width))
    crop = frame[top : top + height, left : left + width].permute(2, 0, 1)[None].float() / 255
    if crop.shape[2:] != size:
        crop = F.interpolate(crop, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    return crop[0].permute(1, 2, 0)


def flip(frames: Tensor) -> Tensor:
    """Return the mirror image of frames (..., h, w, 3)."""
    return torch.flip(frames, (-2,))
