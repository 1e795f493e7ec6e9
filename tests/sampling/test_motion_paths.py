"""Paths of subjects: their boxes, what a grid holds of them, and the picture that shows them."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import ImageColor
from torch import Tensor

from animatediff_native.sampling.motion_paths import (
    ABSENT,
    Box,
    MotionPath,
    boxes_of_masks,
    boxes_of_poses,
    coverage,
)
from animatediff_native.sampling.path_picture import COLOURS, draw_paths
from animatediff_native.sampling.paths import parse, poses

INNER, EDGE = Box(1 / 8, 3 / 16, 5 / 8, 7 / 16), Box(-1 / 2, 3 / 4, 1 / 16, 3 / 2)


def in_fine_cells(box: Box, size: tuple[int, int], fine: int = 64) -> Tensor:
    """The mean of a hard mask whose pixels no edge of the box cuts."""
    place = (torch.arange(fine) + 0.5) / fine
    inside = ((place > box.top) & (place < box.bottom))[:, None] & ((place > box.left) & (place < box.right))
    return torch.nn.functional.adaptive_avg_pool2d(inside.float()[None], size)[0]


@pytest.mark.parametrize("size", [(64, 64), (8, 16), (4, 4), (2, 1), (1, 1)])
def test_cells_are_covered_by_their_share(size):
    covered = coverage([INNER, EDGE, ABSENT], size)
    assert torch.equal(covered[2], torch.zeros(size))
    for box, cells in zip((INNER, EDGE), covered, strict=False):
        assert torch.allclose(cells, in_fine_cells(box, size), atol=1e-6)


def test_boxes_stand_around_the_places_of_the_path_and_grow_with_them():
    boxes = boxes_of_poses(poses(parse("0: 20% 50%; 2: 60% 30% scale 200%"), 3), width=0.2, height=0.1)
    assert boxes[0] == pytest.approx((0.1, 0.45, 0.3, 0.55))
    assert boxes[1] == pytest.approx((0.4 - 0.15, 0.4 - 0.075, 0.4 + 0.15, 0.4 + 0.075))
    assert boxes[2] == pytest.approx((0.4, 0.2, 0.8, 0.4))
    assert boxes[2].middle == pytest.approx((0.6, 0.3))


def test_masks_give_the_boxes_that_they_mark():
    masks = coverage([INNER, ABSENT, EDGE], (16, 32))
    whole = Box(0.0, 3 / 4, 1 / 16, 1.0)  # of EDGE inside the picture
    assert boxes_of_masks(masks) == (INNER, ABSENT, whole)
    assert boxes_of_masks(masks * 0.6) == boxes_of_masks(masks)
    assert boxes_of_masks(masks + 0.4 * (masks == 0)) == boxes_of_masks(masks)


@pytest.mark.parametrize("box", [ABSENT, Box(1.0, 0.0, 1.5, 1.0), Box(0.2, -0.5, 0.4, 0.0)])
def test_a_path_has_to_be_visible_once(box):
    with pytest.raises(ValueError, match="never enters the picture: let it pass"):
        MotionPath((box, box))
    assert MotionPath((box, INNER)).boxes[0] == box


@pytest.mark.parametrize(("value", "sentence"), [(0.5, "The masks are empty"), (math.nan, "NaN or infinite numbers")])
def test_masks_that_mark_nothing(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        boxes_of_masks(torch.full((2, 4, 4), value))


def test_the_picture_shows_each_way_in_its_own_colour():
    texts = "0: 10% 25%; -1: 90% 25%", "0: 50% 50%; -1: 50% 90%"
    paths = [MotionPath(boxes_of_poses(poses(parse(text), 5), width=0.1, height=0.1)) for text in texts]
    picture = draw_paths(paths, shape=0.5)
    assert picture.size == (512, 256)
    colours = [ImageColor.getrgb(colour) for colour in COLOURS[:2]]
    assert picture.getpixel((256, 64)) == colours[0] and picture.getpixel((256, 180)) == colours[1]
    edge = [picture.getpixel((x, 64 - 8)) for x in range(24, 28)]  # of the first box, 5% from the left
    assert edge.count(colours[0]) == 1
    assert picture.getpixel((256, 100)) not in colours


def test_far_places_and_many_frames_can_be_drawn():
    boxes = (Box(-1e30, 0.1, 1e30, 0.2), ABSENT, *[INNER] * 5000)
    assert draw_paths([MotionPath(boxes)] * 9, shape=1e-6).size == (512, 128)
