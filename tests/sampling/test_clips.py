"""A run of the sampler as a clip: its noise, its windows, and what several nodes on one MODEL make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.sample
import pytest
import torch
from comfy_support import animate, conditioning, load_motion, sample
from node_support import CHANNELS, small_model

from animatediff_native.motion_models.motion_model import AttentionWindows
from animatediff_native.motion_models.unet import motion_hooks, unet_slots
from animatediff_native.sampling import noise as noises
from animatediff_native.sampling.clips import apply_sliding_context, prepare_clips
from animatediff_native.sampling.context_windows import MOTION, ContextOptions
from animatediff_native.sampling.noise import ClipNoise, FreeNoise
from animatediff_native.sampling.windows import fuse_weights, windows

FRAMES, LENGTH, OVERLAP = 14, 6, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def motion(folder):
    return load_motion(folder, channels=CHANNELS)


@pytest.fixture(scope="module")
def animated(model, motion):
    return animate(model, motion)


def windowed(model, length=LENGTH, overlap=OVERLAP, **options):
    return apply_sliding_context(model, ContextOptions(length, overlap, **options))


def sample_from(model, noise: torch.Tensor, steps: int = 2) -> torch.Tensor:
    return comfy.sample.sample(
        model, noise, steps, 3.0, "euler", "normal", conditioning(5), conditioning(6), torch.zeros_like(noise), seed=3
    )


def noise_of(frames: int = FRAMES) -> torch.Tensor:
    return torch.randn(frames, 4, 8, 8, generator=torch.Generator().manual_seed(9))


# Noise


def test_long_clips_start_from_freenoise(animated):
    noise = noise_of()
    shuffled = FreeNoise(LENGTH, LENGTH - OVERLAP)(noise, 3)
    plain = windowed(animated, free_noise=False)
    assert torch.equal(sample_from(windowed(animated), noise), sample_from(plain, shuffled))
    assert not torch.equal(shuffled, noise)


def test_the_noise_that_was_given_is_left_alone(animated):
    noise = noise_of()
    sample_from(windowed(animated), noise, steps=1)
    assert torch.equal(noise, noise_of())


def test_a_clip_of_one_window_keeps_its_noise(animated):
    noise = noise_of(LENGTH)
    assert torch.equal(sample_from(windowed(animated), noise), sample_from(animated, noise))


def test_freenoise_comes_after_clip_noise_wherever_the_nodes_are(animated):
    noise, seeds = noise_of(), ClipNoise("per-frame seeds", 1.0)
    expected = sample_from(windowed(animated, free_noise=False), FreeNoise(6, 4)(seeds(noise, 3), 3))
    before: Any = animated.clone()
    after: Any = windowed(animated)
    for model in (before, after):
        model.model_options |= {noises.KEY: (seeds,)}
    assert torch.equal(sample_from(windowed(before), noise), expected)
    assert torch.equal(sample_from(prepare_clips(after), noise), expected)


def test_the_second_pass_adds_no_noise(animated):
    """As KSampler (Advanced) with add_noise off."""
    zeros = torch.zeros(FRAMES, 4, 8, 8)
    arranged = sample_from(windowed(animated), zeros)
    assert torch.equal(arranged, sample_from(windowed(animated, free_noise=False), zeros))


# Windows


def test_a_module_that_holds_fewer_frames_gets_windows_wherever_it_is_in_the_chain(model, motion, folder):
    short = load_motion(folder, "v1", channels=CHANNELS)  # 24 positions
    for first, second in ((motion, short), (short, motion)):
        chained = animate(animate(model, first), second)
        in_windows = windowed(chained, 16, 4)
        assert torch.equal(sample(chained, frames=26, steps=1), sample(in_windows, frames=26, steps=1))


@pytest.mark.parametrize("trained", [4, 16, 24, 64])
def test_automatic_windows_are_as_long_as_the_clips_that_the_module_was_trained_on(model, motion, trained):
    """Stretched modules and HotshotXL have other lengths than 16; more than the module holds is none."""
    module = replace(motion, family=replace(motion.family, trained_frames=trained))
    length = min(trained, motion.config.pe_length)
    windows_by_hand = windowed(animate(model, module), length, length // 4)
    assert torch.equal(sample(animate(model, module), frames=40, steps=1), sample(windows_by_hand, frames=40, steps=1))


@pytest.mark.parametrize("within", ["whole UNet", MOTION])
def test_a_clip_that_fits_can_be_a_closed_loop(animated, model, within):
    """Its windows are the clip, begun at several frames."""
    noise = noise_of(LENGTH)
    planned = windows("closed loop", LENGTH, LENGTH, OVERLAP)
    loop = windowed(animated, schedule="closed loop", within=within)
    assert len(planned) > 1 and all(sorted(window) == list(range(LENGTH)) for window in planned)
    if within == MOTION:
        expected = sample_from(with_windows(animated, model, planned, LENGTH), noise, steps=1)
    else:
        expected = torch.zeros_like(noise)
        for window, weight in zip(planned, fuse_weights("pyramid", planned, LENGTH, OVERLAP), strict=True):
            expected[window] += sample_from(animated, noise[window], steps=1) * weight.view(-1, 1, 1, 1)
    torch.testing.assert_close(sample_from(loop, noise, steps=1), expected, rtol=1e-3, atol=1e-3)


def with_windows(animated, model, planned: list[list[int]], frames: int):
    """`model` with the motion model of `animated`, put into its UNet by hand."""
    motion_model = next(iter(animated.additional_models.values()))[0].model
    cpu = torch.device("cpu")
    inside = AttentionWindows.of(planned, fuse_weights("pyramid", planned, frames, OVERLAP), cpu)
    by_hand = model.clone()
    by_hand.object_patches = dict(animated.object_patches)  # the noise schedule

    slots = unet_slots(model.model.diffusion_model)

    def apply_model(call_model, call):
        with motion_hooks(slots, motion_model, frames, windows=inside):
            return call_model(call["input"], call["timestep"], **call["c"])

    by_hand.set_model_unet_function_wrapper(apply_model)
    return by_hand


def test_windows_inside_of_the_motion_modules_let_the_unet_see_the_whole_clip(animated, model):
    noise, calls = noise_of(), []
    planned = windows("static", FRAMES, LENGTH, OVERLAP)
    inside = windowed(animated, within=MOTION, free_noise=False)
    inside.set_model_attn1_patch(lambda q, k, v, options: calls.append(len(q)) or (q, k, v))
    torch.testing.assert_close(
        sample_from(inside, noise, 1), sample_from(with_windows(animated, model, planned, FRAMES), noise, 1)
    )
    assert set(calls) == {2 * FRAMES}


def test_windows_inside_of_the_motion_modules_may_be_longer_than_the_clip(animated):
    noise = noise_of(LENGTH)
    assert torch.equal(sample_from(windowed(animated, 16, 4, within=MOTION), noise), sample_from(animated, noise))


def test_clips_longer_than_the_positions_run_inside_of_the_motion_modules(animated):
    assert torch.isfinite(sample(windowed(animated, 16, 4, within=MOTION), frames=40, steps=1)).all()


def test_windows_go_inside_in_the_course_of_the_sampling(animated):
    frames, calls = noise_of(), []
    model = windowed(windowed(animated), within=MOTION, start_percent=0.5)
    model.set_model_unet_function_wrapper(
        lambda call_model, call: (
            calls.append(len(call["input"])) or call_model(call["input"], call["timestep"], **call["c"])
        )
    )
    sample_from(model, frames, steps=2)
    assert calls == [2 * LENGTH] * 3 + [2 * FRAMES]
