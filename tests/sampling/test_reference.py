"""Later windows attend to the first window's features."""

from __future__ import annotations

from typing import Any

import comfy.sample
import pytest
import torch
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_support import animate, conditioning, load_motion
from node_support import CHANNELS, error, run, small_model, with_recorded_calls

from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions
from animatediff_native.sampling.reference import FirstWindow

LENGTH = 4


@pytest.fixture(scope="module")
def animated(tmp_path_factory):
    return animate(small_model(), load_motion(tmp_path_factory.mktemp("models"), channels=CHANNELS))


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(2 * LENGTH, 4, 8, 8, generator=torch.Generator().manual_seed(9))


def windowed(model, reference: float = 0.0, **options: Any):
    settings = {"overlap": 0, "free_noise": False, "reference": reference} | options
    return apply_sliding_context(model, ContextOptions(LENGTH, **settings))


def sample(model, noise, steps: int = 1, sampler: str = "euler", denoise: float = 1.0):
    prompts = conditioning(5), conditioning(6)
    latents = torch.zeros_like(noise)
    return comfy.sample.sample(model, noise, steps, 3.0, sampler, "normal", *prompts, latents, denoise=denoise, seed=3)


def attending(model, noise, strength: float) -> torch.Tensor:
    """Two windows, the second of which attends to the first: written out from the published description."""
    seen: dict[Any, torch.Tensor] = {}

    def patched(window: int):
        def attend(n, context, value, options):
            kinds, block = options["cond_or_uncond"], (options["block"], options["block_index"])
            other = n.clone()
            for number, (kind, rows) in enumerate(zip(kinds, n.chunk(len(kinds)), strict=True)):
                if window == 0:
                    seen[kind, block] = rows.clone()
                elif kind == 0:
                    size = len(rows)
                    mixed = strength * seen[kind, block] + (1 - strength) * rows
                    other[number * size : (number + 1) * size] = mixed
            return (n, context, value) if window == 0 else (n, torch.cat((n, other), 1), torch.cat((n, other), 1))

        clone = model.clone()
        clone.set_model_attn1_patch(attend)
        return clone

    return torch.cat([sample(patched(number), part) for number, part in enumerate(noise.split(LENGTH))])


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_later_windows_see_the_first_one(animated, noise, strength):
    expected = attending(animated, noise, strength)
    assert error(expected, sample(windowed(animated), noise)) > 1e-2
    assert error(sample(windowed(animated, strength), noise), expected) < 1e-5


def test_windows_in_one_call_see_the_first_one_too(animated):
    noise = torch.randn(5 * LENGTH, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    one_by_one, together = (sample(windowed(animated, 1.0, at_once=count), noise) for count in (1, 2))
    assert error(together, one_by_one) < 1e-5


@pytest.mark.parametrize("sampler", ["euler", "dpm_fast"])
def test_the_reference_ends_after_a_quarter_of_the_sampling(animated, noise, monkeypatch, sampler):
    """dpm_fast reports fewer steps than there are noise levels."""
    levels: list[float] = []
    extend = FirstWindow.extend

    def note(self, x, context, value, options):
        levels.append(float(options["sigmas"][0]))
        return extend(self, x, context, value, options)

    monkeypatch.setattr(FirstWindow, "extend", note)
    model, calls = with_recorded_calls(windowed(animated, 1.0))
    sample(model, noise, steps=12, sampler=sampler)
    end = model.get_model_object("model_sampling").percent_to_sigma(0.25)
    assert calls and min(levels) >= end
    assert len(set(levels)) > 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"within": MOTION}, "reference 1 does nothing within the motion module"),
        ({}, "reference does nothing when sampling begins after its first quarter"),
    ],
)
def test_where_it_does_nothing_it_says_so(animated, noise, caplog, options, sentence):
    caplog.set_level("INFO")
    model, plain = windowed(animated, 1.0, **options), windowed(animated, **options)
    denoise = 1.0 if options else 0.5
    assert torch.equal(sample(model, noise, denoise=denoise), sample(plain, noise, denoise=denoise))
    assert sentence in caplog.text


def test_tiles_of_hypertile_see_their_own_window(animated):
    """Here it tiles all layers, so the reference changes nothing."""
    noise = torch.randn(2 * LENGTH, 4, 32, 32, generator=torch.Generator().manual_seed(9))
    tiles = {"tile_size": 64, "swap_size": 1, "max_depth": 10, "scale_depth": False}
    models = (run(HyperTile, model=windowed(animated, reference), **tiles) for reference in (1.0, 0.0))
    clip, plain = (sample(model, noise) for model in models)
    assert torch.equal(clip, plain)


def test_a_replaced_self_attention_sees_its_own_window(animated, noise):
    """Perturbed attention returns the values as they are, which must not be more than the queries."""
    model = run(PerturbedAttentionGuidance, model=windowed(animated, 1.0), scale=3.0)
    plain = run(PerturbedAttentionGuidance, model=windowed(animated), scale=3.0)
    assert error(sample(model, noise), sample(plain, noise)) > 1e-3
