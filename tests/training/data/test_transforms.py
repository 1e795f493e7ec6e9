"""Sizes and crops of frames, compared with Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from animatediff_native.training.data.transforms import buckets, fit, flip, nearest_bucket


def picture(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def pillow(frame: torch.Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> torch.Tensor:
    """The crop (left, top, right, bottom) at a size (h, w)."""
    channels = [Image.fromarray(channel.numpy()).crop(box) for channel in frame.float().unbind(-1)]
    resized = [np.array(channel.resize((size[1], size[0]), Image.Resampling.BICUBIC)) for channel in channels]
    return torch.from_numpy(np.stack(resized, -1)).clamp(0, 255) / 255


@pytest.mark.parametrize(
    "place, box", [((0.5, 0.5), (30, 0, 130, 100)), ((1.0, 0.0), (0, 0, 100, 100)), ((0.0, 1.0), (60, 0, 160, 100))]
)
def test_a_wide_frame_is_cropped_and_resized_as_pillow_does(place, box):
    frame = picture(100, 160)
    assert (fit(frame, (32, 32), place) - pillow(frame, box, (32, 32))).abs().max() < 1e-4


def test_a_high_frame_is_cropped_above_and_below():
    frame = picture(160, 100)
    assert (fit(frame, (48, 80)) - pillow(frame, (0, 50, 100, 110), (48, 80))).abs().max() < 1e-4


def test_a_part_of_a_frame_is_enlarged():
    frame = picture(64, 64)
    assert (fit(frame, (64, 64), part=0.5) - pillow(frame, (16, 16, 48, 48), (64, 64))).abs().max() < 1e-4


def test_a_frame_of_the_wanted_size_keeps_its_values():
    frame = picture(32, 48)
    assert torch.equal((fit(frame, (32, 48)) * 255).round().to(torch.uint8), frame)


@pytest.mark.parametrize("size, step", [(512, 64), (256, 64), (128, 32), (64, 16), (32, 8)])
def test_buckets_have_about_the_area_of_the_square_and_sides_the_unet_can_halve(size, step):
    assert (size, size) in buckets(size)
    for height, width in buckets(size):
        assert height % step == width % step == 0
        assert 0.7 < height * width / size**2 < 1.3


@pytest.mark.parametrize(
    "frame, bucket", [((480, 480), (512, 512)), ((1080, 1920), (384, 704)), ((1920, 1080), (704, 384))]
)
def test_a_frame_goes_into_the_bucket_of_its_shape(frame, bucket):
    assert nearest_bucket(frame, 512) == bucket


def test_the_mirror_image_is_pillows():
    frame = picture(8, 16)
    expected = Image.fromarray(frame.numpy()).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert torch.equal(flip(frame), torch.from_numpy(np.array(expected)))
