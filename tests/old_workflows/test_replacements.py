"""What ComfyUI is told about the nodes of old workflows: by which of ours it can replace them, and how."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from node_support import core_nodes, inputs_of, run

from animatediff_native.old_workflows import replacements


@pytest.fixture(scope="session")
def hidden(adn) -> dict[str, Any]:
    """Schemas of the nodes for old workflows."""
    return {node_id: node.GET_SCHEMA() for node_id, node in adn.items() if node_id.startswith("ADN_Old")}


def is_widget(entry: tuple[Any, ...]) -> bool:
    kind, *options = entry
    simple = isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
    return simple and not any(each.get("forceInput") for each in options)


def test_every_hidden_node_stands_in_for_one(hidden):
    ids = [each.new_id for each in replacements.REPLACEMENTS]
    assert set(hidden) == {node_id for node_id in ids if node_id.startswith("ADN_Old")}
    assert len(replacements.BY_OLD_ID) == len(ids), "ComfyUI takes the first replacement alone"


def test_hidden_nodes_are_not_offered_for_new_graphs(hidden):
    for schema in hidden.values():
        assert schema.is_deprecated
        assert schema.category == "AnimateDiff/old workflows"
        assert schema.display_name.endswith(" (old workflow)")
        assert schema.description
        assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])


def test_inputs_exist_and_what_a_node_needs_is_given(installed):
    for replacement in replacements.REPLACEMENTS:
        found, required = inputs_of(replacement.new_id)
        widgets = {entry.name for entry in replacement.old.widgets}
        assert set(replacement.inputs) <= set(found), replacement.old_id
        assert required <= set(replacement.inputs), replacement.old_id
        assert {entry.name for entry in replacement.old.inputs if entry.unused} <= widgets
        assert set(replacement.old.missing) <= set(replacement.inputs)
        for name in replacement.inputs:
            assert is_widget(found[name]) == (name in widgets), (replacement.old_id, name)


def test_no_input_of_a_hidden_node_is_left_without_a_link(hidden):
    for node_id, schema in hidden.items():
        linked = [each.inputs for each in replacements.REPLACEMENTS if each.new_id == node_id]
        assert all(sorted(names) == sorted(entry.id for entry in schema.inputs) for names in linked)


def test_the_page_sets_what_older_workflows_lack_before_it_takes_over_what_they_have():
    mapping = replacements.BY_OLD_ID["ADE_AnimateDiffUniformContextOptions"].for_page().input_mapping
    fuse = [each for each in mapping if each["new_id"] == "fuse_method"]
    assert [each.get("set_value", each.get("old_id")) for each in fuse] == ["flat", "fuse_method"]


def test_outputs_keep_their_places(installed):
    for replacement in replacements.REPLACEMENTS:
        assert replacement.outputs == len(core_nodes.NODE_CLASS_MAPPINGS[replacement.new_id].RETURN_TYPES)


SOCKETS = {
    *("MODEL", "CLIP", "VAE", "CONTROL_NET", "LATENT", "IMAGE", "MASK", "CONDITIONING"),
    *("MOTION_MODEL_ADE", "M_MODELS", "MOTION_LORA", "CONTEXT_OPTIONS", "SAMPLE_SETTINGS", "MULTIVAL"),
    *("AD_SETTINGS", "AD_KEYFRAMES", "PER_BLOCK", "VIEW_OPTS", "NOISE_LAYERS", "ITERATION_OPTS", "CUSTOM_CFG"),
    *("SIGMA_SCHEDULE", "IMAGE_INJECT", "ANCESTRAL_OPTS", "VALUES_REPLACE", "PIA_INPUT", "SPARSE_METHOD"),
    *("TIMESTEP_KEYFRAME", "LATENT_KEYFRAME", "CONTROL_NET_WEIGHTS", "CAMERACTRL_POSES"),
}


def test_sockets_are_spelled_as_in_old_workflows(hidden):
    """Links to nodes that have no replacement stay as they are."""
    entries = [entry for schema in hidden.values() for entry in [*schema.inputs, *schema.outputs]]
    values = {"COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"}
    assert {entry.get_io_type() for entry in entries} - values == SOCKETS


CHOICES = {  # what saved workflows hold
    "beta_schedule": ["autoselect", "use existing", "sqrt_linear (AnimateDiff)", "linear (AnimateDiff-SDXL)",
                      "linear (HotshotXL/default)", "linear (default)", "avg(sqrt_linear,linear)",
                      "lcm avg(sqrt_linear,linear)", "lcm", "lcm[100_ots]", "lcm >> sqrt_linear", "sqrt", "cosine",
                      "squaredcos_cap_v2"],
    "fuse_method": ["flat", "pyramid", "relative", "overlap-linear"],
    "noise_type": ["default", "constant", "empty", "repeated_context", "FreeNoise"],
    "seed_gen": ["comfy", "auto1111", "comfy [gpu]", "auto1111 [gpu]"],
    "tensor_interp": ["lerp", "slerp"],
    "preset": ["Animation (Small Motion)", "Animation (Medium Motion)", "Animation (Large Motion)",
               "Loop (Small Motion)", "Loop (Medium Motion)", "Loop (Large Motion)", "Style Transfer (Small Motion)",
               "Style Transfer (Medium Motion)", "Style Transfer (Large Motion)"],
    "context_aware": ["nearest_hint", "off"],
    "spread": ["uniform", "starting", "ending", "center"],
    "scale_method": ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],
    "crop": ["disabled", "center"],
}  # fmt: skip


def test_choices_are_spelled_as_in_old_workflows(hidden):
    seen = set()
    for schema in hidden.values():
        for entry in schema.inputs:
            if entry.id in CHOICES:
                assert sorted(entry.options) == sorted(CHOICES[entry.id])
                seen.add(entry.id)
    assert seen == set(CHOICES)


def test_inputs_that_are_not_carried_over_say_so_when_they_are_linked(adn, hidden):
    given = {"latent": {"samples": []}, "prompts": "0: a"}
    for node_id, schema in hidden.items():
        sockets = {entry.id for entry in schema.inputs if not entry.optional and not hasattr(entry, "default")}
        inputs = dict.fromkeys([*sockets, "model_name"]) | given
        inputs = {entry.id: inputs[entry.id] for entry in schema.inputs if entry.id in inputs}
        for entry in (entry for entry in schema.inputs if entry.tooltip.startswith("Not carried over: ")):
            if not hasattr(entry, "default"):
                sentence = rf"^{entry.id} is not carried over .*: disconnect it, and [^.]+\.$"
                with pytest.raises(ValueError, match=sentence):
                    run(adn[node_id], **inputs, **{entry.id: object()})


def test_without_a_server_there_is_nobody_to_tell(monkeypatch):
    monkeypatch.delitem(sys.modules, "server", raising=False)
    asyncio.run(replacements.register_replacements())
