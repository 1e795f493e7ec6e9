"""Settings that do nothing are refused, or said in the log."""

from __future__ import annotations

import logging
from typing import Any

import comfy.sample
import comfy_extras.nodes_model_advanced as sampling_nodes
import pytest
import torch
from comfy_support import animate
from node_support import FRAMES, NEGATIVE, POSITIVE, ksampler, noise_of, run, windowed

from animatediff_native.motion_models.schedules import KEEP
from animatediff_native.sampling import noise as noises
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions


def test_a_module_that_never_acts(model, load, caplog):
    with pytest.raises(ValueError, match=r"start_percent 0\.6 to end_percent 0\.4 never acts"):
        animate(model, load(), start_percent=0.6, end_percent=0.4)
    animate(model, load(), start_percent=0.5, end_percent=0.5)
    assert "never acts" in caplog.text


def test_a_beta_schedule_for_continuous_noise_levels(model, load, caplog):
    settings = {"sampling": "v_prediction", "sigma_max": 120.0, "sigma_min": 0.002}
    continuous = run(sampling_nodes.ModelSamplingContinuousEDM, model=model, **settings)
    with pytest.raises(ValueError, match=r"ModelSamplingContinuousEDM gives .*keep the model's own"):
        animate(continuous, load(), beta_schedule="LCM")
    animate(continuous, load(), beta_schedule=KEEP)
    assert not caplog.text
    animate(continuous, load())
    assert "ModelSamplingContinuousEDM gives" in caplog.text


@pytest.mark.parametrize("sampling", ["eps", "lcm"])
def test_a_schedule_that_a_later_node_replaces_is_logged(model, load, sampling, caplog):
    def discrete(model: Any) -> Any:
        return run(sampling_nodes.ModelSamplingDiscrete, model=model, sampling=sampling, zsnr=False)

    ksampler(animate(discrete(model), load()), steps=1, frames=2)
    ksampler(discrete(animate(model, load(), beta_schedule=KEEP)), steps=1, frames=2)
    assert "replaces the noise schedule" not in caplog.text
    ksampler(discrete(animate(model, load())), steps=1, frames=2)
    assert "(ModelSamplingDiscrete" in caplog.text
    assert "replaces the noise schedule that v2_1.safetensors was given" in caplog.text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stride": 2}, "context_stride 2 does nothing with static windows"),
        ({"at_once": 2, "within": MOTION}, "windows_at_once 2 does nothing within the motion module"),
        ({"start_percent": 0.5}, "start_percent 0.5 does nothing without a Sliding Context before it"),
        ({"schedule": "batched", "overlap": 2}, "context_overlap 2 does nothing with batched windows"),
        ({}, None),
    ],
)
def test_settings_of_sliding_context_that_do_nothing_are_logged(model, options, sentence, caplog):
    caplog.set_level(logging.INFO)
    once = windowed(model, **options)
    assert (sentence in caplog.text) if sentence else (not caplog.text)
    windowed(once, **options)
    assert "it replaces the one before it" in caplog.text


@pytest.mark.parametrize(
    ("frames", "add_noise", "logged"), [(FRAMES, True, True), (FRAMES, False, True), (2 * FRAMES, True, False)]
)
def test_clip_noise_that_changes_nothing_is_logged(model, frames, add_noise, logged, caplog):
    caplog.set_level(logging.INFO)
    noise = noise_of(frames) * add_noise
    model = windowed(model, frames)
    model.model_options[noises.KEY] = (noises.ClipNoise("repeated", period=FRAMES),)
    euler = ("euler", "normal", POSITIVE, NEGATIVE)
    comfy.sample.sample(model, noise, 1, 1.0, *euler, torch.zeros_like(noise))
    assert ("Clip Noise: it does nothing" in caplog.text) == logged


def test_windows_in_motion_modules_that_are_not_there_are_logged(model, animated, caplog):
    caplog.set_level(logging.INFO)
    for sampled, logged in ((animated, False), (model, True)):
        ksampler(windowed(sampled, within=MOTION), steps=1)
        assert ("does nothing without Apply AnimateDiff" in caplog.text) == logged


def test_the_free_noise_of_a_later_node_is_logged(model, caplog):
    caplog.set_level(logging.INFO)
    first = apply_sliding_context(model, ContextOptions())
    apply_sliding_context(first, ContextOptions(start_percent=0.5))
    assert "free_noise" not in caplog.text
    windowed(first, start_percent=0.5)
    assert "free_noise is taken from the node whose windows come first" in caplog.text
