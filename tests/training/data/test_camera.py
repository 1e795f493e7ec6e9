"""Camera movements are measured on dots: where they are in each frame."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from animatediff_native.training.data.camera import Movement, camera_path, closest, film

MOVEMENTS: tuple[str, ...] = get_args(Movement)
FRAMES, HEIGHT, WIDTH = 9, 64, 96
AMOUNT = 0.3
DOTS = ((28.0, 40.0), (36.0, 56.0))  # from the top, from the left


def dot(place: tuple[float, float]) -> Tensor:
    """A picture (HEIGHT, WIDTH, 3), black but for a soft dot."""
    down, across = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    return torch.exp(-((down - place[0]) ** 2 + (across - place[1]) ** 2) / 8)[..., None].expand(-1, -1, 3)


def centre(picture: Tensor) -> Tensor:
    """Of the dot: from the top, from the left, in pixels."""
    weight = picture[..., 0] / picture[..., 0].sum()
    down, across = torch.arange(weight.shape[0]) + 0.5, torch.arange(weight.shape[1]) + 0.5
    return torch.stack([(weight.sum(1) * down).sum(), (weight.sum(0) * across).sum()])


def seen(movement: str) -> Tensor:
    """Centres (2 dots, FRAMES, 2)."""
    path = camera_path(movement, FRAMES, AMOUNT, WIDTH / HEIGHT)
    return torch.stack([torch.stack([centre(film(dot(d), v, (HEIGHT, WIDTH))) for v in path]) for d in DOTS])


@pytest.mark.parametrize(
    "movement, step",
    [("pan left", (0, 1)), ("pan right", (0, -1)), ("tilt up", (1, 0)), ("tilt down", (-1, 0))],
)
def test_panning_and_tilting_moves_things_the_opposite_way_at_a_constant_speed(movement, step):
    """By `AMOUNT` of the picture's side in all, enlarged as the view is to fill the frame."""
    steps = seen(movement).diff(dim=1)
    size = torch.tensor([HEIGHT, WIDTH]) * AMOUNT / (1 - AMOUNT) / (FRAMES - 1)
    assert (steps - torch.tensor(step) * size).abs().max() < 0.02


@pytest.mark.parametrize("movement, total", [("zoom in", 1 / (1 - AMOUNT)), ("zoom out", 1 - AMOUNT)])
def test_zooming_enlarges_by_the_same_factor_in_every_frame_and_keeps_the_middle(movement, total):
    first, second = seen(movement)
    distances = (second - first).norm(dim=1)
    ratios = distances[1:] / distances[:-1]
    assert (ratios - total ** (1 / (FRAMES - 1))).abs().max() < 1e-3
    assert ((first + second) / 2 - torch.tensor([HEIGHT / 2, WIDTH / 2])).abs().max() < 0.05


@pytest.mark.parametrize("movement, sign", [("roll clockwise", -1), ("roll anticlockwise", 1)])
def test_rolling_turns_things_the_opposite_way_at_a_constant_speed_around_upright(movement, sign):
    first, second = seen(movement)
    down, across = (second - first).unbind(1)
    upright = torch.atan2(torch.tensor(DOTS[1][0] - DOTS[0][0]), torch.tensor(DOTS[1][1] - DOTS[0][1]))
    angles = torch.rad2deg(torch.atan2(down, across) - upright)  # clockwise, as down is positive
    assert (angles.diff() - sign * AMOUNT * 90 / (FRAMES - 1)).abs().max() < 0.1
    assert abs(angles[FRAMES // 2]) < 0.1
    assert (second - first).norm(dim=1).std() < 0.05


@pytest.mark.parametrize("shape", [1.0, 1.5, 0.5625])
@pytest.mark.parametrize("movement", MOVEMENTS)
def test_views_stay_within_the_picture_and_touch_its_edge(movement, shape):
    corners = torch.tensor([[-1.0, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]]).T
    reach = (camera_path(movement, FRAMES, AMOUNT, shape) @ corners).abs().amax()
    assert reach.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("one, other", list(zip(MOVEMENTS[::2], MOVEMENTS[1::2], strict=True)))
def test_the_opposite_movement_is_the_same_backwards(one, other):
    forwards, backwards = (camera_path(movement, FRAMES, AMOUNT, 1.5) for movement in (one, other))
    assert torch.allclose(forwards, backwards.flip(0), atol=1e-6)


def test_the_closest_view_is_shown_pixel_by_pixel():
    """The canvas that frames are fitted to has 1 / `closest` of the output's pixels on each side."""
    assert closest(camera_path("zoom in", FRAMES, AMOUNT, 1.5)) == pytest.approx(1 - AMOUNT, rel=1e-5)
    assert closest(camera_path("pan left", FRAMES, AMOUNT, 1.5)) == pytest.approx(1 - AMOUNT, rel=1e-5)


def test_a_view_of_everything_is_the_picture():
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    assert (film(dot(DOTS[0]), identity, (HEIGHT, WIDTH)) - dot(DOTS[0])).abs().max() < 0.02


def test_thin_lines_do_not_glitter_when_the_view_is_wide():
    """Stripes of one pixel become an even grey where the view shows two of them in a pixel."""
    stripes = (torch.arange(256) % 2).float()[None, :, None].expand(64, -1, 3)
    path = camera_path("pan left", FRAMES, 0.02, 4.0)
    shades = torch.stack([film(stripes, view, (32, 126)) for view in path])
    assert shades.std(dim=0).max() < 0.12
