"""A camera's way: what the words mean, pose files, and what is said of mistakes."""

from __future__ import annotations

import logging
import math

import numpy
import pytest
import torch
from torch import Tensor

from animatediff_native.sampling.camera_path import CameraPath, Movement, movements
from animatediff_native.sampling.cameras import LENS


def last(text: str, distance: float = 3.0) -> Tensor:
    """The last camera's matrix to the world of the first."""
    return CameraPath.parse(text, distance).cameras(5).to_world[-1]


def seen_at(pose: Tensor, point: tuple[float, float, float]) -> list[float]:
    """Where a camera sees a point: to its right, down, and ahead."""
    return (torch.linalg.inv(pose) @ torch.tensor([*point, 1.0], dtype=torch.float64))[:3].tolist()


S = math.sin(math.radians(30))
C = math.cos(math.radians(30))


@pytest.mark.parametrize(
    ("words", "point"),
    [
        ("still", (0, 0, 2)),
        ("pan 30", (-2 * S, 0, 2 * C)),  # it looks to the right: what was ahead is to its left
        ("tilt 30", (0, 2 * S, 2 * C)),  # it looks up: what was ahead is further down
        ("roll 30", (0, 0, 2)),
        ("right 1", (-1, 0, 2)),
        ("up 1", (0, 1, 2)),
        ("forward 1.5", (0, 0, 0.5)),
        ("zoom 200%", (0, 0, 1)),
        ("zoom 0.5", (0, 0, 4)),
        ("orbit 30", (0, 0, 2)),
        ("orbit -77 tilt 0", (0, 0, 2)),
        ("right 1 pan 90", (-2, 0, -1)),  # it moves along the first frame's axes
        ("orbit 90 zoom 2", (0, 0, 1)),
        ("pan 90 tilt 30", (-2, 0, 0)),  # first to the right, then up from there
    ],
)
def test_where_the_subject_two_units_ahead_is_seen(words, point):
    assert seen_at(last(f"0: still; -1: {words}", distance=2.0), (0, 0, 2)) == pytest.approx(point, abs=1e-9)


def test_a_roll_is_clockwise_and_an_orbit_goes_to_the_right():
    assert seen_at(last("0: roll 30"), (0, -1, 2)) == pytest.approx((-S, -C, 2))  # the picture turns the other way
    assert last("0: orbit 30", distance=2.0)[:3, 3].tolist() == pytest.approx((2 * S, 0, 2 - 2 * C))


def test_numbers_change_from_line_to_line_as_in_every_timeline():
    path = CameraPath.parse('"0 ease": zoom 100%, 50%: PAN 20, tilt -4 zoom 1.5; -1: still hold -- back')
    half = movements(path.keys, 9)
    assert half[2] == pytest.approx(Movement(pan=10, tilt=-2, zoom=1.25))
    assert half[4] == Movement(pan=20, tilt=-4, zoom=1.5)
    assert half[8] == Movement()
    assert path.cameras(9).lenses.tolist() == [list(LENS)] * 9


def test_a_comment_before_the_first_line_makes_no_pose_file():
    path = CameraPath.parse("-- 360 degrees round\n0: still\n-1: orbit 90")
    assert [key.value.orbit for key in path.keys] == [0, 90]


def test_an_easing_that_leads_nowhere_is_told(caplog):
    with caplog.at_level(logging.INFO):
        CameraPath.parse("0 ease: still; 3: pan 4").cameras(4)
        assert not caplog.messages
        CameraPath.parse("0: still; 3: pan 4 ease").cameras(4)
    assert "the easing of the last movement does nothing" in caplog.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'Line 1, column 1: there is no movement: write "frame: movement", such as "-1: pan 20".'),
        ("0: left", 'Line 1, column 4: "left" is not a camera movement: write pan, tilt, '),
        ("0:", '"" is not a camera movement'),
        ("0: still 3", '"still 3" is not a camera movement'),
        ("0: pan 3 dolly 4", 'column 10: "dolly" is not a movement: write one of pan, tilt, roll'),
        ("0: pan", 'column 7: "" is not an amount of pan: write a number from -36000 to 36000.'),
        ("0: pan 30%", 'column 8: "30%" is not an amount of pan'),
        ("0: zoom 0", 'column 9: "0" is not an amount of zoom: write a number from 0.01 to 100.'),
        ("0: pan 1 pan 2", "column 10: this is a second pan: write only one for each frame."),
        ("0: pan 1\n1: up fast", 'Line 2, column 6: "" is not an amount of up'),
        ("0: pan 1 ease ease", "does not begin with a frame number"),
        ("0: pan 1 quickly", '"quickly" is not an easing'),
    ],
)
def test_mistakes_are_said_with_their_place(text, sentence):
    with pytest.raises(ValueError) as error:
        CameraPath.parse(text)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_two_movements_for_a_frame_are_refused_when_the_clip_is_known():
    with pytest.raises(ValueError, match="Line 2, column 1: frame 3 is already taken by line 1"):
        CameraPath.parse("2-4: pan 1\n3: pan 2").cameras(5)


ADDRESS = "https://www.example.org/watch?v=QShWPZxTDoE\n"
TURNED = "0 -1 0 0.5 1 0 0 -1 0 0 1 2"  # the world's x axis points down in the picture


def line(matrix: str = TURNED, lens: str = "0.5 0.9 0.5 0.5", size: str = "0.0 0.0") -> str:
    return f"158692025 {lens} {size} {matrix}"


@pytest.mark.parametrize("text", [ADDRESS + line(), line() + "\n", f"\n{ADDRESS}\r\n{line().replace(' ', '  ')}\n\n"])
def test_a_pose_file_holds_matrices_from_the_world_to_the_camera(text):
    cameras = CameraPath.parse(text).cameras(1)
    matrix = numpy.vstack([numpy.array(TURNED.split(), dtype=float).reshape(3, 4), [0, 0, 0, 1]])
    numpy.testing.assert_allclose(cameras.to_world[0].numpy(), numpy.linalg.inv(matrix))
    assert cameras.lenses[0].tolist() == pytest.approx([0.5, 0.9, 0.5, 0.5, 16 / 9])


def test_the_two_numbers_may_be_the_filmed_size():
    assert CameraPath.parse(line(size="640 480")).cameras(1).lenses[0, 4] == pytest.approx(4 / 3)


def test_a_pose_file_is_spread_over_a_clip_of_any_length():
    cameras = CameraPath.parse("\n".join(line(f"1 0 0 0 0 1 0 0 0 0 1 {z}") for z in (0, -3, -6)))
    assert cameras.cameras(5).to_world[:, 2, 3].tolist() == pytest.approx([0, 1.5, 3, 4.5, 6])
    assert cameras.cameras(2).to_world[:, 2, 3].tolist() == pytest.approx([0, 6])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ADDRESS, "A pose file holds 1 to 4096 cameras, and this one 0: choose another."),
        (ADDRESS + line() + "\n1 2 3", "Line 3 of the pose file has 3 numbers where a camera has 19"),
        (line() + " 7", "Line 1 of the pose file has 20 numbers where a camera has 19"),
        (line() + "\n" + line().replace("0.9", "wide"), 'Line 2 of the pose file has "158692025 0.5 wide'),
        (line("0 -1 0 0.5 1 0 0 -1 0 0 2 2"), "has numbers that are no rotation"),
        (line("0 1 0 0.5 1 0 0 -1 0 0 1 2"), "has numbers that are no rotation"),  # a mirror
        (line(TURNED.replace("0.5", "nan")), "has numbers that are not finite"),
        (line(lens="0 0.9 0.5 0.5"), "has a focal length that is not above 0"),
    ],
)
def test_mistakes_in_a_pose_file_are_said_with_their_line(text, sentence):
    with pytest.raises(ValueError) as error:
        CameraPath.parse(text)
    assert sentence in str(error.value) and "\n" not in str(error.value)
