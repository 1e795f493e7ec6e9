"""FreeInit's steps and their progress, beside windows, noise, LoRAs and ControlNets, and when something goes wrong."""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import comfy.hooks
import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy_extras.nodes_model_advanced as model_nodes
import pytest
import torch
from comfy_support import animate, conditioning, load_motion
from free_init_support import DIFFERENT, NEXT_SEED, SAME, SEED, SHAPE, DiffusersFreeInit, sampled
from node_support import (
    CHANNELS,
    FRAMES,
    NEGATIVE,
    POSITIVE,
    SIZE,
    error,
    ksampler,
    run,
    small_model,
    with_recorded_calls,
)

from animatediff_native.motion_models.schedules import KEEP
from animatediff_native.sampling.clips import apply_sliding_context, prepare_clips
from animatediff_native.sampling.context_windows import ContextOptions
from animatediff_native.sampling.free_init import FreeInit, apply_free_init
from animatediff_native.sampling.noise import KEY, ClipNoise, FreeNoise, draw


@pytest.fixture
def oracle():
    return DiffusersFreeInit()


@pytest.fixture(scope="module")
def model():
    return small_model()


# Steps


@pytest.mark.parametrize(("steps", "iterations"), [(20, 3), (25, 5), (7, 3), (2, 5), (1, 2)])
def test_from_coarse_to_fine_the_steps_are_as_many_as_in_diffusers(steps, iterations):
    sigmas = torch.linspace(14.0, 0.0, steps + 1)
    schedules = FreeInit(iterations, coarse_to_fine=True).schedules(sigmas)
    counts = [max(1, int(steps / iterations * (k + 1) + 1e-9)) for k in range(iterations)]
    assert [len(schedule) - 1 for schedule in schedules] == counts
    assert torch.equal(schedules[-1], sigmas)
    for schedule in schedules:
        assert (schedule[0], schedule[-1]) == (sigmas[0], sigmas[-1])
        assert (schedule.diff() < 0).all()
        assert set(schedule.tolist()) <= set(sigmas.tolist())


def test_from_coarse_to_fine_each_iteration_samples_its_steps(monkeypatch, oracle, model):
    first = draw(SHAPE, SEED)
    sigmas = model.get_model_object("model_sampling").sigmas[[999, 700, 400, 100]].tolist()
    sigmas = torch.tensor([*sigmas, 0.0])
    clip = sampled(model, first, sigmas=sigmas[[0, 2, 4]])
    noise = oracle.noise(monkeypatch, clip, first, draw(SHAPE, NEXT_SEED))
    expected = sampled(model, noise, seed=NEXT_SEED, sigmas=sigmas)
    result = sampled(apply_free_init(model, FreeInit(2, coarse_to_fine=True)), first, sigmas=sigmas)
    assert error(result, expected) < SAME


@pytest.mark.parametrize("coarse_to_fine", [False, True])
def test_progress_goes_once_through_all_iterations(model, coarse_to_fine):
    seen: list[tuple[int, int]] = []
    with_free_init, calls = with_recorded_calls(apply_free_init(model, FreeInit(3, coarse_to_fine=coarse_to_fine)))
    sampled(with_free_init, draw(SHAPE, SEED), callback=lambda step, denoised, x, total: seen.append((step, total)))
    assert seen == [(step, len(calls)) for step in range(len(calls))]
    assert len(calls) == (6 if coarse_to_fine else 9)


def euler_that_reports(report) -> comfy.samplers.KSAMPLER:
    def sample_function(model, x, sigmas, extra_args, callback, disable):
        report(callback, x)
        return comfy.k_diffusion.sampling.sample_euler(model, x, sigmas, extra_args, None, True)

    return comfy.samplers.KSAMPLER(sample_function)


def sampled_by(sampler: Any, model: Any, end: float) -> torch.Tensor:
    sigmas, latent = torch.tensor([14.0, 10.0, end]), torch.zeros(SHAPE)
    return comfy.sample.sample_custom(
        model, draw(SHAPE, SEED), 3.0, sampler, sigmas, POSITIVE, NEGATIVE, latent, seed=SEED
    )


@pytest.mark.parametrize(
    "report",
    [lambda callback, x: None, lambda callback, x: callback({"i": 0, "denoised": torch.zeros_like(x), "x": x})],
    ids=["nothing", "nonsense"],
)
def test_a_clip_that_is_finished_is_taken_from_the_result_whatever_a_sampler_reports(model, report):
    with_free_init = apply_free_init(model, FreeInit(2))
    result = sampled_by(euler_that_reports(report), with_free_init, end=0.0)
    assert torch.equal(result, sampled_by(comfy.samplers.sampler_object("euler"), with_free_init, end=0.0))


def test_an_unfinished_clip_of_a_sampler_that_reports_nothing_is_its_noisy_result(model):
    silent = euler_that_reports(lambda callback, x: None)
    result = sampled_by(silent, apply_free_init(model, FreeInit(2)), end=5.0)
    assert torch.isfinite(result).all()
    assert error(result, sampled_by(silent, model, end=5.0)) > DIFFERENT


def test_patches_are_told_the_noise_levels_of_their_iteration(model):
    seen: list[list[float]] = []
    iterated = apply_free_init(model, FreeInit(2, coarse_to_fine=True))
    iterated.set_model_attn1_patch(lambda q, k, v, options: seen.append(options["sample_sigmas"].tolist()) or (q, k, v))
    sigmas = torch.tensor([10.0, 5.0, 0.0])
    sampled(iterated, draw(SHAPE, SEED), sigmas=sigmas)
    assert [levels for i, levels in enumerate(seen) if levels not in seen[:i]] == [[10.0, 0.0], [10.0, 5.0, 0.0]]


def test_what_another_wrapper_has_given_is_not_changed(model):
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []

    def watch(executor, guider, sigmas, extra_args, *args):
        before.append({**extra_args, **extra_args["model_options"]["transformer_options"]})
        result = executor(guider, sigmas, extra_args, *args)
        after.append({**extra_args, **extra_args["model_options"]["transformer_options"]})
        return result

    watched = model.clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "watch", watch)
    sampled(apply_free_init(watched, FreeInit(2, coarse_to_fine=True)), draw(SHAPE, SEED))
    assert set(after[0]) == set(before[0])
    assert all(after[0][name] is value for name, value in before[0].items())


# Together with what else a clip has


def test_fresh_noise_is_arranged_as_the_first(monkeypatch, oracle, model):
    constant = prepare_clips(model.clone())
    options: dict[str, Any] = constant.model_options
    options[KEY] = (ClipNoise("constant"),)
    first, fresh = (draw(SHAPE, seed)[:1].expand(SHAPE) for seed in (SEED, NEXT_SEED))
    noise = oracle.noise(monkeypatch, sampled(model, first), first, fresh)
    expected = sampled(model, noise, seed=NEXT_SEED)
    assert error(sampled(apply_free_init(constant, FreeInit(2)), draw(SHAPE, SEED)), expected) < SAME


@pytest.mark.parametrize("free_init_first", [True, False])
def test_windows_follow_the_steps_of_each_iteration(monkeypatch, oracle, model, tmp_path, free_init_first):
    frames = (11, *SHAPE[1:])
    options = {"length": 6, "overlap": 2, "schedule": "uniform"}
    model = animate(model, load_motion(tmp_path, channels=CHANNELS), beta_schedule=KEEP)
    by_hand = apply_sliding_context(model, ContextOptions(**options, free_noise=False))
    first, fresh = (FreeNoise(6, 4)(draw(frames, seed), seed) for seed in (SEED, NEXT_SEED))
    noise = oracle.noise(monkeypatch, sampled(by_hand, first), first, fresh)
    expected = sampled(by_hand, noise, seed=NEXT_SEED)
    both = model
    for free_init in (free_init_first, not free_init_first):
        both = apply_free_init(both, FreeInit(2)) if free_init else apply_sliding_context(
            both, ContextOptions(**options)
        )  # fmt: skip
    assert error(sampled(both, draw(frames, SEED)), expected) < SAME


def hooked_prompt(model: Any) -> list:
    """A prompt with a LoRA that is off until half of the sampling is done."""
    weight = "diffusion_model.time_embed.2"
    shape = model.model.diffusion_model.time_embed[2].weight.shape
    lora = {f"{weight}.lora_up.weight": draw((shape[0], 4), 1), f"{weight}.lora_down.weight": draw((4, shape[1]), 2)}
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(strength=0.0, start_percent=0.0))
    keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.5))
    hooks = comfy.hooks.create_hook_lora(lora, strength_model=1.0, strength_clip=0.0)
    hooks.set_keyframes_on_hooks(keyframes)
    return [[conditioning()[0][0], {"hooks": hooks}]]


def test_a_lora_with_keyframes_begins_anew_in_each_iteration(monkeypatch, oracle, model):
    first, prompts = draw(SHAPE, SEED), {"positive": hooked_prompt(model), "steps": 4}
    clip = sampled(model, first, **prompts)
    noise = oracle.noise(monkeypatch, clip, first, draw(SHAPE, NEXT_SEED))
    expected = sampled(model, noise, seed=NEXT_SEED, **prompts)
    assert error(sampled(apply_free_init(model, FreeInit(2)), first, **prompts), expected) < SAME


def test_controlnets_are_started_before_each_iteration(model):
    """As those of other packs need, whose keyframes only go forward."""
    events: list[str] = []

    class Control(comfy.controlnet.ControlBase):
        def pre_run(self, model, percent_to_timestep_function):
            super().pre_run(model, percent_to_timestep_function)
            events.append("start")

        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            events.append("step")

    controlled = [[conditioning()[0][0], {"control": Control()}]]
    sampled(apply_free_init(model, FreeInit(2)), draw(SHAPE, SEED), steps=2, cfg=1.0, positive=controlled)
    assert events == ["start", "step", "step"] * 2


# What goes wrong


def stop_in_the_second_iteration(error: Exception):
    def callback(step, denoised, x, total):
        if step == 4:
            raise error

    return callback


@pytest.mark.parametrize("failure", [MemoryError("full"), comfy.model_management.InterruptProcessingException()])
def test_after_a_failure_in_the_second_iteration_the_next_run_is_as_ever(model, failure):
    with_free_init, first = apply_free_init(model, FreeInit(2)), draw(SHAPE, SEED)
    expected, plain = sampled(with_free_init, first), sampled(model, first)
    with pytest.raises(type(failure)):
        sampled(with_free_init, first, callback=stop_in_the_second_iteration(failure))
    assert torch.equal(sampled(with_free_init, first), expected)
    assert torch.equal(sampled(model, first), plain)


def test_a_flow_model_is_refused(model):
    flow = run(model_nodes.ModelSamplingSD3, model=model, shift=3.0)
    with pytest.raises(ValueError, match="BaseModel is a flow model: remove FreeInit"):
        ksampler(apply_free_init(flow, FreeInit()))
    assert torch.equal(ksampler(apply_free_init(flow, FreeInit(iterations=1))), ksampler(flow))


def test_latents_without_a_batch_of_frames_are_refused(model):
    volume = torch.zeros(1, 4, FRAMES, SIZE, SIZE)
    with pytest.raises(ValueError, match="have 4 dimensions, and these have 5"):
        sampled(apply_free_init(model, FreeInit()), draw(volume.shape, SEED))
