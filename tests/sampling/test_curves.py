"""Curves: keyframes, lists, masks, drawn curves, loudness."""

from __future__ import annotations

import math

import pytest
import torch
from comfy_api.latest import _input as comfy_inputs

from animatediff_native.sampling.curves import (
    FRAMES,
    SAMPLING,
    SAMPLING_POINTS,
    Curve,
    from_audio,
    from_curve_editor,
    from_mask,
    from_numbers,
    parse,
)


def numbers(text: str, n: int, over: str = FRAMES) -> list[float]:
    return parse(text, over)(n).flatten().tolist()


def test_between_keyframes_lie_straight_lines_and_outside_their_values_hold():
    assert numbers("2: 1\n4: 2", 7) == [1.0, 1.0, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "text",
    [
        "0: 1, 3: 4",
        "0:(1),3:(4)",
        "0: 1;3: 4",
        " 3: 4 \n\n 0: 1 ,",
        "0%: 1\n100%: 4",
        "0: ( 1 )\n3: 4)",
        "0 = 1, 3 = +4.",
        "0\u00a0:\u00a01\n3:\u00a0(\u00a04\u00a0)",  # copied from a web page
    ],
)
def test_keyframes_in_the_spellings_that_people_use(text):
    assert numbers(text, 4) == [1.0, 2.0, 3.0, 4.0]


def test_the_last_of_two_keyframes_at_one_place_counts():
    assert numbers("0: 0\n2: 1\n2: 5\n4: 5", 5) == [0.0, 0.5, 5.0, 5.0, 5.0]


def test_without_a_colon_it_is_one_number_or_one_for_every_frame():
    assert numbers("0.5", 1) == [0.5]
    assert numbers("[1, 2,\n3]", 3) == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="3 numbers for 16 frames"):
        numbers("1 2 3", 16)


@pytest.mark.parametrize("easing", ["ease", "hold"])
@pytest.mark.parametrize("spelling", ["0: 0 {}\n4: 1", "0: (0){}, 4: 1", "0: 0{}; 4: 1", "0: 0 {} -- slow\n4: 1"])
def test_an_easing_may_follow_its_number(spelling, easing):
    assert numbers(spelling.format(easing), 5) == numbers(f"0 {easing}: 0\n4: 1", 5)


def test_a_part_of_the_clip_means_the_same_in_any_spelling():
    assert numbers("0: 0\n0.5: 1\n-1: 0", 9) == numbers("0: 0\n50%: 1\n8: 0", 9) == numbers("0: 0\n4: 1\n8: 0", 9)


def test_two_ranges_may_meet_where_the_number_jumps():
    assert numbers("0-2: 1\n2-4: 0", 5) == [1.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "over", "place", "sentence"),
    [
        ("0: fast", FRAMES, (1, 4), '"fast" is not a number: write "frame: number", such as "0: 0.5"'),
        ("0: 1, 8:\n", FRAMES, (1, 9), '"" is not a number'),
        ("0: 1e5", FRAMES, (1, 4), '"1e5" is not a number'),
        ("0: 1.2.3", FRAMES, (1, 4), '"1.2.3" is not a number'),
        ("0: 5%", FRAMES, (1, 4), '"5%" is not a number'),
        ("0: 1-3: 4", FRAMES, (1, 4), '"1-3: 4" is not a number'),
        ("0: 1 bounce", FRAMES, (1, 6), '"bounce" is not an easing: write one of linear'),
        ("0: 1\nand 8: 2", FRAMES, (2, 1), '"and 8: 2" does not begin with a frame number: write "frame: number"'),
        ("0: __import__('os')", FRAMES, (1, 4), "\"__import__('os')\" is not a number: write"),
        ("one two", FRAMES, (1, 1), '"one" is not a number: write keyframes such as "0: 0.5", or numbers'),
        ("1 2\n3, two", FRAMES, (2, 4), '"two" is not a number: write keyframes'),
        ("", FRAMES, (1, 1), 'there is no number: write "frame: number", such as "0: 0.5"'),
        ("150%: 1", FRAMES, (1, 1), '"150%" lies outside the clip: write'),
        ("0: 1, 8: 0", SAMPLING, (1, 7), '"8" lies outside the sampling: write a part of it from 0 to 1'),
        ("-1: 1", SAMPLING, (1, 1), '"-1" lies outside the sampling: write a part of it'),
    ],
)
def test_what_is_not_a_keyframe_is_quoted_with_its_place(text, over, place, sentence):
    with pytest.raises(ValueError) as error:
        parse(text, over)
    assert str(error.value).startswith(f"Line {place[0]}, column {place[1]}: {sentence}")


def test_a_list_of_numbers_may_have_comments():
    assert numbers("1, 2 -- 9: nine\n-- eight\n(3)", 3) == [1.0, 2.0, 3.0]


def test_over_the_sampling_positions_are_parts_of_it():
    curve = Curve(parse("0: 1 hold\n0.25: 0", SAMPLING), SAMPLING).over_sampling()
    assert curve.shape == (SAMPLING_POINTS,)
    assert curve[:250].eq(1).all()
    assert curve[250:].eq(0).all()
    for same in ("0 hold: 1\n25%: 0", "0-0.1 hold: 1, 0.25: 0", "0: 1 hold, 0.25-1: 0"):
        assert torch.equal(Curve(parse(same, SAMPLING), SAMPLING).over_sampling(), curve)


def test_a_list_is_spread_over_the_sampling():
    assert from_numbers([0.0, 1.0, 0.0], SAMPLING)(5).flatten().tolist() == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert from_numbers([0.3], SAMPLING)(2).flatten().tolist() == pytest.approx([0.3, 0.3])


def test_a_mask_goes_from_low_to_high():
    mask = torch.tensor([[0.0, 0.5, 1.0]])
    assert from_mask(mask, 0.2, 0.6)(2).tolist() == [[pytest.approx([0.2, 0.4, 0.6])]]
    assert from_mask(mask.repeat(2, 1, 1), 0.2, 0.6)(2).shape == (2, 1, 3)
    with pytest.raises(ValueError, match="3 masks for 16 frames"):
        from_mask(torch.zeros(3, 4, 4), 0.0, 1.0)(16)


def test_a_drawn_curve_runs_from_the_first_frame_to_the_last():
    curve_input = getattr(comfy_inputs, "CurveInput", None)
    if curve_input is None:
        pytest.skip("this ComfyUI has no Curve Editor")
    drawn = from_curve_editor(curve_input.from_raw({"points": [(0, 0), (1, 1)], "interpolation": "linear"}), 1.0, 3.0)
    assert drawn(5).flatten().tolist() == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0])


def test_loudness_is_the_root_mean_square_of_each_frames_sound():
    rate, fps = 8000, 8
    amplitude = torch.tensor([0.0, 0.5, 1.0, 0.25]).repeat_interleave(rate // fps)
    tone = amplitude * torch.sin(torch.arange(len(amplitude)) * 2 * math.pi * 440 / rate)
    values = from_audio(tone.expand(1, 2, -1), rate, fps, 0.0, 2.0)(6).flatten().tolist()
    assert values == pytest.approx([0.0, 1.0, 2.0, 0.5, 0.0, 0.0], abs=0.01)


def test_a_sound_that_ends_within_the_last_frame_still_counts_there():
    """Encoded sound is often a few milliseconds short."""
    values = from_audio(torch.ones(1, 1, 15900), 8000, 8.0, 0.0, 1.0)(16).flatten()
    assert values.tolist() == pytest.approx([1.0] * 16)


def test_an_empty_list_is_refused():
    for over in (FRAMES, SAMPLING):
        with pytest.raises(ValueError, match="empty"):
            from_numbers([], over)


def test_silence_is_low_throughout():
    assert from_audio(torch.zeros(1, 1, 4000), 8000, 8.0, 0.3, 1.0)(8).eq(0.3).all()


def test_frames_whose_length_is_no_whole_number_of_samples_stay_in_time():
    """At 44.1 kHz and 24 frames a second a click in second 50 still falls on frame 1200."""
    rate = 44100
    sound = torch.zeros(1, 1, 51 * rate)
    sound[..., 50 * rate : 50 * rate + 100] = 1.0
    values = from_audio(sound, rate, 24.0, 0.0, 1.0)(1224).flatten()
    assert values.nonzero().flatten().tolist() == [1200]
