"""Paths: where something stands in each frame, how large, and turned by how much."""

from __future__ import annotations

import logging

import pytest

from animatediff_native.sampling.paths import Pose, parse, poses

QUARTERS = [Pose(0.2, 0.5), Pose(0.35, 0.5), Pose(0.5, 0.5), Pose(0.65, 0.5), Pose(0.8, 0.5)]


def path(text: str, frames: int) -> list[Pose]:
    return poses(parse(text), frames)


@pytest.mark.parametrize(
    "text",
    [
        "0: 20% 50%; 4: 80% 50%",
        "0: 0.2 0.5\n-1: .8 0.5",
        "0%: 20%, 50%, 100%: 80%,50%",
        '"0": 20% 50%, "4": 80% 50% -- across',
        "-1 = +80.0% 50% scale 100% turn 0\n0.0 linear: 20% 50% SCALE 1",
        "0:\u00a020%\u00a050%\n4: 80%\t50% turn -0 scale 1.0",
    ],
)
def test_a_straight_path_in_the_spellings_that_people_use(text):
    assert sum(path(text, 5), ()) == pytest.approx(sum(QUARTERS, ()))


def test_scale_and_turn_change_with_the_place_and_an_easing_holds_for_all():
    text = "0: 0% 0% scale 50%; 4: 100% -40% turn 90 scale 1.5"
    assert path(text, 5)[1] == pytest.approx((0.25, -0.1, 0.75, 22.5))
    assert path(text.replace(";", " ease-in;"), 5)[1] == pytest.approx((0.0625, -0.025, 0.5625, 5.625))
    assert path(text.replace("0:", "0 ease-in:", 1), 5) == path(text.replace(";", " ease-in;"), 5)


def test_a_place_holds_outside_its_keys_and_over_a_range():
    assert path("0-2: 10% 10%; 2-4: 20% 20%", 5) == [Pose(0.1, 0.1)] * 2 + [Pose(0.2, 0.2)] * 3  # it jumps
    assert path("1-2: 10% 10%; 3: 20% 20% turn 9", 5) == [Pose(0.1, 0.1)] * 3 + [Pose(0.2, 0.2, 1.0, 9.0)] * 2


def test_an_easing_that_leads_nowhere_is_told(caplog):
    with caplog.at_level(logging.INFO):
        assert path("0 ease: 20% 50%; 15: 80% 50%", 16) != path("0: 20% 50%; 15: 80% 50%", 16)
    assert not caplog.messages
    with caplog.at_level(logging.INFO):
        assert path("0: 20% 50%; 15: 80% 50% ease", 16) == path("0: 20% 50%; 15: 80% 50%", 16)
    assert len(caplog.messages) == 1 and "the easing of the last place does nothing" in caplog.messages[0]


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("", (1, 1), 'there is no place: write "frame: place", such as "0: 20% 50%"'),
        ("0: left", (1, 4), '"left" is not a place: write "frame: across down", such as "0: 20% 50%"'),
        ("0: 20%", (1, 4), '"20%" is not a place'),
        ("0: 20% fast", (1, 4), '"20% fast" is not a place'),
        ("0: nan nan", (1, 4), '"nan nan" is not a place'),
        ("0: 1e1 5", (1, 4), '"1e1 5" is not a place'),
        ("0: 20 50", (1, 4), '"20" is not a place: write one from -100% to 200%, such as "20% 50%"'),
        ("0: 20% 201%", (1, 8), '"201%" is not a place'),
        (f"0: {'9' * 30} 0", (1, 4), f'"{"9" * 30}" is not a place'),
        ("0: 20% 50% scale", (1, 17), '"" is not a scale: write one from 0.01 to 100, such as "scale 150%"'),
        ("0: 20% 50% scale 0", (1, 18), '"0" is not a scale'),
        ("0: 20% 50% scale -1", (1, 18), '"-1" is not a scale'),
        ("0: 20% 50%\n9: 0% 0% turn 50%", (2, 15), '"50%" is not a turn in degrees: write one from -3600 to 3600'),
        ("0: 20% 50% turn 90 turn 90", (1, 20), "this is a second turn: write only one for each place"),
        ("0: 20% 50% scale 2 bounce", (1, 20), '"bounce" is not an easing'),
        ("0: 20% 50% spin 90", (1, 12), 'does not begin with a frame number: write "frame: place"'),
    ],
)
def test_a_mistake_is_named_with_its_place(text, place, sentence):
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert str(raised.value).startswith("Line {}, column {}: ".format(*place))
    assert sentence in str(raised.value)
