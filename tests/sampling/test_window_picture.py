"""The picture of context windows."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
from PIL import Image

from animatediff_native.sampling.window_picture import (
    BACKGROUND,
    INK,
    MARGIN,
    ROWS,
    RULER,
    SEEN,
    SHARED,
    UNSEEN,
    draw_windows,
)
from animatediff_native.sampling.windows import SCHEDULES, windows


def colour_of(picture: Image.Image, row: int, rows: int, frame: int, frames: int) -> tuple[int, ...]:
    """In the last pixel of a frame's cell, half-way down."""
    across, down = picture.width - 2 * MARGIN, picture.height - MARGIN - RULER
    place = (MARGIN + ((frame + 1) * across - 1) // frames, int(MARGIN + (row + 0.4) / rows * down))
    colour = picture.getpixel(place)
    assert isinstance(colour, tuple)
    return colour


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("frames", "step", "stride"), [(16, 0, 1), (40, 1, 1), (64, 0, 3), (300, 2, 1), (400, 3, 1)])
def test_each_row_shows_the_frames_of_its_window_and_which_of_them_others_see(schedule, frames, step, stride):
    shown = windows(schedule, frames, 16, 4, stride, step)
    assert len(shown) <= ROWS
    picture, calls = draw_windows(shown, frames), Counter(chain(*shown))
    for row, window in enumerate(shown):
        for frame in range(frames):
            wanted = UNSEEN if frame not in window else SEEN if calls[frame] == 1 else SHARED
            assert colour_of(picture, row, len(shown), frame, frames) == wanted, (row, frame)


def test_windows_beyond_the_last_row_begin_again_at_the_top():
    shown = [[number] for number in range(ROWS + 2)]
    picture = draw_windows(shown, len(shown))
    seen = {
        (row, frame)
        for row in range(ROWS)
        for frame in range(len(shown))
        if colour_of(picture, row, ROWS, frame, len(shown)) == SEEN
    }
    assert seen == {(frame % ROWS, frame) for frame in range(len(shown))}


def test_a_clip_with_more_frames_than_pixels_hides_none_of_them():
    frames, shown = 2000, range(3, 2000, 97)
    picture = draw_windows([[frame] for frame in shown], frames)
    for row, frame in enumerate(shown):
        assert colour_of(picture, row, len(shown), frame, frames) == SEEN


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 100, 999, 2000])
@pytest.mark.parametrize("width", [200, 512])
def test_the_picture_is_of_the_width_asked_for_and_never_high(frames, width):
    for schedule in SCHEDULES:
        picture = draw_windows(windows(schedule, frames, 16, 4), frames, width)
        assert picture.width == width
        assert picture.height < 300


@pytest.mark.parametrize("frames", [2, 16, 40, 64, 120, 300, 600, 2000])
@pytest.mark.parametrize("width", [200, 512, 656])
def test_the_ruler_numbers_the_first_and_the_last_frame_and_numbers_keep_apart(frames, width):
    """Read from the picture: columns with ink, and the background between numbers."""
    picture = draw_windows(windows("static", frames, 16, 4), frames, width)
    ruler = np.asarray(picture.convert("L"))[-RULER:]
    inked = np.flatnonzero(ruler.max(axis=0) > 100)
    cell = (width - 2 * MARGIN) / frames + 4
    assert MARGIN / 2 < inked[0] < MARGIN + cell
    assert width - MARGIN - cell < inked[-1] < width - MARGIN / 2
    gaps = np.diff(inked)
    assert not ((gaps > 5) & (gaps < 12)).any(), gaps[gaps > 3]


def test_colours_can_be_told_apart():
    """By their brightness alone, as in the dark and the light theme of the editor and by people who see no colour."""
    ink = tuple(bytes.fromhex(INK[1:]))
    light = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (BACKGROUND, UNSEEN, SEEN, SHARED)]
    assert all(second - first >= 15 for first, second in pairwise(light))
    assert min(ink) - max(BACKGROUND) > 150
