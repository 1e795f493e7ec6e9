"""Cameras of a clip as CameraCtrl sees them (arXiv 2404.02101, section 3.1). Needs no ComfyUI.

Axes are those of RealEstate10K: x to the right, y down, z ahead. Shapes: `f` frames, `n` cameras, `h w` pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LENS = (0.474812461, 0.844111024, 0.5, 0.5, 1280 / 720)
"""Of RealEstate10K's clips, on which CameraCtrl was trained: square pixels in a picture of 16:9."""


class Cameras(NamedTuple):
    """A camera for each frame, in double precision."""

    lenses: Tensor
    """(n, 5) focal lengths and centre, in parts of width and height, and the width in heights of what was filmed."""
    to_world: Tensor
    """(n, 4, 4) from the camera's axes to those of the world."""

    def resampled(self, frames: int) -> Cameras:
        """Return as many cameras as there are frames, evenly between the first and the last."""
        if frames == len(self.lenses):
            return self
        at = torch.linspace(0, len(self.lenses) - 1, frames, dtype=torch.float64)
        before = at.long()
        after, t = (before + 1).clamp_max(len(self.lenses) - 1), at - before
        poses = torch.lerp(self.to_world[before], self.to_world[after], t[:, None, None])
        poses[:, :3, :3] = nearest_rotation(poses[:, :3, :3])
        return Cameras(torch.lerp(self.lenses[before], self.lenses[after], t[:, None]), poses)


def nearest_rotation(matrices: Tensor) -> Tensor:
    """Return the rotations nearest to matrices, (n, 3, 3)."""
    u, _, v = torch.linalg.svd(matrices)
    sign = torch.ones(len(matrices), 3, dtype=matrices.dtype)
    sign[:, 2] = torch.det(u @ v)
    return (u * sign[:, None]) @ v


def plucker_embedding(cameras: Cameras, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the Pluecker coordinates of the ray through each pixel, (f, 6, height, width) in fp32.

    The first camera stands in the origin and looks ahead. A picture of another shape than what was filmed shows the
    middle of it (`ray_condition` and `inference.py` in CameraCtrl's code).
    """
    fx, fy, cx, cy, shape = cameras.lenses.T
    wider = shape * height / width
    lens = torch.stack([fx * wider.clamp_min(1.0), fy / wider.clamp_max(1.0), cx, cy], dim=1)
    scale = torch.tensor([width, height, width, height])
    fx, fy, cx, cy = (lens * scale).float().to(device).T[..., None, None]
    poses = (torch.linalg.inv(cameras.to_world[0]) @ cameras.to_world).float().to(device)
    x = (torch.arange(width, device=device) + 0.5 - cx) / fx
    y = (torch.arange(height, device=device)[:, None] + 0.5 - cy) / fy
    x, y = torch.broadcast_tensors(x, y)
    directions = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    rays = torch.einsum("fhwi,fji->fjhw", directions, poses[:, :3, :3])
    origins = poses[:, :3, 3, None, None].expand_as(rays)
    return torch.cat([torch.linalg.cross(origins, rays, dim=1), rays], dim=1)
