"""Cameras of a clip, and the rays that CameraCtrl sees."""

from __future__ import annotations

import numpy
import pytest
import torch
from diffusers_oracle import relative_error
from torch import Tensor

from animatediff_native.sampling.camera_path import CameraPath
from animatediff_native.sampling.cameras import LENS, Cameras, plucker_embedding


def recorded(n: int, seed: int = 1) -> Cameras:
    """Cameras that turn, move and change their lens."""
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    skew = torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)
    poses[:, :3, :3] = torch.matrix_exp(skew - skew.mT)
    poses[:, :3, 3] = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    change = 1.0 + 0.1 * torch.rand(n, 5, generator=generator, dtype=torch.float64)
    return Cameras(torch.tensor([LENS], dtype=torch.float64) * change, poses)


def rays_by_pixel(cameras: Cameras, height: int, width: int) -> Tensor:
    """The moment and the direction of the ray through the middle of each pixel, pixel by pixel."""
    world_to_first = numpy.linalg.inv(cameras.to_world[0].numpy())
    out = numpy.zeros((len(cameras.lenses), 6, height, width))
    for frame, (lens, to_world) in enumerate(zip(cameras.lenses.numpy(), cameras.to_world.numpy(), strict=True)):
        fx, fy, cx, cy, shape = lens
        if shape > width / height:  # the sides of what was filmed are cut off
            fx *= height * shape / width
        else:
            fy *= width / shape / height
        pose = world_to_first @ to_world
        for y in range(height):
            for x in range(width):
                ray = numpy.array([(x + 0.5 - cx * width) / (fx * width), (y + 0.5 - cy * height) / (fy * height), 1.0])
                ray = pose[:3, :3] @ ray / numpy.linalg.norm(ray)
                out[frame, :, y, x] = [*numpy.cross(pose[:3, 3], ray), *ray]
    return torch.from_numpy(out).float()


@pytest.mark.parametrize(("height", "width"), [(8, 16), (12, 5), (9, 16)])
def test_rays_are_those_of_the_formula_in_wide_and_high_pictures(height, width):
    cameras = recorded(3)
    rays = plucker_embedding(cameras, height, width)
    assert rays.shape == (3, 6, height, width)
    assert relative_error(rays, rays_by_pixel(cameras, height, width)) < 1e-6
    assert rays[0, :3].abs().max() < 1e-6, "the first camera stands in the origin"


def test_more_or_fewer_frames_than_cameras_are_spread_over_the_way():
    path = CameraPath.parse("0: still; -1: pan 40 right 2")
    five = path.cameras(5)
    for frames in (2, 3, 9):
        torch.testing.assert_close(five.resampled(frames), path.cameras(frames), atol=1e-6, rtol=0)
    again = recorded(7).resampled(31)
    rotations = again.to_world[:, :3, :3]
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3, dtype=torch.float64).repeat(31, 1, 1))
    assert (torch.det(rotations) > 0).all()
    torch.testing.assert_close(again.to_world[::5], recorded(7).to_world)
    assert recorded(1).resampled(4).to_world.shape == (4, 4, 4)
