"""Sliding context: every frame is covered, and everything that belongs to a frame goes with it."""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import comfy.sample
import pytest
import torch
from comfy_support import animate, conditioning, load_motion, make_model, sample

from sampling.context_windows import SCHEDULES, SlidingContext, apply_sliding_context


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def animated(model, tmp_path_factory):
    return animate(model, load_motion(tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("frames", "length", "overlap"), [(17, 16, 4), (40, 16, 4), (33, 8, 7), (25, 12, 0), (64, 24, 6)]
)
def test_windows_cover_every_frame_with_full_length(schedule, frames, length, overlap):
    handler = SlidingContext(length, overlap, schedule)
    for step in range(12):
        handler._step = step
        windows = [w.index_list for w in handler.get_context_windows(None, torch.zeros(frames, 1), {})]  # type: ignore
        assert {i for window in windows for i in window} == set(range(frames))
        assert all(window == list(range(window[0], window[0] + length)) for window in windows)


def test_static_windows_are_the_published_ones():
    windows = SlidingContext(16, 4).get_context_windows(None, torch.zeros(40, 1), {})  # type: ignore
    assert [w.index_list[0] for w in windows] == [0, 12, 24]


@pytest.mark.parametrize("overlap", [16, 20, -1])
def test_overlap_has_to_be_smaller_than_the_window(overlap):
    with pytest.raises(ValueError, match=rf"{overlap} frames .* 16"):
        SlidingContext(16, overlap)


@pytest.mark.parametrize("frames", [1, 6, 16])
def test_clip_that_fits_is_sampled_as_without_windows(animated, frames):
    windowed = apply_sliding_context(animated, SlidingContext(16, 4))
    assert torch.equal(sample(windowed, frames=frames), sample(animated, frames=frames))


def test_long_clip_is_the_weighted_mean_of_its_windows(animated):
    """One step of Euler from the noise to zero is linear in what the windows give."""
    noise_of = {}

    def window(first: int, length: int, frames: int) -> torch.Tensor:
        noise_of[frames] = torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(9))
        return sample_noise(animated, noise_of[frames][first : first + length])

    frames, length, overlap = 10, 6, 2
    clip = sample_noise(
        apply_sliding_context(animated, SlidingContext(length, overlap)),
        torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(9)),
    )
    pyramid = torch.tensor([1.0, 2.0, 3.0, 3.0, 2.0, 1.0]).view(-1, 1, 1, 1)
    total, weights = torch.zeros_like(clip), torch.zeros(frames, 1, 1, 1)
    for first in (0, 4):
        total[first : first + length] += window(first, length, frames) * pyramid
        weights[first : first + length] += pyramid
    torch.testing.assert_close(clip, total / weights, rtol=1e-3, atol=1e-3)


def sample_noise(model, noise: torch.Tensor) -> torch.Tensor:
    return comfy.sample.sample(
        model, noise, 1, 3.0, "euler", "normal", conditioning(5), conditioning(6), torch.zeros_like(noise), seed=3
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_runs_of_one_handler_are_independent(animated, schedule):
    windowed = apply_sliding_context(animated, SlidingContext(6, 2, schedule))
    first = sample(windowed, frames=10, steps=3)
    sample(windowed, frames=14, steps=1)
    assert torch.equal(sample(windowed, frames=10, steps=3), first)
    assert not hasattr(windowed.model_options["context_handler"], "_model"), "a handler may not hold on to a model"


def test_windows_work_without_a_motion_module(model):
    windowed = apply_sliding_context(model, SlidingContext(6, 2))
    torch.testing.assert_close(sample(windowed, frames=10), sample(model, frames=10), rtol=1e-3, atol=1e-2)


def test_other_packs_can_read_the_frames_of_a_window(animated):
    seen = []
    windowed = apply_sliding_context(animated, SlidingContext(6, 2))
    windowed.set_model_attn1_patch(lambda q, k, v, options: seen.append(options["ad_params"]) or (q, k, v))
    sample(windowed, frames=10, steps=1)
    assert all((p["full_length"], p["context_length"]) == (10, 6) for p in seen)
    assert [0, 1, 2, 3, 4, 5] in [p["sub_idxs"] for p in seen]
    assert [4, 5, 6, 7, 8, 9] in [p["sub_idxs"] for p in seen]


class Hints(torch.nn.Module):
    """A ControlNet that notes the hints it gets and steers nothing."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, hint, timesteps, context, **_):
        self.seen.append([int(value) for value in hint[:, 0, 0, 0]])
        return {}


def with_hints(count: int) -> tuple[list, comfy.controlnet.ControlNet, Hints]:
    control_model = Hints()
    control = comfy.controlnet.ControlNet(control_model, load_device=torch.device("cpu"))
    hints = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    control.set_cond_hint(hints)
    return [[conditioning(5)[0][0], {"control": control, "control_apply_to_uncond": True}]], control, control_model


def test_controls_that_slice_by_themselves_can_read_the_frames_too(animated):
    """Advanced-ControlNet reads `ad_params` and marks its controls with `sub_idxs`: their hints are left alone."""
    seen = []

    class SlicingControl(comfy.controlnet.ControlBase):
        sub_idxs = None

        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            hints: Any = self.cond_hint_original
            seen.append((transformer_options["ad_params"]["sub_idxs"], len(hints)))

    control = SlicingControl()
    control.set_cond_hint(torch.zeros(10, 3, 64, 64))
    positive = [[conditioning(5)[0][0], {"control": control, "control_apply_to_uncond": True}]]
    sample(apply_sliding_context(animated, SlidingContext(6, 2)), frames=10, steps=1, positive=positive)
    assert seen == [(list(range(6)), 10), (list(range(4, 10)), 10)]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_controlnet_hints_follow_their_frames(animated, cfg):
    positive, control, control_model = with_hints(10)
    hints = control.cond_hint_original
    sample(apply_sliding_context(animated, SlidingContext(6, 2)), frames=10, steps=1, cfg=cfg, positive=positive)
    windows = [list(range(6)), list(range(4, 10))]
    seen = [hint[:6] for hint in control_model.seen]
    assert seen == windows
    assert all(hint == hint[:6] * (len(hint) // 6) for hint in control_model.seen), "the same for cond and uncond"
    assert control.cond_hint_original is hints


def test_one_hint_serves_every_window(animated):
    positive, _, control_model = with_hints(1)
    sample(apply_sliding_context(animated, SlidingContext(6, 2)), frames=10, steps=1, positive=positive)
    assert {value for hint in control_model.seen for value in hint} == {0}


def test_wrong_number_of_hints_is_refused_and_they_are_put_back(animated):
    positive, control, _ = with_hints(7)
    hints = control.cond_hint_original
    with pytest.raises(ValueError, match=r"7 ControlNet hints for 10 frames"):
        sample(apply_sliding_context(animated, SlidingContext(6, 2)), frames=10, steps=1, positive=positive)
    assert control.cond_hint_original is hints
