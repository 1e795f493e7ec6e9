"""What ComfyUI is told about the nodes of old workflows: by which of ours it can replace them, and how."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app.node_replace_manager import NodeReplaceManager
from comfy_server import ComfyServer
from node_support import core_nodes, run
from PIL import Image, ImageSequence

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("checkpoints", "animatediff_models", "animatediff_motion_lora")


@pytest.fixture(scope="session")
def replacements(adn, pack) -> Any:
    return importlib.import_module(f"{pack.__name__}.nodes.old_workflows.replacements")


@pytest.fixture(scope="session")
def hidden(adn) -> dict[str, Any]:
    """Schemas of the nodes for old workflows."""
    return {node_id: node.GET_SCHEMA() for node_id, node in adn.items() if node_id.startswith("ADN_Old")}


@pytest.fixture
def installed(adn, monkeypatch) -> None:
    """ComfyUI's list of nodes with the pack's."""
    for node_id, node in adn.items():
        monkeypatch.setitem(core_nodes.NODE_CLASS_MAPPINGS, node_id, node)


@pytest.fixture
def manager(replacements) -> NodeReplaceManager:
    manager = NodeReplaceManager()
    for replacement in replacements.REPLACEMENTS:
        manager.register(replacement.for_page())
    return manager


def inputs_of(node_id: str) -> tuple[dict[str, tuple[Any, ...]], set[str]]:
    """Types and options of a node's inputs, and which of them it needs."""
    kinds = core_nodes.NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES()
    required = kinds.get("required", {})
    return required | kinds.get("optional", {}), set(required)


def is_widget(entry: tuple[Any, ...]) -> bool:
    kind, *options = entry
    simple = isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
    return simple and not any(each.get("forceInput") for each in options)


# The table


def test_every_hidden_node_stands_in_for_one(hidden, replacements):
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


def test_inputs_exist_and_what_a_node_needs_is_given(installed, replacements):
    for replacement in replacements.REPLACEMENTS:
        found, required = inputs_of(replacement.new_id)
        assert set(replacement.inputs) <= set(found), replacement.old_id
        assert required <= set(replacement.inputs), replacement.old_id
        assert set(replacement.unused) <= set(replacement.widgets)
        assert set(replacement.missing) <= set(replacement.inputs)
        for name in replacement.inputs:
            assert is_widget(found[name]) == (name in replacement.widgets), (replacement.old_id, name)


def test_no_input_of_a_hidden_node_is_left_without_a_link(hidden, replacements):
    for node_id, schema in hidden.items():
        linked = [each.inputs for each in replacements.REPLACEMENTS if each.new_id == node_id]
        assert all(sorted(names) == sorted(entry.id for entry in schema.inputs) for names in linked)


def test_the_page_sets_what_older_workflows_lack_before_it_takes_over_what_they_have(replacements):
    mapping = replacements.BY_OLD_ID["ADE_AnimateDiffUniformContextOptions"].for_page().input_mapping
    fuse = [each for each in mapping if each["new_id"] == "fuse_method"]
    assert [each.get("set_value", each.get("old_id")) for each in fuse] == ["flat", "fuse_method"]


def test_outputs_keep_their_places(installed, replacements):
    for replacement in replacements.REPLACEMENTS:
        assert replacement.outputs == len(core_nodes.NODE_CLASS_MAPPINGS[replacement.new_id].RETURN_TYPES)


SOCKETS = {
    *("MODEL", "CLIP", "LATENT", "MASK", "CONDITIONING"),
    *("MOTION_MODEL_ADE", "M_MODELS", "MOTION_LORA", "CONTEXT_OPTIONS", "SAMPLE_SETTINGS", "MULTIVAL"),
    *("AD_SETTINGS", "AD_KEYFRAMES", "PER_BLOCK", "VIEW_OPTS", "NOISE_LAYERS", "ITERATION_OPTS", "CUSTOM_CFG"),
    *("SIGMA_SCHEDULE", "IMAGE_INJECT", "ANCESTRAL_OPTS", "VALUES_REPLACE"),
}


def test_sockets_are_spelled_as_in_old_workflows(hidden):
    """Links to nodes that have no replacement stay as they are."""
    entries = [entry for schema in hidden.values() for entry in [*schema.inputs, *schema.outputs]]
    values = {"COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"}
    assert {entry.get_io_type() for entry in entries} - values == SOCKETS


CHOICES = {  # what saved workflows hold
    "beta_schedule": ["autoselect", "use existing", "sqrt_linear (AnimateDiff)", "linear (AnimateDiff-SDXL)",
                      "linear (HotshotXL/default)", "avg(sqrt_linear,linear)", "lcm avg(sqrt_linear,linear)", "lcm",
                      "lcm[100_ots]", "lcm >> sqrt_linear", "sqrt", "cosine", "squaredcos_cap_v2"],
    "fuse_method": ["flat", "pyramid", "relative", "overlap-linear"],
    "noise_type": ["default", "constant", "empty", "repeated_context", "FreeNoise"],
    "seed_gen": ["comfy", "auto1111", "comfy [gpu]", "auto1111 [gpu]"],
    "tensor_interp": ["lerp", "slerp"],
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


# Prompts


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}


def old_prompt() -> dict[str, Any]:
    """As a page that has the old pack saves it for scripts: optional sockets without a link are left out."""
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="miniature.safetensors"),
        "2": node("ADE_LoadAnimateDiffModel", model_name="miniature_motion.safetensors"),
        "3": node("ADE_AnimateDiffLoRALoader", name="miniature_pan.safetensors", strength=0.8),
        "4": node("ADE_ApplyAnimateDiffModelSimple", motion_model=["2", 0], motion_lora=["3", 0]),
        "5": node(
            "ADE_AnimateDiffUniformContextOptions",
            **{"context_length": 8, "context_stride": 1, "context_overlap": 2, "context_schedule": "uniform"},
            **{"closed_loop": True, "use_on_equal_length": False, "start_percent": 0.0, "guarantee_steps": 1},
        ),
        "6": node(
            "ADE_AnimateDiffSamplingSettings",
            **{"batch_offset": 0, "noise_type": "FreeNoise", "seed_gen": "comfy", "seed_offset": 0},
            adapt_denoise_steps=False,
        ),
        "7": node(
            "ADE_UseEvolvedSampling",
            **{"model": ["1", 0], "beta_schedule": "autoselect", "m_models": ["4", 0]},
            **{"context_options": ["5", 0], "sample_settings": ["6", 0]},
        ),
        "8": node("ADE_EmptyLatentImageLarge", width=128, height=128, batch_size=10),
        "9": node(
            "ADE_PromptSchedulingLatents",
            **{"prompts": '"0:": "a red star"', "clip": ["1", 1], "latent": ["8", 0]},
            **{"print_schedule": False, "tensor_interp": "lerp"},
        ),
        "10": node("CLIPTextEncode", clip=["1", 1], text=""),
        "11": node(
            "KSampler",
            **{"model": ["7", 0], "positive": ["9", 0], "negative": ["10", 0], "latent_image": ["9", 1]},
            **{"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
        ),
        "12": node("VAEDecode", samples=["11", 0], vae=["1", 2]),
        "13": node(
            "SaveAnimatedWEBP",
            **{"images": ["12", 0], "filename_prefix": "old", "fps": 8.0, "lossless": True, "quality": 100},
            method="fastest",
        ),
    }


def new_prompt() -> dict[str, Any]:
    """The same animation with the nodes of today."""
    prompt = old_prompt()
    prompt |= {
        "2": node("ADN_LoadMotionModule", motion_module="miniature_motion.safetensors", stretch_to=0),
        "3": node("ADN_LoadMotionLora", motion_module=["2", 0], motion_lora="miniature_pan.safetensors", strength=0.8),
        "4": node("ADN_ApplyAnimateDiff", model=["1", 0], motion_module=["3", 0], strength=1.0),
        "7": node(
            "ADN_SlidingContext",
            **{"model": ["4", 0], "context_length": 8, "context_overlap": 2, "context_stride": 1},
            **{"schedule": "closed loop", "fuse": "flat", "free_noise": True},
        ),
        "8": node("EmptyLatentImage", width=128, height=128, batch_size=10),
        "9": node("CLIPTextEncode", clip=["1", 1], text="a red star"),
    }
    prompt["11"]["inputs"]["latent_image"] = ["8", 0]
    return {key: each for key, each in prompt.items() if not each["class_type"].startswith("ADE_")}


def with_defaults(prompt: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    for each in prompt.values():
        for name, (_, *options) in object_info[each["class_type"]]["input"].get("required", {}).items():
            if options and "default" in options[0]:
                each["inputs"].setdefault(name, options[0]["default"])
    return prompt


def test_a_prompt_gets_the_new_nodes_with_its_links_and_values(installed, replacements):
    prompt = replacements.replace_in_prompt({"prompt": old_prompt()})["prompt"]
    prompt.pop("13")  # a node that only a server has
    for key, each in prompt.items():
        found, required = inputs_of(each["class_type"])
        assert required <= set(each["inputs"]) <= set(found), each
        old = old_prompt()[key]["inputs"]
        assert {name: old[name] for name in each["inputs"] if name in old}.items() <= each["inputs"].items()
        for name, value in each["inputs"].items():
            if isinstance(value, list):
                source = core_nodes.NODE_CLASS_MAPPINGS[prompt[value[0]]["class_type"]]
                assert source.RETURN_TYPES[value[1]] == found[name][0], (each, name)
    assert prompt["5"]["inputs"]["fuse_method"] == "flat", "the legacy node's default"


def test_what_comfyui_makes_of_a_complete_prompt_is_the_same(installed, manager, replacements):
    prompt = old_prompt()
    for each in prompt.values():
        if each["class_type"] in replacements.BY_OLD_ID:
            names = replacements.BY_OLD_ID[each["class_type"]].inputs
            each["inputs"] |= {name: ["1", 0] for name in names if name not in each["inputs"]}
    expected = replacements.replace_in_prompt({"prompt": copy.deepcopy(prompt)})["prompt"]
    manager.apply_replacements(prompt)
    assert prompt == expected


def test_comfyui_has_nothing_left_to_replace(installed, manager, replacements):
    """It would fail with a KeyError."""
    prompt = replacements.replace_in_prompt({"prompt": old_prompt()})["prompt"]
    expected = copy.deepcopy(prompt)
    manager.apply_replacements(prompt)
    assert prompt == expected
    with pytest.raises(KeyError):
        manager.apply_replacements(old_prompt())


def test_nodes_of_a_pack_that_is_installed_stay(installed, replacements, monkeypatch):
    for old_id in replacements.BY_OLD_ID:
        monkeypatch.setitem(core_nodes.NODE_CLASS_MAPPINGS, old_id, object)
    assert replacements.replace_in_prompt({"prompt": old_prompt()})["prompt"] == old_prompt()


def test_without_a_server_there_is_nobody_to_tell(replacements, monkeypatch):
    monkeypatch.delitem(sys.modules, "server", raising=False)
    asyncio.run(replacements.register_replacements())


# A server


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ComfyServer]:
    packs = {"animatediff-native": ROOT, "comfyui-miniature": ROOT / "demo" / "comfyui-miniature"}
    models = {name: ROOT / "demo" / "models" / name for name in FOLDERS}
    base = tmp_path_factory.mktemp("comfyui")
    with ComfyServer(Path(os.environ["ADN_COMFYUI"]), base, packs, models, arguments=["--cpu"]) as running:
        yield running


def test_the_page_is_told(server, replacements):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{server.port}/node_replacements", timeout=60) as answer:
        told = json.load(answer)
    for replacement in replacements.REPLACEMENTS:
        assert told[replacement.old_id] == [replacement.for_page().as_dict()]


def test_an_old_prompt_gives_the_clip_of_a_new_one(server):
    clips, object_info = [], server.object_info()
    for prompt in (old_prompt(), with_defaults(new_prompt(), object_info)):
        (file,) = server.output_files(server.submit(prompt))
        with Image.open(file) as picture:
            clips.append(np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]))
    np.testing.assert_array_equal(*clips)
    assert len(clips[0]) == 10
    assert clips[0].std() > 1
