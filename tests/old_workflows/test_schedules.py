"""Schedules of old workflows, of noise and of prompts, in the words of those workflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from node_support import run, small_model

from animatediff_native.demo import evaluate
from animatediff_native.demo.train import MODELS

# Noise schedules


def sigmas(betas: numpy.ndarray) -> torch.Tensor:
    alphas = numpy.cumprod(1 - betas)
    return torch.from_numpy(((1 - alphas) / alphas) ** 0.5).float()


def straight(end: float = 0.012) -> torch.Tensor:
    return sigmas(numpy.linspace(0.00085, end, 1000))


def scaled(end: float = 0.012) -> torch.Tensor:
    return sigmas(numpy.linspace(0.00085**0.5, end**0.5, 1000) ** 2)


def squared_cosine() -> torch.Tensor:
    bars = numpy.cos((numpy.arange(1001) / 1000 + 0.008) / 1.008 * numpy.pi / 2) ** 2
    return sigmas(numpy.minimum(1 - bars[1:] / bars[:-1], 0.999))


SCHEDULES: dict[str, Callable[[], torch.Tensor]] = {
    "autoselect": straight,
    "use existing": scaled,
    "sqrt_linear (AnimateDiff)": straight,
    "linear (AnimateDiff-SDXL)": lambda: scaled(0.020),
    "linear (HotshotXL/default)": scaled,
    "linear (default)": scaled,  # its name in 2023
    "avg(sqrt_linear,linear)": lambda: (straight() + scaled()) / 2,
    "lcm avg(sqrt_linear,linear)": lambda: ((straight() + scaled()) / 2)[19::20],
    "lcm": lambda: scaled()[19::20],
    "lcm[100_ots]": lambda: scaled()[9::10],
    "lcm >> sqrt_linear": lambda: straight()[19::20],
    "sqrt": lambda: sigmas(numpy.linspace(0.00085, 0.012, 1000) ** 0.5),
    "cosine": squared_cosine,
    "squaredcos_cap_v2": squared_cosine,
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_noise_schedule_is_what_its_name_says(old, motion, name):
    model: Any = small_model()
    before = model.get_model_object("model_sampling").sigmas.clone()
    models = old("ApplyAnimateDiffModelSimple", motion_model=old("LoadAnimateDiffModel", model_name=motion.name))
    used: Any = old("UseEvolvedSampling", model=model, beta_schedule=name, m_models=models)
    found = used.get_model_object("model_sampling").sigmas
    torch.testing.assert_close(found, SCHEDULES[name](), rtol=2e-3, atol=1e-4)
    assert torch.equal(model.get_model_object("model_sampling").sigmas, before), "the input MODEL was changed"


def test_every_noise_schedule_is_tested(adn):
    choices = next(each for each in adn["ADN_OldUseEvolvedSampling"].GET_SCHEMA().inputs if each.id == "beta_schedule")
    assert sorted(choices.options) == sorted(SCHEDULES)


# Prompts


@pytest.fixture(scope="module")
def clip() -> Any:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS).clip


TEXT = '"0": "a red star",\n"4": "a blue circle"'


def assert_same(found: list, expected: list) -> None:
    for (tokens, values), (expected_tokens, expected_values) in zip(found, expected, strict=True):
        assert torch.equal(tokens, expected_tokens)
        assert torch.equal(values["pooled_output"], expected_values["pooled_output"])


def test_prompt_scheduling_is_prompt_schedule(old, adn, clip):
    around = {"prepend_text": "paper", "append_text": "on white"}
    found = old("PromptScheduling", prompts=TEXT, clip=clip, max_length=7, tensor_interp="slerp", **around)
    modern = {"prefix": "paper", "suffix": "on white", "interpolation": "slerp"}
    assert_same(found, run(adn["ADN_PromptSchedule"], clip=clip, prompts=TEXT, frames=7, **modern))


def test_without_a_length_the_last_prompt_ends_the_clip(old, clip):
    (tokens, _), *_ = old("PromptScheduling", prompts=TEXT, clip=clip)
    assert len(tokens) == 5
    with pytest.raises(ValueError, match="set max_length to the number of frames"):
        old("PromptScheduling", prompts='"0": "a star", "0.5": "a circle"', clip=clip)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"0:3": "a red star", "6": "a blue circle"', '"0-2": "a red star", "6": "a blue circle"'),
        ('0:3 = "a red star", 6 = "a blue circle"', '0-2 = "a red star", 6 = "a blue circle"'),
        ('"0:": "a red star", "6": "a blue circle"', '"0 hold": "a red star", "6": "a blue circle"'),
        ('"0:0.5": "a red star", "0.5": "a blue circle"', '"0-3": "a red star", "0.5": "a blue circle"'),
        ('0:-4 = "a red star"\n, 6: = "16:9, a circle"', '0-3 = "a red star", 6 = "16:9, a circle"'),
    ],
)
def test_frames_that_hold_a_prompt(old, adn, clip, written, meant):
    latent = {"samples": torch.zeros(8, 4, 8, 8)}
    found, same = old("PromptSchedulingLatents", prompts=written, clip=clip, latent=latent)
    assert same is latent
    assert_same(found, run(adn["ADN_PromptSchedule"], clip=clip, prompts=meant, frames=8))
