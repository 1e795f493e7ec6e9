"""Prompts that hold nodes of old workflows, as scripts send them: ComfyUI runs them with ours."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from app.node_replace_manager import NodeReplaceManager
from node_support import core_nodes, inputs_of
from server_support import fetch, node, pixels

from animatediff_native.old_workflows import replacements


@pytest.fixture
def manager() -> NodeReplaceManager:
    manager = NodeReplaceManager()
    for replacement in replacements.REPLACEMENTS:
        manager.register(replacement.for_page())
    return manager


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
        "8": node("ADE_EmptyLatentImageLarge", width=64, height=64, batch_size=10),
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
        "8": node("EmptyLatentImage", width=64, height=64, batch_size=10),
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


def test_a_prompt_gets_the_new_nodes_with_its_links_and_values(installed):
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


def test_what_comfyui_makes_of_a_complete_prompt_is_the_same(installed, manager):
    prompt = old_prompt()
    for each in prompt.values():
        if each["class_type"] in replacements.BY_OLD_ID:
            names = replacements.BY_OLD_ID[each["class_type"]].inputs
            each["inputs"] |= {name: ["1", 0] for name in names if name not in each["inputs"]}
    expected = replacements.replace_in_prompt({"prompt": copy.deepcopy(prompt)})["prompt"]
    manager.apply_replacements(prompt)
    assert prompt == expected


def test_comfyui_has_nothing_left_to_replace(installed, manager):
    """It would fail with a KeyError."""
    prompt = replacements.replace_in_prompt({"prompt": old_prompt()})["prompt"]
    expected = copy.deepcopy(prompt)
    manager.apply_replacements(prompt)
    assert prompt == expected
    with pytest.raises(KeyError):
        manager.apply_replacements(old_prompt())


def test_nodes_of_a_pack_that_is_installed_stay(installed, monkeypatch):
    for old_id in replacements.BY_OLD_ID:
        monkeypatch.setitem(core_nodes.NODE_CLASS_MAPPINGS, old_id, object)
    assert replacements.replace_in_prompt({"prompt": old_prompt()})["prompt"] == old_prompt()


def test_the_page_is_told(server):
    told = json.loads(fetch(server, "/node_replacements"))
    for replacement in replacements.REPLACEMENTS:
        assert told[replacement.old_id] == [replacement.for_page().as_dict()]


def test_an_old_prompt_gives_the_clip_of_a_new_one(server, object_info):
    """Also when it is queued again with another seed, and ComfyUI keeps what its nodes have expanded into."""
    clips = []
    for seed in (1, 2):
        for prompt in (old_prompt(), with_defaults(new_prompt(), object_info)):
            prompt["11"]["inputs"]["seed"] = seed
            (file,) = server.output_files(server.submit(prompt))
            clips.append(pixels(file.read_bytes()))
    for old, new in (clips[:2], clips[2:]):
        np.testing.assert_array_equal(old, new)
    assert len(clips[0]) == 10
    assert clips[0].std() > 1 / 255
    assert (clips[0] != clips[2]).any()
