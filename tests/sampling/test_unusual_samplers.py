"""A clip in samplers that change the latent's size, or take noise levels in another order."""

from __future__ import annotations

import logging
from typing import Any

import comfy_extras.nodes_advanced_samplers as upscale_nodes
import comfy_extras.nodes_custom_sampler as sampler_nodes
import pytest
import torch
from comfy_support import animate
from node_support import FRAMES, POSITIVE, SIZE, custom, error, levels, run, windowed

from animatediff_native.sampling.curves import Curve
from animatediff_native.sampling.free_init import FreeInit, apply_free_init
from animatediff_native.sampling.strength import MotionStrength

# Latents that change their size


def upscaled(model: Any, ratio: float = 2.0, **prompts: Any) -> torch.Tensor:
    sampler = run(upscale_nodes.SamplerLCMUpscale, scale_ratio=ratio, scale_steps=-1, upscale_method="area")
    return custom(model, sampler, levels(model, 4), **prompts)


def test_free_init_and_windows_follow_a_latent_that_grows(animated):
    """Where everything is kept, the second iteration starts from the grown clip at its first size."""
    grown = upscaled(apply_free_init(windowed(animated), FreeInit(iterations=2)))
    assert grown.shape == (FRAMES, 4, 2 * SIZE, 2 * SIZE)
    assert error(grown, upscaled(windowed(animated))) > 1e-3
    nothing_kept = FreeInit(iterations=2, spatial_frequency=0.0)
    same_size = upscaled(apply_free_init(windowed(animated), nothing_kept), ratio=1.0)
    assert same_size.shape == (FRAMES, 4, SIZE, SIZE)


def test_masks_follow_a_latent_that_grows(model, load):
    masks = torch.zeros(1, SIZE, SIZE)
    masks[:, :, : SIZE // 2] = 1.0
    left, everywhere = (MotionStrength(Curve(lambda _, m=m: m)) for m in (masks, torch.ones_like(masks)))
    grown = [upscaled(animate(model, load(), motion_strength=(strength,))) for strength in (left, everywhere)]
    assert torch.isfinite(grown[0]).all()
    assert error(*grown) > 1e-3
    assert torch.equal(grown[1], upscaled(animate(model, load())))


def test_a_prompt_for_an_area_sees_its_part_of_a_mask_in_a_latent_that_grows(model, load):
    """ComfyUI leaves the area where it is: the right half becomes the second quarter of the width."""
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :, SIZE // 4 : SIZE // 2] = 1.0
    second_quarter, nowhere = (MotionStrength(Curve(lambda _, m=m: m)) for m in (mask, torch.zeros_like(mask)))
    right = [[tokens, {"area": (SIZE, SIZE // 2, 0, SIZE // 2)}] for tokens, _ in POSITIVE]
    grown, still = (
        upscaled(animate(model, load(), motion_strength=(strength,)), positive=right, negative=right)
        for strength in (second_quarter, nowhere)
    )
    assert error(grown, still) > 1e-3


# Noise levels in another order


def windows_by_level(model: Any, sigmas: list[float]) -> dict[float, list[tuple[int, ...]]]:
    windows: dict[float, list[tuple[int, ...]]] = {}

    def note(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        windows.setdefault(round(float(options["sigmas"][0]), 4), []).append(tuple(options["ad_params"]["sub_idxs"]))
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key("apply_model", "test", note)
    custom(model, run(sampler_nodes.KSamplerSelect, sampler_name="euler"), torch.tensor(sigmas), add_noise=False)
    return windows


@pytest.mark.parametrize("schedule", ["static", "uniform", "closed loop"])
def test_a_noise_level_has_the_same_windows_in_whatever_order(animated, schedule):
    chained = windowed(windowed(animated, 5, 1, schedule=schedule), 3, 1, schedule=schedule, start_percent=0.5)
    falling = [14.0, 8.0, 4.0, 1.5, 0.5, 0.0]
    expected = windows_by_level(chained, falling)
    assert {len(window) for windows in expected.values() for window in windows} == {5, 3}
    rising = windows_by_level(chained, [0.0001, *falling[-2::-1]])
    rising.pop(0.0001)
    assert rising == {level: windows for level, windows in expected.items() if level < 14.0}
    repeated = windows_by_level(chained, [14.0, 8.0, 4.0, 8.0, 4.0, 1.5, 0.5, 0.0])
    assert repeated == {level: windows * (1 + (level in (8.0, 4.0))) for level, windows in expected.items()}


def test_free_init_leaves_noise_that_does_not_fall_alone(animated, caplog):
    caplog.set_level(logging.INFO)
    euler = run(sampler_nodes.KSamplerSelect, sampler_name="euler")
    rising = torch.tensor([0.5, 1.0, 2.0])
    iterated = custom(apply_free_init(animated, FreeInit()), euler, rising)
    assert torch.equal(iterated, custom(animated, euler, rising))
    assert "the noise levels do not fall" in caplog.text
