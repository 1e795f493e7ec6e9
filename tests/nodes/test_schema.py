"""The nodes as workflows refer to them. A change here breaks saved workflows: add, do not rename."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

LEVELS = ["down_1", "down_2", "down_3", "down_4", "mid", "up_1", "up_2", "up_3", "up_4"]


def training_inputs(steps: int, learning_rate: float) -> dict[str, tuple]:
    return {
        "latents": ("LATENT", None, False),
        "conditioning": ("CONDITIONING", None, False),
        "steps": ("INT", steps, False),
        "learning_rate": ("FLOAT", learning_rate, False),
        "frames": ("INT", 16, False),
        "stride": ("INT", 1, False),
        "seed": ("INT", 0, False),
    }


ADVANCED_TRAINING_INPUTS = {
    "batch": ("INT", 1, True),
    "accumulate": ("INT", 1, True),
    "loss": ("COMBO", "noise", True),
    "first_timestep": ("INT", 0, True),
    "caption_dropout": ("FLOAT", 0.1, True),
    "precision": ("COMBO", "automatic", True),
    "recompute": ("BOOLEAN", True, True),
    "empty_prompt": ("CONDITIONING", None, False),
}

# input id: (type, default, on the node's advanced part)
NODES = {
    "ADN_LoadMotionModule": (
        {"motion_module": ("COMBO", None, False), "stretch_to": ("INT", 0, True)},
        ["MOTION_MODEL_ADN"],
    ),
    "ADN_LoadMotionLora": (
        {
            "motion_module": ("MOTION_MODEL_ADN", None, False),
            "motion_lora": ("COMBO", None, False),
            "strength": ("FLOAT", 1.0, False),
        },
        ["MOTION_MODEL_ADN"],
    ),
    "ADN_ApplyAnimateDiff": (
        {
            "model": ("MODEL", None, False),
            "motion_module": ("MOTION_MODEL_ADN", None, False),
            "strength": ("FLOAT", 1.0, False),
            "start_percent": ("FLOAT", 0.0, True),
            "end_percent": ("FLOAT", 1.0, True),
            "beta_schedule": ("COMBO", "automatic", True),
            "motion_scale": ("FLOAT", 1.0, True),
            "frame_rate": ("FLOAT", 8.0, True),
            "motion_strength": ("MOTION_STRENGTH_ADN", None, False),
            "keyframes": ("KEYFRAMES_ADN", None, False),
            "keyframe_motion": ("COMBO", "small", True),
            "keyframe_strength": ("FLOAT,MOTION_CURVE_ADN", None, False),
            "keyframe_drift": ("FLOAT", 0.8, True),
        },
        ["MODEL"],
    ),
    "ADN_KeyframeImages": (
        {
            "images": ("IMAGE", None, False),
            "frames": ("STRING", "", False),
            "vae": ("VAE", None, False),
            "resize": ("COMBO", "crop", True),
        },
        ["KEYFRAMES_ADN,IMAGE"],
    ),
    "ADN_LoadSparseCtrl": (
        {
            "sparse_ctrl": ("COMBO", None, False),
            "strength": ("FLOAT", 1.0, True),
            "motion_scale": ("FLOAT", 1.0, True),
            "far_keyframes": ("COMBO", "nearest", True),
        },
        ["CONTROL_NET"],
    ),
    "ADN_DragCutout": (
        {
            "image": ("IMAGE", None, False),
            "mask": ("MASK", None, False),
            "path": ("STRING", "0: 20% 50%\n-1: 80% 50%", False),
            "frames": ("INT", 16, False),
        },
        ["IMAGE", "MASK"],
    ),
    "ADN_FollowRoughClip": (
        {
            "model": ("MODEL", None, False),
            "images": ("IMAGE", None, False),
            "masks": ("MASK", None, False),
            "vae": ("VAE", None, False),
            "inside": ("FLOAT", 0.6, False),
            "outside": ("FLOAT", 0.8, False),
        },
        ["MODEL", "LATENT"],
    ),
    "ADN_SlidingContext": (
        {
            "model": ("MODEL", None, False),
            "context_length": ("INT", 16, False),
            "context_overlap": ("INT", 4, False),
            "schedule": ("COMBO", "static", True),
            "fuse": ("COMBO", "pyramid", True),
            "context_stride": ("INT", 0, True),
            "within": ("COMBO", "whole UNet", True),
            "windows_at_once": ("INT", 1, True),
            "free_noise": ("BOOLEAN", True, True),
            "start_percent": ("FLOAT", 0.0, True),
            "reference": ("FLOAT", 0.0, True),
        },
        ["MODEL"],
    ),
    "ADN_ClipNoise": (
        {
            "model": ("MODEL", None, False),
            "noise": ("COMBO", "constant", False),
            "share": ("FLOAT", 0.5, False),
            "period": ("INT", 16, True),
        },
        ["MODEL"],
    ),
    "ADN_FreeInit": (
        {
            "model": ("MODEL", None, False),
            "iterations": ("INT", 3, False),
            "filter": ("COMBO", "butterworth", False),
            "spatial_frequency": ("FLOAT", 0.25, True),
            "temporal_frequency": ("FLOAT", 0.25, True),
            "order": ("INT", 4, True),
            "coarse_to_fine": ("BOOLEAN", False, True),
        },
        ["MODEL"],
    ),
    "ADN_PromptSchedule": (
        {
            "clip": ("CLIP", None, False),
            "prompts": ("STRING", "0: a seed in dark soil\n0.5: a green sprout\n1.0: a tree in bloom", False),
            "frames": ("INT", 16, False),
            "latent": ("LATENT", None, False),
            "interpolation": ("COMBO", "linear", True),
            "prefix": ("STRING", "", False),
            "suffix": ("STRING", "", False),
        },
        ["CONDITIONING"],
    ),
    "ADN_MotionStrength": (
        {
            "strength": ("FLOAT,MOTION_CURVE_ADN", None, False),
            "motion_scale": ("FLOAT,MOTION_CURVE_ADN", None, False),
            "previous": ("MOTION_STRENGTH_ADN", None, False),
        },
        ["MOTION_STRENGTH_ADN"],
    ),
    "ADN_MotionStrengthPerLevel": (
        {f"{level}_strength": ("FLOAT", 1.0, False) for level in LEVELS}
        | {f"{level}_motion_scale": ("FLOAT", 1.0, True) for level in LEVELS}
        | {"previous": ("MOTION_STRENGTH_ADN", None, False)},
        ["MOTION_STRENGTH_ADN"],
    ),
    "ADN_MotionCurve": (
        {
            "keyframes": ("STRING", "0: 0.5\n8 ease: 1\n15: 0.5", False),
            "over": ("COMBO", "frames", False),
            "source": ("CURVE,MASK,AUDIO,FLOATS,FLOAT", None, False),
            "low": ("FLOAT", 0.0, True),
            "high": ("FLOAT", 1.0, True),
            "frame_rate": ("FLOAT", 8.0, True),
        },
        ["MOTION_CURVE_ADN"],
    ),
    "ADN_MergeMotionModules": (
        {
            "first": ("MOTION_MODEL_ADN", None, False),
            "second": ("MOTION_MODEL_ADN", None, False),
            "ratio": ("FLOAT", 0.5, False),
        }
        | {f"{level}_ratio": ("FLOAT", 1.0, True) for level in LEVELS},
        ["MOTION_MODEL_ADN"],
    ),
    "ADN_SaveMotionModule": (
        {
            "motion_module": ("MOTION_MODEL_ADN", None, False),
            "filename_prefix": ("STRING", "animatediff_models/motion_module", False),
        },
        [],
    ),
    "ADN_TrainMotionLora": (
        {
            "model": ("MODEL", None, False),
            "motion_module": ("MOTION_MODEL_ADN", None, False),
        }
        | training_inputs(steps=1000, learning_rate=5e-4)
        | {
            "rank": ("INT", 32, False),
            "alpha": ("FLOAT", 0.0, True),
            "projections": ("COMBO", "attention", True),
            "appearance_debiased": ("BOOLEAN", False, True),
        }
        | ADVANCED_TRAINING_INPUTS,
        ["MOTION_MODEL_ADN", "MOTION_LORA_ADN", "LOSS_MAP"],
    ),
    "ADN_TrainMotionModule": (
        {"model": ("MODEL", None, False)}
        | training_inputs(steps=1000, learning_rate=1e-5)
        | {"motion_module": ("MOTION_MODEL_ADN", None, False)}
        | ADVANCED_TRAINING_INPUTS,
        ["MOTION_MODEL_ADN", "LOSS_MAP"],
    ),
    "ADN_SaveMotionLora": (
        {
            "motion_lora": ("MOTION_LORA_ADN", None, False),
            "filename_prefix": ("STRING", "animatediff_motion_lora/motion_lora", False),
            "layout": ("COMBO", "AnimateDiff", True),
        },
        [],
    ),
    "ADN_ScoreAnimation": (
        {
            "images": ("IMAGE", None, False),
            "clip_vision": ("CLIP_VISION", None, False),
            "clip": ("CLIP", None, False),
            "text": ("STRING", "", False),
            "reference_images": ("IMAGE", None, False),
            "optical_flow": ("OPTICAL_FLOW", None, False),
            "context_length": ("INT", 0, True),
            "context_overlap": ("INT", 4, True),
        },
        ["STRING", "IMAGE", "FLOAT", "FLOAT"],
    ),
}
OPTIONS = {
    ("ADN_ApplyAnimateDiff", "beta_schedule"): [
        "automatic",
        "AnimateDiff SD1.5",
        "AnimateDiff SDXL",
        "Stable Diffusion",
        "LCM",
        "LCM (100 timesteps)",
        "AnimateLCM-I2V",
        "keep the model's own",
    ],
    ("ADN_LoadSparseCtrl", "far_keyframes"): ["nearest", "none"],
    ("ADN_ApplyAnimateDiff", "keyframe_motion"): [
        "small",
        "moderate",
        "large",
        "small loop",
        "moderate loop",
        "large loop",
        "small style transfer",
        "moderate style transfer",
        "large style transfer",
        "none",
    ],
    ("ADN_SlidingContext", "schedule"): ["static", "uniform", "looped", "closed loop", "batched"],
    ("ADN_SlidingContext", "fuse"): ["pyramid", "flat", "overlap-linear", "relative"],
    ("ADN_SlidingContext", "within"): ["whole UNet", "motion module"],
    ("ADN_ClipNoise", "noise"): ["constant", "repeated", "per-frame seeds"],
    ("ADN_FreeInit", "filter"): ["butterworth", "gaussian", "ideal", "box"],
    ("ADN_PromptSchedule", "interpolation"): ["linear", "slerp"],
    ("ADN_TrainMotionLora", "projections"): ["attention", "attention and feed-forward"],
    ("ADN_TrainMotionLora", "loss"): ["noise", "velocity"],
    ("ADN_TrainMotionLora", "precision"): ["automatic", "bf16", "fp32"],
    ("ADN_SaveMotionLora", "layout"): ["AnimateDiff", "MotionDirector", "diffusers"],
}


def test_no_node_is_missing_or_new(adn):
    """The nodes for old workflows, which nobody looks for, have tests of their own (test_replacements.py)."""
    assert [node_id for node_id, node in adn.items() if not node.GET_SCHEMA().is_deprecated] == list(NODES)


@pytest.mark.parametrize("node_id", NODES)
def test_inputs_and_outputs(adn, node_id):
    schema = adn[node_id].GET_SCHEMA()
    inputs = {
        entry.id: (entry.get_io_type(), getattr(entry, "default", None), bool(getattr(entry, "advanced", None)))
        for entry in schema.inputs
    }
    assert (inputs, [entry.get_io_type() for entry in schema.outputs]) == NODES[node_id]
    assert list(inputs) == list(NODES[node_id][0])  # workflows hold the values of widgets by position


@pytest.mark.parametrize("node_id", NODES)
def test_an_input_with_a_default_may_be_missing(adn, node_id):
    """A prompt that was saved before an input existed stays valid, and the missing input has its default."""
    node = adn[node_id]
    widgets = {entry.id: getattr(entry, "input_override", None) or entry for entry in node.GET_SCHEMA().inputs}
    defaults = {
        name: value for name, entry in widgets.items() if (value := getattr(entry, "default", None)) is not None
    }
    assert not defaults.keys() & node.INPUT_TYPES().get("required", {}).keys()
    parameters = inspect.signature(node.execute).parameters
    assert {name: value for name, value in defaults.items() if name in parameters} == {
        name: parameters[name].default for name in defaults if name in parameters
    }


@pytest.mark.parametrize(("node_id", "input_id"), OPTIONS)
def test_choices(adn, node_id, input_id):
    socket = next(entry for entry in adn[node_id].GET_SCHEMA().inputs if entry.id == input_id)
    assert socket.options == OPTIONS[node_id, input_id]


@pytest.mark.parametrize("node_id", NODES)
def test_the_help_page_explains_every_input(adn, node_id):
    schema = adn[node_id].GET_SCHEMA()
    page = (Path(__file__).resolve().parents[2] / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {schema.display_name}\n")
    explained = set(re.findall(r"\*\*(\w+)\*\*", page))
    for first, last in re.findall(r"\*\*(\w+) \.\.\. (\w+)\*\*", page):  # a row for each level
        levels = [entry.id for entry in schema.inputs if entry.id.endswith(first.removeprefix("down_1"))]
        assert (levels[0], levels[-1]) == (first, last)
        explained |= set(levels)
    assert {entry.id for entry in schema.inputs} <= explained


@pytest.mark.parametrize("node_id", NODES)
def test_every_input_and_output_has_a_tooltip(adn, node_id):
    schema = adn[node_id].GET_SCHEMA()
    assert schema.category in ("AnimateDiff", "AnimateDiff/training", "AnimateDiff/evaluation")
    assert schema.description
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
