"""Paths of subjects: the box that each subject fills in every frame, and how a grid is covered by it. Plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .paths import Pose


class Box(NamedTuple):
    """Edges as parts of the picture's width and height. They may lie outside the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


ABSENT = Box(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class MotionPath:
    """Where one subject is: a box for each frame, `ABSENT` where there is none. ValueError if it is never visible."""

    boxes: tuple[Box, ...]
    words: Tensor | None = None
    """Features (tokens, c) of the words that mean it, as the checkpoint's text encoder gives them."""

    def __post_init__(self):
        if not any(map(is_visible, self.boxes)):
            raise ValueError("The path never enters the picture: let it pass through places from 0% to 100%.")


def is_visible(box: Box) -> bool:
    return min(box.right, 1.0) > max(box.left, 0.0) and min(box.bottom, 1.0) > max(box.top, 0.0)


def boxes_of_poses(poses: Sequence[Pose], width: float, height: float) -> tuple[Box, ...]:
    """Return the boxes of a subject whose size, at scale 1, is given in parts of the picture."""
    return tuple(box_around(pose, width * pose.scale, height * pose.scale) for pose in poses)


def box_around(pose: Pose, width: float, height: float) -> Box:
    return Box(pose.x - width / 2, pose.y - height / 2, pose.x + width / 2, pose.y + height / 2)


def boxes_of_masks(masks: Tensor) -> tuple[Box, ...]:
    """Return the box around all that is above a half in each of masks (frames, h, w).

    ValueError if they hold NaN or mark nothing.
    """
    if not masks.isfinite().all():
        raise ValueError("The masks hold NaN or infinite numbers: connect others.")
    marked = masks > 0.5
    if not marked.any():
        raise ValueError("The masks are empty: they have to be white where the subject is.")
    return tuple(box_of_mask(frame) for frame in marked.cpu())


def box_of_mask(marked: Tensor) -> Box:
    height, width = marked.shape
    rows, columns = marked.any(1).nonzero(), marked.any(0).nonzero()
    if not len(rows):
        return ABSENT
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Box(left.item() / width, top.item() / height, right.item() / width, bottom.item() / height)


def coverage(boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """Return how much of each cell of a grid of a size (h, w) is covered by each box: (boxes, h, w), from 0 to 1."""
    edges = torch.tensor(boxes, dtype=torch.float64)
    down = covered_cells(edges[:, 1], edges[:, 3], size[0])
    across = covered_cells(edges[:, 0], edges[:, 2], size[1])
    return (down[:, :, None] * across[:, None]).float()


def covered_cells(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """Return how much of each cell of a row is covered from low (n) to high (n): (n, cells)."""
    start = torch.arange(cells, dtype=torch.float64)
    low, high = low[:, None] * cells, high[:, None] * cells
    return (torch.minimum(start + 1.0, high) - torch.maximum(start, low)).clamp(0.0, 1.0)
