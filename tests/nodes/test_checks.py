"""Numbers that ComfyUI lets through: NaN, and those that come over links. And sizes that a text asks for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from comfy_api.latest import io
from node_support import ksampler, run

from animatediff_native.nodes.checks import check_numbers


def number_inputs(adn: dict[str, Any], kind: type) -> list[tuple[str, Any]]:
    inputs = [(node, getattr(e, "input_override", None) or e) for node in adn for e in adn[node].GET_SCHEMA().inputs]
    return [(node, entry) for node, entry in inputs if isinstance(entry, kind)]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e308, 10**400])
def test_no_node_takes_a_number_that_is_none(adn, number):
    """Whatever its other inputs are, since this is looked at first."""
    inputs = number_inputs(adn, io.Float.Input)
    assert len(inputs) > 40
    for node, entry in inputs:
        value = [number] if adn[node].GET_SCHEMA().is_input_list else number
        with pytest.raises(ValueError, match=rf"^{entry.id} is [^\n]+, but goes from -?\d+ to \d+\.$"):
            adn[node].EXECUTE_NORMALIZED(**{entry.id: value})


def test_no_node_takes_a_whole_number_outside_its_limits(adn):
    inputs = number_inputs(adn, io.Int.Input)
    assert len(inputs) > 20
    for node, entry in inputs:
        for number in (entry.min - 1, entry.max + 1, 10**400):
            value = [number] if adn[node].GET_SCHEMA().is_input_list else number
            with pytest.raises(
                ValueError, match=rf"^{entry.id} is [^\n]+, but goes from {entry.min} to {entry.max}\.$"
            ):
                adn[node].EXECUTE_NORMALIZED(**{entry.id: value})


def test_defaults_and_limits_of_all_nodes_pass(adn):
    for node, entry in number_inputs(adn, io.Int.Input) + number_inputs(adn, io.Float.Input):
        for number in (entry.default, entry.min, entry.max):
            check_numbers(adn[node].GET_SCHEMA(), {} if number is None else {entry.id: number})


def test_an_old_prompt_at_a_frame_beyond_all_clips_is_refused_before_anything_is_encoded(adn):
    text = '"0": "a seed", "999999999": "a tree"'
    with pytest.raises(ValueError, match=r"column 16: this frame lies beyond the 100000 that a clip can have"):
        run(adn["ADN_OldPromptScheduling"], prompts=text, clip=None, max_length=0)


@pytest.mark.parametrize("source", [[math.nan] * 6, {"waveform": None, "sample_rate": 0}])
def test_a_curve_without_numbers_is_refused(adn, apply, model, motion, source):
    if isinstance(source, dict):
        source = {**source, "waveform": torch.ones(1, 1, 100)}
    with pytest.raises(ValueError, match=r"source is nan|sample rate of 0"):
        run(adn["ADN_MotionCurve"], source=source)


def test_a_mask_of_nan_is_refused_before_sampling(adn, apply, model, motion):
    curve = run(adn["ADN_MotionCurve"], source=torch.full((6, 8, 8), math.nan))
    strength = run(adn["ADN_MotionStrength"], strength=curve, motion_scale=1.0)
    with pytest.raises(ValueError, match="A Motion Curve holds NaN or infinite numbers"):
        ksampler(apply(model, motion, motion_strength=strength))
