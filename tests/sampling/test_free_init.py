"""FreeInit: what it samples is what a loop of KSampler runs gives, with diffusers' noise between them."""

from __future__ import annotations

from typing import Any

import comfy_extras.nodes_custom_sampler as sampler_nodes
import pytest
import torch
from comfy_support import CPU
from free_init_support import (
    DIFFERENT,
    NEXT_SEED,
    SAME,
    SEED,
    SHAPE,
    DiffusersFreeInit,
    from_diffusers,
    sampled,
    to_diffusers,
)
from node_support import FRAMES, NEGATIVE, POSITIVE, SIZE, core_nodes, empty_latent, error, ksampler, run, small_model

from animatediff_native.nodes.free_init import FreeInitNode
from animatediff_native.sampling.free_init import FILTERS, FreeInit, apply_free_init, low_pass, mix_frequencies
from animatediff_native.sampling.noise import draw

EVERYTHING = {"filter": "ideal", "spatial_frequency": 100.0, "temporal_frequency": 100.0}


@pytest.fixture
def oracle():
    return DiffusersFreeInit()


@pytest.fixture(scope="module")
def model():
    return small_model()


# The filters


@pytest.mark.parametrize("size", [(16, 8, 8), (7, 9, 5), (2, 64, 40)])
@pytest.mark.parametrize("stop", [(0.25, 0.25), (0.1, 0.7), (0.6, 0.3), (0.0, 0.5), (0.5, 0.0)])
@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "ideal"])
def test_filters_are_those_of_diffusers(oracle, kind, stop, size):
    expected = oracle._get_free_init_freq_filter((1, 1, *size), CPU, kind, 3, *stop)
    torch.testing.assert_close(low_pass(kind, size, *stop, order=3), from_diffusers(expected), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("size", "spatial", "temporal"), [((16, 8, 12), 0.5, 0.25), ((7, 9, 5), 0.4, 0.7)])
def test_the_box_reaches_as_far_as_the_stop_frequencies_from_the_middle(size, spatial, temporal):
    frames, height, width = size
    expected = torch.zeros(frames, 1, height, width)
    n, m = round(frames // 2 * temporal), round(height // 2 * spatial)
    middle = [count // 2 for count in size]
    expected[middle[0] - n : middle[0] + n, :, middle[1] - m : middle[1] + m, middle[2] - m : middle[2] + m] = 1
    assert 0 < expected.mean() < 1
    assert torch.equal(low_pass("box", size, spatial, temporal), expected)


@pytest.mark.parametrize("kind", FILTERS)
def test_nothing_passes_a_stop_frequency_of_zero(kind):
    assert not low_pass(kind, (16, 8, 8), 0.0, 0.25).any()
    assert not low_pass(kind, (16, 8, 8), 0.25, 0.0).any()


@pytest.mark.parametrize("size", [(16, 8, 8), (7, 9, 5)])
@pytest.mark.parametrize("kind", FILTERS)
def test_frequencies_are_mixed_as_in_diffusers(oracle, kind, size):
    low, high = (draw((size[0], 4, *size[1:]), seed) for seed in (1, 2))
    passes = low_pass(kind, size, 0.4, 0.3)
    expected = oracle._apply_freq_filter(*map(to_diffusers, (low, high, passes)))
    torch.testing.assert_close(mix_frequencies(low, high, passes), from_diffusers(expected), rtol=0, atol=1e-5)


# Sampling


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", "uni_pc"])
def test_iterations_are_runs_of_the_sampler_with_diffusers_noise_between_them(monkeypatch, oracle, model, sampler):
    first = draw(SHAPE, SEED)
    clip = sampled(model, first, sampler_name=sampler)
    for seed in (NEXT_SEED, NEXT_SEED + 1_000_000):
        noise = oracle.noise(monkeypatch, clip, first, draw(SHAPE, seed))
        clip = sampled(model, noise, seed=seed, sampler_name=sampler)
    result = sampled(apply_free_init(model, FreeInit(iterations=3)), first, sampler_name=sampler)
    assert error(result, clip) < SAME
    assert error(sampled(model, first, sampler_name=sampler), clip) > DIFFERENT


def test_two_runs_are_equal(model):
    with_free_init = apply_free_init(model, FreeInit())
    assert torch.equal(ksampler(with_free_init), ksampler(with_free_init))


def test_one_iteration_is_as_without_the_node(model):
    assert torch.equal(ksampler(apply_free_init(model, FreeInit(iterations=1))), ksampler(model))


def test_of_several_nodes_the_last_counts(model):
    twice = apply_free_init(apply_free_init(model, FreeInit(iterations=3)), FreeInit(iterations=2))
    assert torch.equal(ksampler(twice), ksampler(apply_free_init(model, FreeInit(iterations=2))))


def test_the_model_that_goes_in_is_as_before(model):
    before = ksampler(model)
    apply_free_init(model, FreeInit())
    assert torch.equal(ksampler(model), before)


@pytest.mark.parametrize("kind", ["butterworth", "gaussian"])
def test_the_node_passes_its_settings_on(model, kind):
    inputs = {"iterations": 2, "filter": kind, "spatial_frequency": 0.5, "temporal_frequency": 0.1}
    by_node = run(FreeInitNode, model=model, **inputs, order=2, coarse_to_fine=True)
    settings = FreeInit(2, kind, 0.5, 0.1, 2, True)
    assert torch.equal(ksampler(by_node), ksampler(apply_free_init(model, settings)))


def test_custom_samplers_iterate_too(model):
    with_free_init = apply_free_init(model, FreeInit(iterations=2))
    noise = run(sampler_nodes.RandomNoise, noise_seed=SEED)
    guider = run(sampler_nodes.CFGGuider, model=with_free_init, positive=POSITIVE, negative=NEGATIVE, cfg=3.0)
    sigmas = run(sampler_nodes.BasicScheduler, model=with_free_init, scheduler="normal", steps=2, denoise=1.0)
    euler = run(sampler_nodes.KSamplerSelect, sampler_name="euler")
    given = {"noise": noise, "guider": guider, "sampler": euler, "sigmas": sigmas, "latent_image": empty_latent()}
    output, denoised = run(sampler_nodes.SamplerCustomAdvanced, **given)
    assert error(output["samples"], ksampler(with_free_init, seed=SEED)) < SAME
    assert error(denoised["samples"], output["samples"]) < SAME


# Video to video, and parts of a sampling


def test_where_everything_passes_the_result_is_noised_again_and_sampled(model):
    """As KSampler does to the latent that it is given: here to the first iteration's clip, with the same noise."""
    first, latent = draw(SHAPE, SEED), draw(SHAPE, 7)
    clip = sampled(model, first, latent, denoise=0.5)
    expected = sampled(model, first, clip, denoise=0.5)
    result = sampled(apply_free_init(model, FreeInit(2, **EVERYTHING)), first, latent, denoise=0.5)
    assert error(result, expected) < SAME
    assert error(clip, expected) > DIFFERENT


@pytest.mark.parametrize("denoise", [0.5, 1.0])
def test_where_nothing_passes_the_latent_is_sampled_with_fresh_noise(model, denoise):
    first, latent = draw(SHAPE, SEED), draw(SHAPE, 7)
    expected = sampled(model, draw(SHAPE, NEXT_SEED), latent, NEXT_SEED, denoise=denoise)
    settings = FreeInit(2, spatial_frequency=0.0)
    result = sampled(apply_free_init(model, settings), first, latent, denoise=denoise)
    assert torch.equal(result, expected)


def test_at_full_denoise_a_latent_that_is_not_empty_is_no_part_of_the_result_twice(model):
    """Where everything passes, sampling starts from the clip under noise, whatever the latent was."""
    first, latent = draw(SHAPE, SEED), draw(SHAPE, 7)
    clip = sampled(model, first, latent)
    sigma = model.get_model_object("model_sampling").sigma_max
    expected = sampled(model, (clip + sigma * first) / (1 + sigma**2) ** 0.5)
    assert error(sampled(apply_free_init(model, FreeInit(2, **EVERYTHING)), first, latent), expected) < SAME


def test_frequencies_that_do_not_pass_are_those_of_the_latent(model):
    """In video to video: what the model sees in the first step of the second iteration."""
    first, latent = draw(SHAPE, SEED), draw(SHAPE, 7)
    clip = sampled(model, first, latent, denoise=0.5)
    calls: list[tuple[torch.Tensor, float]] = []

    def record(apply_model, call):
        calls.append((call["input"][:FRAMES].clone(), float(call["timestep"][0])))
        return apply_model(call["input"], call["timestep"], **call["c"])

    recording = apply_free_init(model, FreeInit(2))
    recording.set_model_unet_function_wrapper(record)
    sampled(recording, first, latent, denoise=0.5)
    start, sigma = calls[len(calls) // 2]
    low, high = clip + sigma * first, latent + sigma * draw(SHAPE, NEXT_SEED)
    passes = low_pass("butterworth", (FRAMES, SIZE, SIZE), 0.25, 0.25)
    torch.testing.assert_close(start, mix_frequencies(low, high, passes), rtol=1e-4, atol=1e-4)


def advanced(model: Any, latent: dict, start: int, end: int, first: bool) -> dict:
    """KSampler (Advanced) for a part of four steps."""
    settings = {"noise_seed": SEED, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    settings |= {"positive": POSITIVE, "negative": NEGATIVE, "latent_image": latent}
    settings |= {"add_noise": "enable" if first else "disable", "start_at_step": start, "end_at_step": end}
    settings |= {"return_with_leftover_noise": "enable" if first else "disable"}
    return run(core_nodes.KSamplerAdvanced, model=model, **settings)


def test_of_two_passes_the_one_that_adds_noise_iterates_its_steps(monkeypatch, oracle, model):
    """Its clip is what the model sees in its last step, since what it returns is half noise."""
    with_free_init = apply_free_init(model, FreeInit(2))
    result = advanced(with_free_init, advanced(with_free_init, empty_latent(), 0, 2, first=True), 2, 4, first=False)
    part = {"steps": 4, "start_step": 0, "last_step": 2, "force_full_denoise": False}
    clips: list[torch.Tensor] = []
    first = draw(SHAPE, SEED)
    sampled(model, first, **part, callback=lambda step, denoised, x, total: clips.append(denoised))
    noise = oracle.noise(monkeypatch, clips[-1], first, draw(SHAPE, NEXT_SEED))
    half = {"samples": model.model.process_latent_out(sampled(model, noise, seed=NEXT_SEED, **part))}
    assert error(result["samples"], advanced(model, half, 2, 4, first=False)["samples"]) < SAME


def test_a_pass_that_adds_no_noise_samples_once(model, caplog):
    with caplog.at_level("INFO"):
        result = advanced(apply_free_init(model, FreeInit()), {"samples": draw(SHAPE, 7)}, 2, 4, first=False)
    assert torch.equal(result["samples"], advanced(model, {"samples": draw(SHAPE, 7)}, 2, 4, first=False)["samples"])
    assert "FreeInit: no noise is added, so the latent is sampled once." in caplog.messages


def test_a_single_frame_is_sampled_once(model, caplog):
    with caplog.at_level("INFO"):
        assert torch.equal(ksampler(apply_free_init(model, FreeInit()), frames=1), ksampler(model, frames=1))
    assert "FreeInit: a single frame has no motion, so the latent is sampled once." in caplog.messages


def test_what_a_noise_mask_protects_stays(model):
    latent = model.model.process_latent_out(draw(SHAPE, 7))
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., : SIZE // 2] = 1.0
    masked = {"samples": latent, "noise_mask": mask}
    plain, result = (
        run(core_nodes.KSampler, model=patched, seed=SEED, steps=2, cfg=3.0, sampler_name="euler", scheduler="normal",
            positive=POSITIVE, negative=NEGATIVE, latent_image=masked)["samples"]
        for patched in (model, apply_free_init(model, FreeInit(2)))
    )  # fmt: skip
    torch.testing.assert_close(result[..., SIZE // 2 :], latent[..., SIZE // 2 :])
    assert error(result[..., : SIZE // 2], plain[..., : SIZE // 2]) > DIFFERENT


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("tiny", [5e-324, 1e-170, 1e-30, 1e-7])
def test_a_frequency_of_almost_nothing_passes_nothing(kind, tiny):
    for spatial, temporal in ((tiny, 0.25), (0.25, tiny), (tiny, tiny)):
        assert not low_pass(kind, (6, 8, 8), spatial=spatial, temporal=temporal).any()
