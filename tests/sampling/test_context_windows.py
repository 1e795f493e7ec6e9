"""Sliding context: windows in which a clip of any length is sampled, and everything that belongs to a frame in them."""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from comfy_support import animate, conditioning, load_motion, sample
from node_support import CHANNELS, error, small_model

from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions, Window
from animatediff_native.sampling.windows import FUSES, SCHEDULES, fuse_weights, windows


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def animated(model, tmp_path_factory):
    return animate(model, load_motion(tmp_path_factory.mktemp("models"), channels=CHANNELS))


def windowed(model, length=6, overlap=2, **options):
    """Without FreeNoise, so that a window can be compared with sampling its frames alone."""
    return apply_sliding_context(
        model, ContextOptions(length, overlap, **{"free_noise": False, "stride": 1, **options})
    )


@pytest.mark.parametrize("overlap", [16, 20, -1])
def test_overlap_has_to_be_smaller_than_the_window(overlap):
    with pytest.raises(ValueError, match=rf"{overlap} frames .* 16"):
        ContextOptions(16, overlap)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "closed loop"])
@pytest.mark.parametrize("frames", [1, 6, 16])
def test_clip_that_fits_is_sampled_as_without_windows(animated, schedule, frames):
    in_windows = windowed(animated, 16, 4, schedule=schedule, free_noise=True)
    assert torch.equal(sample(in_windows, frames=frames), sample(animated, frames=frames))


def noise_of(frames: int) -> torch.Tensor:
    return torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(9))


def one_step(model, noise: torch.Tensor, **options) -> torch.Tensor:
    """One step of Euler from the noise to zero is linear in what the windows give."""
    positive = options.pop("positive", None) or conditioning(5)
    return comfy.sample.sample(
        model, noise, 1, 3.0, "euler", "normal", positive, conditioning(6), torch.zeros_like(noise), seed=3, **options
    )


@pytest.mark.parametrize("fuse", FUSES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_long_clip_is_the_weighted_mean_of_its_windows(animated, schedule, fuse):
    noise = noise_of(10)
    planned = windows(schedule, 10, 6, 2)
    expected = torch.zeros_like(noise)
    for window, weight in zip(planned, fuse_weights(fuse, planned, 10, 2), strict=True):
        expected[window] += one_step(animated, noise[window]) * weight.view(-1, 1, 1, 1)
    clip = one_step(windowed(animated, schedule=schedule, fuse=fuse), noise)
    torch.testing.assert_close(clip, expected, rtol=1e-3, atol=1e-3)


def test_what_is_one_for_all_frames_is_whole_in_every_window():
    one, numbered = torch.ones(1, 3), torch.arange(6.0).view(6, 1)
    window = Window([[4, 5], [5, 0]], 6)
    assert window.get_tensor(one) is one
    assert window.get_tensor(numbered).flatten().tolist() == [4, 5, 5, 0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_runs_of_one_handler_are_independent(animated, schedule):
    in_windows = windowed(animated, schedule=schedule)
    handler = in_windows.model_options["context_handler"]
    before = dict(vars(handler))
    first = sample(in_windows, frames=10, steps=3)
    sample(in_windows, frames=14, steps=1)
    assert torch.equal(sample(in_windows, frames=10, steps=3), first)
    assert vars(handler) == before, "a handler is shared by clones, and may not hold on to a run"


def recorded(model) -> tuple[Any, list[list[int]]]:
    """A clone of the model, and the frames of every call of its UNet."""
    seen: list[list[int]] = []

    def note(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        seen.append(options["ad_params"]["sub_idxs"])
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key("apply_model", "test", note)  # WrappersMP.APPLY_MODEL
    return model, seen


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "lcm"])
def test_uniform_windows_move_from_step_to_step(animated, sampler):
    model, seen = recorded(windowed(animated, schedule="uniform"))
    noise = noise_of(10)
    comfy.sample.sample(
        model,
        noise,
        3,
        1.0,
        sampler,
        "normal",
        conditioning(5),
        conditioning(6),
        torch.zeros_like(noise),
        seed=3,
    )
    steps = [0, 1, 1, 2, 2] if sampler == "heun" else [0, 1, 2]  # its second look at a step is at the next noise level
    assert seen == [window for step in steps for window in windows("uniform", 10, 6, 2, step=step)]


def test_a_closed_loop_sees_all_of_itself_at_first(animated):
    """Later windows hold frames one after the other."""
    model, seen = recorded(windowed(animated, schedule="closed loop", stride=0))
    sample(model, frames=24, steps=8, cfg=1.0)
    first = windows("closed loop", 24, 6, 2, stride=8, step=0)
    assert [0, 4, 8, 12, 16, 20] in first
    assert seen[: len(first)] == first
    assert all(window in windows("closed loop", 24, 6, 2, step=7) for window in seen[-6:])
    plain, calls = recorded(windowed(animated, stride=0))
    sample(plain, frames=24, steps=1, cfg=1.0)
    assert calls == windows("static", 24, 6, 2)


def test_windows_change_in_the_course_of_the_sampling(animated):
    model, seen = recorded(windowed(windowed(animated, 8, 2), 4, 1, start_percent=0.5))
    sample(model, frames=10, steps=4, cfg=1.0)
    lengths = [len(window) for window in seen]
    assert lengths == [8, 8] * 2 + [4, 4, 4] * 2


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde", "dpm_fast", "dpm_adaptive"])
@pytest.mark.parametrize("within", ["whole UNet", MOTION])
def test_windows_change_at_their_noise_level_whatever_a_sampler_reports(animated, sampler, within):
    model = windowed(windowed(animated, 8, 2, within=within), 4, 1, start_percent=0.5, within=within)
    seen: list[tuple[float, int]] = []

    def note(executor, x, sigma, *args, **kwargs):
        out = executor(x, sigma, *args, **kwargs)
        seen.append((float(sigma.max()), executor.class_obj.model_options["context_handler"].plan.options.length))
        return out

    model.add_wrapper_with_key("predict_noise", "test", note)
    prompts, noise = (conditioning(5), conditioning(6)), noise_of(10)
    comfy.sample.sample(model, noise, 6, 1.0, sampler, "normal", *prompts, torch.zeros_like(noise), seed=3)
    sampling: Any = model.get_model_object("model_sampling")
    steps = comfy.samplers.calculate_sigmas(sampling, "normal", 6)
    last_before = float(steps[steps > sampling.percent_to_sigma(0.5)][-1]) * (1 - 1e-5)
    assert {length for _, length in seen} == {8, 4}
    assert [length for _, length in seen] == [4 if sigma < last_before else 8 for sigma, _ in seen]


def test_windows_change_at_the_step_whose_noise_is_just_their_start(animated):
    model, seen = recorded(windowed(windowed(animated, 8, 2), 4, 1, start_percent=0.5))
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    sigmas = torch.tensor([to_sigma(percent) for percent in (0.25, 0.5)] + [0.0], dtype=torch.float64)
    euler, zeros = comfy.samplers.sampler_object("euler"), torch.zeros(10, 4, 8, 8)
    prompts = conditioning(5), conditioning(6)
    comfy.sample.sample_custom(model, noise_of(10), 1.0, euler, sigmas, *prompts, zeros, seed=3)
    assert [len(window) for window in seen] == [8, 8, 4, 4, 4]


def test_a_sampler_that_chooses_its_own_steps_keeps_to_the_last_windows(animated):
    model, seen = recorded(windowed(animated, schedule="uniform"))
    noise, prompts = noise_of(10), (conditioning(5), conditioning(6))
    comfy.sample.sample(model, noise, 2, 1.0, "dpm_adaptive", "normal", *prompts, torch.zeros_like(noise), seed=3)
    assert len(seen) > 3 * len(windows("uniform", 10, 6, 2, step=0))


def test_a_later_node_with_the_same_start_replaces_the_earlier(animated):
    model, seen = recorded(windowed(windowed(animated, 8, 2), 4, 1))
    sample(model, frames=10, steps=1, cfg=1.0)
    assert [len(window) for window in seen] == [4, 4, 4]


def test_windows_work_without_a_motion_module(model):
    """Its frames know nothing of each other, so windows change nothing."""
    torch.testing.assert_close(sample(windowed(model), frames=10), sample(model, frames=10), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("within", ["whole UNet", MOTION])
def test_step_by_step_passes_equal_one_pass(animated, within):
    in_windows = windowed(animated, within=within)
    noise, zeros = noise_of(10), torch.zeros(10, 4, 8, 8)
    options: Any = {"model": in_windows, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal",
                    "positive": conditioning(5), "negative": conditioning(6), "seed": 3}  # fmt: skip
    half = comfy.sample.sample(noise=noise, latent_image=zeros, last_step=2, **options)
    rest = comfy.sample.sample(noise=zeros, latent_image=half, start_step=2, disable_noise=True, **options)
    whole = comfy.sample.sample(noise=noise, latent_image=zeros, **options)
    assert error(rest, whole) < 1e-4


def test_several_windows_in_one_call_give_the_same(animated):
    one, three = windowed(animated), windowed(animated, at_once=3)
    model, seen = recorded(three)
    sample(model, frames=14, steps=1)
    assert [len(indices) for indices in seen] == [18], "0-5, 4-9 and 8-13 together"
    assert error(sample(three, frames=16), sample(one, frames=16)) < 1e-4


def test_fewer_windows_share_a_call_when_memory_is_short(animated, monkeypatch):
    needed = animated.model.memory_required([2 * 2 * 6, 4, 8, 8]) * 1.5  # two prompts, two windows
    monkeypatch.setattr(type(animated), "get_free_memory", lambda *_: needed + 1)
    model, seen = recorded(windowed(animated, at_once=3))
    sample(model, frames=14, steps=1, cfg=1.0)
    assert [len(indices) for indices in seen] == [12, 6]


@pytest.mark.parametrize(("options", "frames"), [({}, 6), ({"at_once": 2}, 12), ({"within": MOTION}, 20)])
def test_comfyui_is_told_of_the_frames_in_flight_alone(animated, options, frames, monkeypatch):
    shapes, estimate = [], comfy.sampler_helpers.estimate_memory

    def spy(model, noise_shape, *args, **kwargs):
        shapes.append(list(noise_shape))
        return estimate(model, noise_shape, *args, **kwargs)

    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", spy)
    sample(windowed(animated, **options), frames=20, steps=1, cfg=1.0)
    assert shapes == [[frames, 4, 8, 8]]


def test_other_packs_can_read_the_frames_of_a_window(animated):
    seen = []
    in_windows = windowed(animated)
    in_windows.set_model_attn1_patch(lambda q, k, v, options: seen.append(options["ad_params"]) or (q, k, v))
    sample(in_windows, frames=10, steps=1)
    assert all((p["full_length"], p["context_length"]) == (10, 6) for p in seen)
    assert [0, 1, 2, 3, 4, 5] in [p["sub_idxs"] for p in seen]
    assert [4, 5, 6, 7, 8, 9] in [p["sub_idxs"] for p in seen]


def test_interrupt_between_windows_leaves_the_model_as_it_was(animated):
    in_windows = windowed(animated)
    first = sample(in_windows, frames=10)
    calls = []

    def interrupt_in_the_first(executor, *args, **kwargs):
        calls.append(1)
        comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    interrupted = in_windows.clone()
    interrupted.add_wrapper_with_key("apply_model", "test", interrupt_in_the_first)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(interrupted, frames=10, steps=1, cfg=1.0)
    assert len(calls) == 1, "the second window was not begun"
    assert torch.equal(sample(in_windows, frames=10), first)
