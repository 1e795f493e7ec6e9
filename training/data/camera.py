"""Makes camera movements from stills or clips, for motion LoRAs (arXiv 2307.04725, section 4.3). Needs no ComfyUI.

A movement says where the camera goes, and the picture goes the opposite way: panning left, things move to the right.
It is the path of a view, a crop of the picture that shrinks or grows, slides or turns, at a constant speed.
"""

from __future__ import annotations

from math import cos, pi, sin
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Movement = Literal[
    "zoom in",
    "zoom out",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "roll clockwise",
    "roll anticlockwise",
]


def camera_path(movement: str, frames: int, amount: float, shape: float) -> Tensor:
    """Return (frames, 2, 3) affine maps from a view's coordinates to the picture's, both -1 to 1.

    View and picture have the same width / height `shape`.

    `amount` is above 0 and below 1. Zoom: the closest view's sides are 1 - amount of the widest's, and each view is
    larger than the next by the same factor. Pan and tilt: the view slides over this share of the picture's side. Roll:
    the view turns by this share of a right angle, half of it to each side of upright, and is the largest in which no
    corner is ever empty.
    """
    kind, direction = movement.split()
    # From 0 to 1, or for the opposite direction back.
    time = torch.linspace(0, 1, frames, dtype=torch.float64)
    time = time if direction in ("in", "right", "down", "clockwise") else 1 - time
    size, angle = torch.ones_like(time), torch.zeros_like(time)
    across, down = torch.zeros_like(time), torch.zeros_like(time)
    if kind == "zoom":
        size = (1 - amount) ** time
    elif kind == "roll":
        largest = amount * pi / 4
        angle = largest * (2 * time - 1)
        size = size / (cos(largest) + max(shape, 1 / shape) * sin(largest))
    else:
        size, slide = size - amount, amount * (2 * time - 1)
        across, down = (slide, down) if kind == "pan" else (across, slide)
    turn, lean = size * angle.cos(), size * angle.sin()
    rows = torch.stack([turn, -lean / shape, across, lean * shape, turn, down], dim=1)
    return rows.view(frames, 2, 3).float()


def closest(path: Tensor) -> float:
    """Return the size of a path's smallest view, as a share of the picture's sides."""
    return path[:, :, :2].det().min().sqrt().item()


def film(picture: Tensor, view: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what the view (2, 3) of a path shows of a picture (H, W, 3), as (h, w, 3).

    The view lies between pixels and is sampled at twice the size, so that nothing judders or glitters.
    """
    height, width = size
    grid = F.affine_grid(view[None], [1, 3, 2 * height, 2 * width], align_corners=False)
    seen = F.grid_sample(picture.permute(2, 0, 1)[None], grid, "bicubic", padding_mode="border", align_corners=False)
    return F.avg_pool2d(seen.clamp(0, 1), 2)[0].permute(1, 2, 0)
