"""Rough clips: where a dragged cut-out stands, and what takes its place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from animatediff_native.sampling.cut_outs import drag, fill, grown
from animatediff_native.sampling.paths import Pose, parse, poses

HEIGHT, WIDTH = 48, 64
RED = torch.tensor([1.0, 0.0, 0.0])


def gradient() -> Tensor:
    """A grey picture (h, w, 3), darker from the left to the right."""
    return torch.linspace(0.8, 0.2, WIDTH).view(1, WIDTH, 1).expand(HEIGHT, -1, 3).clone()


def scene() -> tuple[Tensor, Tensor]:
    """A red block on a gradient and its mask; the middle of its mass is (24, 16)."""
    picture, mask = gradient(), torch.zeros(HEIGHT, WIDTH)
    mask[12:20, 18:30] = 1.0
    picture[12:20, 18:30] = RED
    return picture, mask


def centre(mask: Tensor) -> tuple[float, float]:
    """The middle of a mask's mass, (x, y) in pixels."""
    y, x = (
        float((mask.sum(1 - axis) * (torch.arange(n) + 0.5)).sum() / mask.sum()) for axis, n in enumerate(mask.shape)
    )
    return x, y


def test_the_cut_out_stands_where_the_path_says_and_takes_its_colour_along():
    images, masks = drag(*scene(), poses(parse("0 ease: 25% 50%; 7: 75% 25%"), 8))
    assert images.shape == (8, HEIGHT, WIDTH, 3) and masks.shape == (8, HEIGHT, WIDTH)
    for frame, (image, mask) in enumerate(zip(images, masks, strict=True)):
        t = (1 - math.cos(math.pi * frame / 7)) / 2
        assert centre(mask) == pytest.approx((WIDTH * (0.25 + 0.5 * t), HEIGHT * (0.5 - 0.25 * t)), abs=0.05)
        assert float(mask.sum()) == pytest.approx(96, rel=1e-3)
        assert (mask > 0.999).sum() >= 60
        assert torch.allclose(image[mask > 0.999], RED, atol=2e-3)


def test_scale_and_turn():
    picture, mask = scene()
    pose = Pose(0.5, 0.5)
    for scale in (0.25, 0.5, 2.0, 3.0):
        _, masks = drag(picture, mask, [pose._replace(scale=scale)])
        assert float(masks.sum()) == pytest.approx(96 * scale**2, rel=0.02)
        assert centre(masks[0]) == pytest.approx((32, 24), abs=0.05)
    generator = torch.Generator().manual_seed(1)
    square, whole = torch.rand(32, 32, 3, generator=generator), torch.ones(32, 32)
    whole[0], whole[:, 0], whole[-1], whole[:, -1] = 0, 0, 0, 0
    images, masks = drag(square, whole, [Pose(0.5, 0.5, turn=turn) for turn in (0, 90, 180, -270, 360)])
    for image, moved, quarters in zip(images, masks, (0, 1, 2, 1, 0), strict=True):
        expected = square.rot90(-quarters)  # clockwise, as rows are counted downwards
        assert torch.allclose(image[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-4)
        assert torch.allclose(moved, whole, atol=1e-4)


def test_fine_detail_becomes_its_mean_when_it_shrinks():
    stripes, mask = (torch.arange(WIDTH) % 2.0).view(1, WIDTH, 1).expand(HEIGHT, -1, 3), torch.zeros(HEIGHT, WIDTH)
    mask[8:40, 8:56] = 1.0
    images, masks = drag(stripes, mask, [Pose(0.5, 0.5, scale=0.3)])
    assert (images[0][masks[0] > 0.99] - 0.5).abs().max() < 0.1


def test_at_its_own_place_nothing_moves_and_outside_the_picture_nothing_is_left():
    picture, mask = scene()
    images, masks = drag(picture, mask, [Pose(24 / WIDTH, 16 / HEIGHT), Pose(-0.5, 0.5)])
    assert torch.allclose(masks[0], mask, atol=1e-4)
    assert torch.allclose(images[0], torch.where(mask[..., None] > 0, picture, images[1]), atol=1e-4)
    assert not masks[1].any()
    assert torch.allclose(images[1], gradient(), atol=0.02)


def test_a_hole_is_filled_from_around_it_and_nothing_else_changes():
    picture, mask = scene()
    hole = grown(mask, 2)
    assert hole.sum() == 12 * 16 and hole[10:22, 16:32].all()
    filled = fill(picture.movedim(-1, 0), 1.0 - hole).movedim(0, -1)
    assert torch.equal(filled[hole == 0], picture[hole == 0])
    assert (filled - gradient()).abs().max() < 0.03
    assert torch.allclose(fill(torch.rand(3, 5, 7), torch.eye(7)[:5]).mean(), torch.tensor(0.5), atol=0.3)


def test_a_soft_mask_keeps_its_edge():
    picture, mask = scene()
    _, masks = drag(picture, mask * 0.5, [Pose(24 / WIDTH, 16 / HEIGHT)])
    assert torch.allclose(masks[0], mask * 0.5, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (17, 33)])
def test_pictures_of_any_size(size):
    mask = torch.zeros(size)
    mask[0, 0] = 1.0
    images, masks = drag(torch.rand(*size, 3), mask, [Pose(0.5, 0.5, 0.01), Pose(0.5, 0.5, 100.0, 45.0)])
    assert images.isfinite().all() and masks.isfinite().all()
    assert masks.min() >= 0.0 and masks.max() <= 1.0 + 1e-6
