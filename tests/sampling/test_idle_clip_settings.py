"""Settings that do nothing in a clip are one line of the log, and those that do something are none."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from comfy_support import animate, load_motion
from node_support import CHANNELS, ksampler, small_model

from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import ContextOptions
from animatediff_native.sampling.free_init import FreeInit, apply_free_init


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def idle(caplog):
    """Return the lines of a run's log that say what does nothing."""

    def lines(model: Any, frames: int) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            ksampler(model, frames=frames, steps=2)
        return [line for line in caplog.messages if re.search("nothing|adds no", line)]

    return lines


@pytest.mark.parametrize(
    ("frames", "options", "sentence"),
    [
        (8, {"fuse": "flat"}, "fuse flat does nothing with windows that do not overlap, as in 8 frames"),
        (6, {"fuse": "flat"}, None),  # the last window is moved back and overlaps
        (8, {}, None),
        (4, {"fuse": "flat"}, None),  # one window, and the log says so
        (8, {"fuse": "flat", "overlap": 2}, None),
        (6, {"schedule": "looped", "overlap": 2, "stride": 2}, "context_stride 2 adds no windows in 6 frames"),
        (9, {"schedule": "looped", "overlap": 2, "stride": 2}, None),
    ],
)
def test_windows_that_a_setting_does_not_change_are_logged(model, idle, frames, options, sentence):
    settings = ContextOptions(**{"length": 4, "overlap": 0, "free_noise": False, **options})
    assert idle(apply_sliding_context(model, settings), frames) == (
        [f"Sliding Context: {sentence}."] if sentence else []
    )


@pytest.mark.parametrize(
    ("frames", "settings", "logged"),
    [
        (4, {"filter": "box"}, True),
        (6, {"filter": "box"}, False),
        (4, {}, False),
        (6, {"spatial_frequency": 0.0}, True),
    ],
)
def test_a_filter_of_free_init_that_keeps_nothing_is_logged_once(model, idle, frames, settings, logged):
    lines = idle(apply_free_init(model, FreeInit(**settings)), frames)
    assert [f"keeps nothing of {frames} frames" in line for line in lines] == [True] * logged


def test_the_frame_rate_of_an_earlier_apply_animatediff_is_logged(model, tmp_path, caplog):
    motion = load_motion(tmp_path, channels=CHANNELS)
    first = animate(model, motion, frame_rate=12.0)
    with caplog.at_level(logging.INFO):
        animate(first, motion, frame_rate=12.0)
        assert "frame_rate" not in caplog.text
        animate(first, motion, frame_rate=8.0)
    assert "frame_rate 8 replaces the 12 of the Apply AnimateDiff before it" in caplog.text
