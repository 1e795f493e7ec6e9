"""The nodes as workflows refer to them. A change here breaks saved workflows: add, do not rename."""

from __future__ import annotations

import pytest

# input id: (type, default, on the node's advanced part)
NODES = {
    "ADN_LoadMotionModule": (
        {"motion_module": ("COMBO", None, False)},
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
        },
        ["MODEL"],
    ),
    "ADN_SlidingContext": (
        {
            "model": ("MODEL", None, False),
            "context_length": ("INT", 16, False),
            "context_overlap": ("INT", 4, False),
            "schedule": ("COMBO", "static", True),
        },
        ["MODEL"],
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
        "keep the model's own",
    ],
    ("ADN_SlidingContext", "schedule"): ["static", "uniform"],
}


def test_no_node_is_missing_or_new(adn):
    assert list(adn) == list(NODES)


@pytest.mark.parametrize("node_id", NODES)
def test_inputs_and_outputs(adn, node_id):
    schema = adn[node_id].GET_SCHEMA()
    inputs = {
        entry.id: (entry.get_io_type(), getattr(entry, "default", None), bool(getattr(entry, "advanced", None)))
        for entry in schema.inputs
    }
    assert (inputs, [entry.get_io_type() for entry in schema.outputs]) == NODES[node_id]


@pytest.mark.parametrize(("node_id", "input_id"), OPTIONS)
def test_choices(adn, node_id, input_id):
    found = next(entry for entry in adn[node_id].GET_SCHEMA().inputs if entry.id == input_id)
    assert found.options == OPTIONS[node_id, input_id]


@pytest.mark.parametrize("node_id", NODES)
def test_every_input_and_output_has_a_tooltip(adn, node_id):
    schema = adn[node_id].GET_SCHEMA()
    assert schema.category == "AnimateDiff"
    assert schema.description
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
