"""SparseCtrl in context windows: which keyframes a window sees, and what it gets from them."""

from __future__ import annotations

import comfy_extras.nodes_context_windows as context_nodes
import pytest
import torch
from node_support import POSITIVE, error, noise_of, predict, run, windowed
from sparse_ctrl_support import (
    DIFFERENT,
    SAME,
    SMALL,
    check_call,
    controlled,
    keyframe_images,
    load_sparse,
    pictures,
    sampled,
    with_recorded_controls,
)

from animatediff_native.sampling.keyframes_in_windows import keyframes_in_window
from animatediff_native.sampling.windows import fuse_weights, windows

LONG, LENGTH, OVERLAP = 10, 4, 2


@pytest.mark.parametrize(
    ("window", "keyframes", "loop_of", "places"),
    [
        ([0, 1, 2, 3], (0, 3, 9), 0, {0: 0, 3: 1}),
        ([4, 5, 6, 7], (0, 9), 0, {3: 1}),
        ([4, 5, 6, 7], (2, 9), 0, {0: 0, 3: 1}),
        ([4, 5, 6, 7], (2,), 0, {0: 0}),
        ([0, 1, 2, 3], (15,), 0, {3: 0}),
        ([0, 1, 2, 3], (15,), 16, {0: 0}),  # round the end of the loop, the last frame comes before the first
        ([14, 15, 0, 1], (0, 7), 16, {2: 0}),
        ([0, 1, 2], (9,), 16, {1: 0}),  # seven frames from either end
        ([0, 4, 8, 12], (5, 15), 0, {1: 0}),
    ],
)
def test_a_window_without_keyframes_sees_the_nearest(window, keyframes, loop_of, places):
    assert keyframes_in_window(window, keyframes, "nearest", loop_of) == places
    inside = {window.index(frame): i for i, frame in enumerate(keyframes) if frame in window}
    assert keyframes_in_window(window, keyframes, "none", loop_of) == inside


@pytest.mark.parametrize("at_once", [1, 2])
def test_each_window_is_controlled_as_if_it_were_a_clip(animated, scribble, at_once):
    """The only picture is at frame 1, and stands at the first place of all windows but the first."""
    noise, plan = noise_of(LONG), windows("static", LONG, LENGTH, OVERLAP)
    clip = predict(windowed(animated, at_once=at_once), controlled(scribble, keyframe_images("1", n=1))[0], noise)
    expected = torch.zeros_like(noise)
    for window, weight in zip(plan, fuse_weights("pyramid", plan, LONG, OVERLAP), strict=True):
        place = "1" if window[0] == 0 else "0"
        alone = predict(animated, controlled(scribble, keyframe_images(place, n=1))[0], noise[window])
        expected[window] += alone * weight.view(-1, 1, 1, 1)
    assert error(clip, expected) < SAME
    assert error(predict(windowed(animated), POSITIVE, noise), expected) > DIFFERENT


@pytest.mark.parametrize("far", ["nearest", "none"])
@pytest.mark.parametrize("schedule", ["closed loop", "uniform", "core"])
def test_windows_round_the_end_and_of_every_other_frame_see_their_keyframes(model, folder, far, schedule):
    control = load_sparse(folder, "scribble", SMALL, far_keyframes=far)
    if schedule == "core":
        settings = {"context_schedule": "standard_static", "fuse_method": "pyramid"}
        node = context_nodes.ContextWindowsManualNode
        windowed_model = run(node, model=model, context_length=LENGTH, context_overlap=OVERLAP, **settings)
    else:
        windowed_model = windowed(model, schedule=schedule, stride=2)
    recorded, calls = with_recorded_controls(windowed_model)
    images = keyframe_images("3, 9")
    sampled(recorded, *controlled(control, images), frames=LONG)
    assert len(calls) > 3
    loop_of = LONG if schedule == "closed loop" else 0
    for call in calls:
        places = keyframes_in_window(call["frames"], (3, 9), far, loop_of)
        check_call(call, "scribble", images.keyframes, places)


@pytest.mark.parametrize("images", [keyframe_images("0, -1"), pictures(2)], ids=["keyframes", "plain images"])
def test_windows_within_the_motion_modules_are_windows_in_sparse_ctrl_too(animated, scribble, images):
    """One of them is all of the clip, so that the result is that of the clip at once."""
    positive, noise = controlled(scribble, images)[0], noise_of(8)
    inside = windowed(animated, within="motion module")
    recorded, calls = with_recorded_controls(inside)
    predict(recorded, positive, noise)
    whole, expected = with_recorded_controls(animated)
    predict(whole, positive, noise)
    assert [call["frames"] for call in calls] == [None]
    for features, of_clip in zip(calls[0]["control"], expected[0]["control"], strict=True):
        assert features.shape == of_clip.shape and torch.isfinite(features).all()
    # The first feature comes before all motion modules, the next ones after some.
    assert error(calls[0]["control"][0], expected[0]["control"][0]) < SAME
    assert error(calls[0]["control"][-1], expected[0]["control"][-1]) > DIFFERENT


def test_more_frames_than_positions_are_refused_before_sampling(model, scribble):
    recorded, calls = with_recorded_controls(model)
    with pytest.raises(ValueError, match="33 frames at once are more than the 32 that scribble_2_7"):
        sampled(recorded, *controlled(scribble, keyframe_images("0, 1")), frames=33)
    assert not calls


def test_within_the_motion_modules_pictures_stay_at_their_frames(animated, scribble, folder):
    """The UNet sees the whole clip, so that no window needs a picture of another one: motion modules carry it on."""
    recorded, calls = with_recorded_controls(windowed(animated, within="motion module"))
    none = load_sparse(folder, "scribble", SMALL, far_keyframes="none")
    nearest, same, moved = (
        predict(recorded, controlled(control, keyframe_images(frame, n=1))[0], noise_of(LONG))
        for control, frame in ((scribble, "0"), (none, "0"), (scribble, "1"))
    )
    assert torch.equal(nearest, same)
    before_motion = calls[0]["control"][0]
    without_picture = before_motion[1:]
    assert torch.equal(without_picture, without_picture[:1].expand_as(without_picture))
    assert error(before_motion[0], before_motion[1]) > DIFFERENT
    assert error(nearest[-LENGTH:], moved[-LENGTH:]) > SAME
