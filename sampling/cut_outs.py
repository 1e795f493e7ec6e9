"""Drag a cut-out of a picture along a path: a rough clip, and where the cut-out stands in it. Plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .paths import Pose

MOST_PIXELS = 2**29  # of all frames together, which take 8 GiB


def check_masks(pictures: Tensor, masks: Tensor) -> None:
    """Raise ValueError unless masks (n, h, w) mark something of pictures (n, h, w, c) and both hold numbers."""
    (height, width), (rows, columns) = pictures.shape[1:3], masks.shape[1:]
    if not pictures.isfinite().all() or not masks.isfinite().all():
        raise ValueError("The pictures or masks hold NaN or infinite numbers: connect others.")
    if not (masks > 0.0).any():
        raise ValueError("The mask is empty: draw it over what is to move, or connect another.")
    if (rows, columns) != (height, width):
        raise ValueError(
            f"The mask is {columns} x {rows} pixels, but its picture {width} x {height}: connect the mask of this "
            "picture, or resize it."
        )


def drag(picture: Tensor, mask: Tensor, poses: Sequence[Pose]) -> tuple[Tensor, Tensor]:
    """Return a rough clip, (frames, h, w, 3), and its masks, (frames, h, w).

    What the mask (h, w) marks of a picture (h, w, 3) stands with its centre of mass where each pose says, and its hole
    is filled from around it.
    """
    height, width = mask.shape
    mask = mask.clamp(0.0, 1.0)
    background = fill(picture.movedim(-1, 0), 1.0 - grown(mask, max(min(height, width) // 32, 1)))
    cut_out = torch.cat([picture.movedim(-1, 0) * mask, mask[None]])[None]
    weights = mask.double() / mask.double().sum()
    x = float((weights.sum(0) * (torch.arange(width) + 0.5)).sum())
    y = float((weights.sum(1) * (torch.arange(height) + 0.5)).sum())
    images, masks = torch.empty(len(poses), height, width, 3), torch.empty(len(poses), height, width)
    for i, pose in enumerate(poses):
        moved = posed(cut_out, (x, y), pose)
        masks[i] = moved[3]
        images[i] = (moved[:3] + background * (1.0 - moved[3])).movedim(0, -1)
    return images, masks


def posed(cut_out: Tensor, centre: tuple[float, float], pose: Pose) -> Tensor:
    """Return a cut-out (1, c, h, w), whose centre is given in pixels, in a pose: (c, h, w)."""
    height, width = cut_out.shape[-2:]
    cos, sin = (f(math.radians(pose.turn)) / pose.scale for f in (math.cos, math.sin))
    x, y = width * (0.5 - pose.x), height * (0.5 - pose.y)  # from the target to the middle of the picture
    # From a place in the frame to that in the picture; affine_grid counts both from -1 to 1.
    matrix = [
        [cos, sin * height / width, 2.0 * (centre[0] + cos * x + sin * y) / width - 1.0],
        [-sin * width / height, cos, 2.0 * (centre[1] - sin * x + cos * y) / height - 1.0],
    ]
    grid = F.affine_grid(torch.tensor([matrix]), [1, 1, height, width], align_corners=False)
    if pose.scale < 1.0:  # or fine detail would flicker
        size = [max(round(side * pose.scale), 1) for side in (height, width)]
        cut_out = F.interpolate(cut_out, size, mode="bilinear", antialias=True)
    return F.grid_sample(cut_out, grid, align_corners=False)[0]


def grown(mask: Tensor, pixels: int) -> Tensor:
    """Return where a mask (h, w) or its surroundings are not empty, as zeros and ones: an edge is never quite clean."""
    hole = (mask > 0.0).float()[None]
    for kernel in ((2 * pixels + 1, 1), (1, 2 * pixels + 1)):
        hole = F.max_pool2d(hole, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
    return hole[0]


def fill(picture: Tensor, known: Tensor) -> Tensor:
    """Return a picture (c, h, w) whose unknown places are filled smoothly from what is around them.

    `known` (h, w) goes from 0 to 1. This is pull-push (Gortler et al., The Lumigraph, 1996): means of ever larger
    neighbourhoods, until all is known.
    """
    if (known == 1.0).all() or known.numel() == 1:
        return picture
    weights = F.avg_pool2d(known[None], 2, ceil_mode=True)
    means = F.avg_pool2d(picture * known, 2, ceil_mode=True) / weights.clamp_min(1e-9)
    coarse = fill(means, (4.0 * weights[0]).clamp_max(1.0))
    return picture * known + F.interpolate(coarse[None], known.shape, mode="bilinear")[0] * (1.0 - known)
