"""Context windows: right for all arguments, and ComfyUI's own wherever those are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from comfy.context_windows import (
    IndexListContextHandler,
    IndexListContextWindow,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from animatediff_native.sampling.windows import FUSES, SCHEDULES, fuse_weights, van_der_corput, windows

CORE = {
    "static": "standard_static",
    "uniform": "standard_uniform",
    "looped": "looped_uniform",
    "closed loop": "looped_uniform",
    "batched": "batched",
}
Windows = Sequence[Sequence[int]]


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


@st.composite
def arguments(draw, max_frames: int = 300, min_overlap: int = 0) -> dict[str, int]:
    length = draw(st.integers(min_overlap + 1, 64))
    return {
        "frames": draw(st.integers(1, max_frames)),
        "length": length,
        "overlap": draw(st.integers(min_overlap, length - 1)),
        "stride": draw(st.integers(1, 5)),
        "step": draw(st.integers(0, 60)),
    }


def faults(planned: Windows, frames: int, length: int) -> list[str]:
    """What is wrong with a list of windows."""
    checks = {
        "no window": len(planned) > 0,
        "frames that no window has": set().union(*planned) >= set(range(frames)),
        "frames outside of the clip": set().union(*planned) <= set(range(frames)),
        "a frame twice in a window": all(len(set(window)) == len(window) for window in planned),
        "a window of the wrong length": all(len(window) == min(length, frames) for window in planned),
        "equal windows": len({tuple(window) for window in planned}) == len(planned),
    }
    return [fault for fault, right in checks.items() if not right]


def core_windows(schedule: str, frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    handler = IndexListContextHandler(
        get_matching_context_schedule(CORE[schedule]),
        get_matching_fuse_method("flat"),
        context_length=length,
        context_overlap=overlap,
        context_stride=stride,
        closed_loop=schedule == "closed loop",
    )
    handler._step = step
    return [w.index_list for w in handler.get_context_windows(None, torch.zeros(frames, 1), {})]  # type: ignore


def wraps(window: Sequence[int]) -> bool:
    return any(b < a for a, b in pairwise(window))


@pytest.mark.one_version
@pytest.mark.parametrize("schedule", SCHEDULES)
@examples(1000)
@given(arguments())
def test_windows_are_right_for_all_arguments(schedule, args):
    planned = windows(schedule, **args)
    assert not faults(planned, args["frames"], args["length"])
    assert {type(frame) for window in planned for frame in window} == {int}
    assert windows(schedule, **args) == planned


def test_frames_that_core_leaves_out_between_strided_windows_get_a_window():
    args: dict[str, Any] = {"frames": 38, "length": 16, "overlap": 4, "stride": 2, "step": 2}
    reference = core_windows("uniform", **args)
    assert faults(reference, 38, 16) == ["frames that no window has"]
    assert windows("uniform", **args) == [*reference, list(range(16))]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_windows_are_cores_wherever_those_are_right(schedule):
    seen = Counter()

    @examples(1000)
    @given(arguments())
    def check(args):
        frames, length = args["frames"], args["length"]
        if frames < length or (frames == length and schedule != "closed loop"):
            return  # core samples these without windows, and where it is asked nevertheless a loop has one window
        reference = core_windows(schedule, **args)
        right = not faults(reference, frames, length)
        seen[right, args["stride"] > 1] += 1
        if right:
            assert windows(schedule, **args) == reference

    check()
    assert seen[True, False] > 50
    assert seen[True, True] > 50


@examples(300)
@given(arguments())
def test_batched_windows_are_cores_with_the_last_one_moved_back(args):
    frames, length = args["frames"], args["length"]
    if frames > length:
        *reference, _ = core_windows("batched", **args)
        assert windows("batched", **args) == [*reference, list(range(frames - length, frames))]


@pytest.mark.parametrize(
    ("schedule", "frames", "step", "expected"),
    [
        ("static", 40, 7, [(0, 15), (12, 27), (24, 39)]),
        ("batched", 40, 7, [(0, 15), (16, 31), (24, 39)]),
        ("looped", 32, 0, [(0, 15), (12, 27), (24, 7)]),
        ("looped", 32, 1, [(16, 31), (28, 11), (8, 23)]),
        ("uniform", 32, 1, [(16, 31), (0, 15), (8, 23)]),
        ("closed loop", 36, 0, [(0, 15), (12, 27), (24, 3)]),
        ("closed loop", 16, 0, [(0, 15), (12, 11)]),
        ("closed loop", 8, 0, [(0, 7), (4, 3)]),
        ("closed loop", 8, 1, [(4, 3), (0, 7)]),
    ],
)
def test_windows_of_sixteen_frames_that_overlap_by_four(schedule, frames, step, expected):
    planned = windows(schedule, frames, 16, 4, step=step)
    assert [(window[0], window[-1]) for window in planned] == expected


@pytest.mark.parametrize("schedule", ["static", "batched"])
@examples(200)
@given(arguments())
def test_static_windows_are_the_same_at_every_step_and_stride(schedule, args):
    assert windows(schedule, **args) == windows(schedule, args["frames"], args["length"], args["overlap"])


def test_steps_begin_at_ordered_halves():
    assert [van_der_corput(n) for n in range(8)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


@examples(300)
@given(arguments())
def test_uniform_windows_never_go_round_the_end(args):
    assert not any(wraps(window) for window in windows("uniform", **args))


@pytest.mark.parametrize("schedule", ["uniform", "looped", "closed loop"])
def test_stride_adds_windows_of_every_second_and_fourth_frame(schedule):
    planned = windows(schedule, 64, 16, 4, stride=3)
    assert {(b - a) % 64 for window in planned for a, b in pairwise(window)} == {1, 2, 4}
    assert windows(schedule, 40, 16, 4, stride=3) == windows(schedule, 40, 16, 4, stride=2), "40 have no 16 of them"


@pytest.mark.parametrize("schedule", [schedule for schedule in SCHEDULES if schedule != "closed loop"])
@examples(200)
@given(arguments(max_frames=64))
def test_a_clip_that_fits_is_one_window(schedule, args):
    args["length"] = max(args["length"], args["frames"])
    assert windows(schedule, **args) == [list(range(args["frames"]))]


@examples(300)
@given(arguments(min_overlap=1))
def test_a_closed_loop_has_a_window_around_its_join(args):
    planned = windows("closed loop", **args)
    assert args["frames"] == 1 or any(wraps(window) for window in planned)


@examples(300)
@given(arguments(max_frames=63))
def test_a_closed_loop_that_is_shorter_than_a_window_is_rolled(args):
    frames = args["frames"]
    args["length"] = max(args["length"], frames + 1)
    planned = windows("closed loop", **args)
    assert planned == [[(window[0] + i) % frames for i in range(frames)] for window in planned]
    assert len(planned) == min(2, frames)
    assert frames == 1 or any(wraps(window) for window in planned)


def as_matrix(planned: Windows, weights: Sequence[Tensor], frames: int) -> Tensor:
    """(frames, windows)"""
    matrix = torch.zeros(frames, len(planned))
    for i, (window, weight) in enumerate(zip(planned, weights, strict=True)):
        matrix[list(window), i] = weight
    return matrix


def core_weights(fuse: str, planned: Windows, frames: int, overlap: int) -> tuple[Tensor, Tensor]:
    """What core's fusion makes of windows that hold nothing but their own number: how much of each window is in each
    frame (frames, windows), and the sum that it divides by (frames)."""
    handler: Any = IndexListContextHandler(
        get_matching_context_schedule("standard_static"), get_matching_fuse_method(fuse), context_overlap=overlap
    )
    clip, counts, biases = torch.zeros(frames, len(planned)), torch.zeros(frames, 1), [0.0] * frames
    for i, indices in enumerate(planned):
        window: Any = IndexListContextWindow(list(indices), total_frames=frames)
        window.context_overlap = overlap  # older versions read the handler's
        result = torch.eye(len(planned))[i].expand(len(indices), -1)
        handler.combine_context_window_results(
            clip, [result], None, window, i, len(planned), None, [clip], [counts], [biases]
        )
    if fuse == "relative":
        return clip, torch.tensor(biases)
    return clip / counts, counts.flatten()


@pytest.mark.one_version
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("fuse", FUSES)
@examples(60)
@given(arguments())
def test_weights_sum_to_one_in_every_frame(fuse, schedule, args):
    planned = windows(schedule, **args)
    weights = fuse_weights(fuse, planned, args["frames"], args["overlap"])
    assert all(weight.shape == (len(window),) for weight, window in zip(weights, planned, strict=True))
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert all((weight > 0).all() for weight in weights)
    total = as_matrix(planned, weights, args["frames"]).sum(1, dtype=torch.float64)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1.2e-7)
    again = fuse_weights(fuse, planned, args["frames"], args["overlap"])
    torch.testing.assert_close(again, weights, rtol=0, atol=0)


@pytest.mark.parametrize("schedule", ["static", "uniform"])
@pytest.mark.parametrize("fuse", FUSES)
@examples(60)
@given(arguments(max_frames=120, min_overlap=1))  # core's ramps fail without an overlap
def test_weights_are_cores(fuse, schedule, args):
    frames, overlap = args["frames"], args["overlap"]
    planned = windows(schedule, **args)
    expected, _ = core_weights(fuse, planned, frames, overlap)
    weights = fuse_weights(fuse, planned, frames, overlap)
    torch.testing.assert_close(as_matrix(planned, weights, frames), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fuse", FUSES)
@examples(100)
@given(arguments(max_frames=120, min_overlap=1))
def test_window_round_the_end_weighs_as_cores_in_the_middle_of_a_longer_clip(fuse, args):
    frames, length = args["frames"], args["length"]
    if frames < length:
        return
    planned = windows("closed loop", **args)
    raw = []
    for window in planned:
        hop = (window[1] - window[0]) % frames
        longer = [frames + window[0] + hop * i for i in range(length)]
        raw.append(core_weights(fuse, [longer], 4 * frames, args["overlap"])[1][longer])
    expected = as_matrix(planned, raw, frames)
    expected /= expected.sum(1, keepdim=True)
    weights = fuse_weights(fuse, planned, frames, args["overlap"])
    torch.testing.assert_close(as_matrix(planned, weights, frames), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fuse", FUSES)
@examples(60)
@given(arguments(max_frames=120, min_overlap=1), st.integers(0, 119))
def test_a_closed_loop_weighs_the_same_wherever_it_begins(fuse, args, turn):
    frames, overlap = args["frames"], args["overlap"]
    planned = windows("closed loop", **args)
    turned = [[(i + turn) % frames for i in window] for window in planned]
    expected = fuse_weights(fuse, planned, frames, overlap)
    torch.testing.assert_close(fuse_weights(fuse, turned, frames, overlap), expected)


@pytest.mark.parametrize("fuse", FUSES)
def test_a_frame_that_one_window_has_is_all_its_own(fuse):
    (first, last) = fuse_weights(fuse, [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]], 8, 2)
    assert first[:3].tolist() == last[2:].tolist() == [1.0, 1.0, 1.0]
    (end,) = fuse_weights(fuse, [[1, 2, 3]], 5, 1)
    assert end.tolist() == [1.0, 1.0, 1.0]


def test_ramps_of_a_loop_are_on_both_sides_of_its_join():
    weights = fuse_weights("overlap-linear", [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 0, 1]], 8, 2)
    assert [w.tolist() for w in weights] == [pytest.approx([0, 1, 1, 1, 1, 0], abs=1e-6)] * 2
    ends = fuse_weights("overlap-linear", [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7]], 8, 2)
    assert ends[0].tolist() == pytest.approx([1, 1, 1, 1, 1, 0], abs=1e-6)


def test_without_overlap_there_are_no_ramps():
    weights = fuse_weights("overlap-linear", windows("batched", 12, 4, 0), 12, 0)
    assert [w.tolist() for w in weights] == [[1.0] * 4] * 3
