"""A real ComfyUI server with the pack and its demo models: what a user meets, over HTTP and in files."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_support import (
    NODES,
    SIZE,
    WORKFLOWS,
    fetch,
    four_frames,
    frames_of,
    node,
    nodes_of,
    pixels,
    problems,
    shortened,
)

from animatediff_native.tools.comfy_app import INPUTS, MODELS
from animatediff_native.tools.comfy_server import ComfyServer, ServerError

MOTION = "animatediff_models"
SAVED_PROMPTS = sorted(Path(__file__).with_name("saved_prompts").glob("*.json"))
STEMS = [path.stem for path in WORKFLOWS]


@pytest.fixture
def own_modules(server) -> Path:
    """The server's own folder of motion modules, beside that of the demo."""
    folder = server.base / "models" / MOTION
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def broken_file(own_modules) -> str:
    (own_modules / "broken.safetensors").write_bytes(b"not a weights file")
    return "broken.safetensors"


@pytest.fixture
def short_prompt(object_info) -> dict[str, Any]:
    """Four frames of the demo, as WebP alone."""
    prompt = four_frames(object_info)
    return {key: entry for key, entry in prompt.items() if entry["class_type"] not in ("CreateVideo", "SaveVideo")}


def render(server: ComfyServer, prompt: dict[str, Any]) -> tuple[bytes, bool]:
    """The clip that a prompt of one clip gives, and whether it was sampled and not just remembered."""
    sampled = []
    outputs = server.submit(prompt, lambda title, step, steps: sampled.append(title == "KSampler"))
    (file,) = server.output_files(outputs)
    return file.read_bytes(), any(sampled)


def test_the_pack_is_loaded_without_a_complaint(server):
    """ComfyUI may complain about nodes of its own, for which a machine lacks a library."""
    log = [line for line in server.log_tail(lines=100000).splitlines() if "custom_nodes" in line]
    assert any("animatediff-native" in line for line in log)
    assert not [line for line in log if re.search("IMPORT FAILED|Cannot import|Error while", line)]


@pytest.mark.parametrize("node_id", NODES)
def test_every_socket_and_widget_has_a_tooltip(object_info, node_id):
    info = object_info[node_id]
    assert info["category"] in ("AnimateDiff", "AnimateDiff/training", "AnimateDiff/evaluation")
    assert info["description"]
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    assert inputs
    assert all(options["tooltip"] for _, options in inputs.values())
    assert len(info["output_tooltips"]) == len(info["output"])
    assert all(info["output_tooltips"])


@pytest.mark.parametrize("node_id", NODES)
def test_the_help_page_is_served(server, node_id):
    """Where the editor asks for it."""
    assert fetch(server, f"/extensions/animatediff-native/docs/{node_id}.md").startswith(b"# ")


def test_motion_modules_of_every_folder_are_listed(server, broken_file):
    kind, options = server.object_info()["ADN_LoadMotionModule"]["input"]["required"]["motion_module"]
    choices = kind if isinstance(kind, list) else options["options"]
    assert {broken_file, "miniature_motion.safetensors"} <= set(choices)


@pytest.mark.parametrize("workflow", STEMS)
def test_workflow_fits_the_nodes(workflow, object_info):
    assert list(problems(shortened(workflow, object_info), object_info)) == []


@pytest.mark.parametrize("workflow", STEMS)
def test_workflow_gives_its_files(workflow, server, object_info):
    prompt = shortened(workflow, object_info)
    files = server.output_files(server.submit(prompt))
    savers = {".mp4": "SaveVideo", ".webp": "SaveAnimatedWEBP"}
    expected = {suffix: len(nodes_of(prompt, saver)) for suffix, saver in savers.items()}
    assert Counter(file.suffix for file in files) == Counter(expected)
    for file in files:
        assert frames_of(file) == expected_frames(prompt)


@pytest.mark.parametrize("saved", SAVED_PROMPTS, ids=[path.stem for path in SAVED_PROMPTS])
def test_a_prompt_of_an_earlier_version_runs_whole_and_with_essential_inputs_alone(saved, server, object_info):
    """Each file holds every node of its version with every input written out."""
    whole = json.loads(saved.read_text(encoding="utf-8"))
    assert {entry["class_type"] for entry in whole.values()} >= set(NODES)
    essential = copy.deepcopy(whole)
    for entry in essential.values():
        if entry["class_type"] in NODES:
            schema = object_info[entry["class_type"]]["input"]
            inputs = schema.get("required", {}) | schema.get("optional", {})
            entry["inputs"] = {
                name: value
                for name, value in entry["inputs"].items()
                if "default" not in inputs[name][1] or value != inputs[name][1]["default"]
            }
    assert sum(len(entry["inputs"]) for entry in essential.values()) < sum(len(e["inputs"]) for e in whole.values()) / 2
    (first, _), (second, sampled) = render(server, whole), render(server, essential)
    assert sampled
    assert np.array_equal(pixels(first), pixels(second))


def expected_frames(prompt: dict[str, Any]) -> tuple[int, int, int]:
    """Number of frames, width and height of the clip that a prompt gives: those of its latent or of its video."""
    if not nodes_of(prompt, "EmptyLatentImage"):
        (video,), (scaled,) = nodes_of(prompt, "LoadVideo"), nodes_of(prompt, "ImageScale")
        return frames_of(INPUTS[0].with_name(video["file"]))[0], scaled["width"], scaled["height"]
    (latent,) = nodes_of(prompt, "EmptyLatentImage")
    enlarged = nodes_of(prompt, "LatentUpscaleBy")
    times = enlarged[0]["scale_by"] if enlarged else 1
    return latent["batch_size"], round(latent["width"] * times), round(latent["height"] * times)


def test_a_broken_file_is_reported_and_the_server_renders_on(server, short_prompt, broken_file):
    first, _ = render(server, short_prompt)
    broken = copy.deepcopy(short_prompt)
    nodes_of(broken, "ADN_LoadMotionModule")[0]["motion_module"] = broken_file
    with pytest.raises(ServerError, match=r"broken\.safetensors is .*not a weights file"):
        server.submit(broken)
    again, sampled = render(server, short_prompt)
    assert sampled
    assert again == first


def test_an_interrupted_run_leaves_the_next_one_as_it_was(server, short_prompt):
    """The loaded models stay in ComfyUI's cache all the while."""
    first, _ = render(server, short_prompt)
    other = copy.deepcopy(short_prompt)
    nodes_of(other, "KSampler")[0].update({"seed": 99, "steps": 200})
    seen: list[int] = []  # ComfyUI does not report every step

    def interrupt_once(title: str, step: int, steps: int) -> None:
        seen.append(step)
        if len(seen) == 2:
            fetch(server, "/interrupt", b"{}")

    with pytest.raises(ServerError, match="interrupted"):
        server.submit(other, interrupt_once)
    assert seen[1] < 200
    again, sampled = render(server, short_prompt)
    assert sampled
    assert again == first


@pytest.mark.parametrize(
    ("frames", "line"), [(1, "a single frame has no motion"), (40, "40 frames, in 3 windows of 16")]
)
def test_one_frame_and_too_many_are_one_line_of_the_log(server, short_prompt, frames, line):
    before = len(server.log_tail(100_000).splitlines())
    nodes_of(short_prompt, "EmptyLatentImage")[0]["batch_size"] = frames
    render(server, short_prompt)
    assert sum(line in text for text in server.log_tail(100_000).splitlines()[before:]) == 1


def test_the_motion_module_makes_a_difference(server, short_prompt):
    without = copy.deepcopy(short_prompt)
    nodes_of(without, "ADN_ApplyAnimateDiff")[0]["strength"] = 0.0
    clips = [pixels(render(server, prompt)[0]) for prompt in (short_prompt, without)]
    assert np.abs(clips[0] - clips[1]).mean() > 1 / 255


def test_a_file_that_two_nodes_load_is_in_memory_once(server, short_prompt, own_modules):
    """ComfyUI gives nodes with the same inputs the same result."""
    shutil.copy(MODELS[MOTION] / "miniature_motion.safetensors", own_modules / "twice.safetensors")
    prompt = copy.deepcopy(short_prompt)
    (loader,) = (key for key, node in prompt.items() if node["class_type"] == "ADN_LoadMotionModule")
    (apply,) = (key for key, node in prompt.items() if node["class_type"] == "ADN_ApplyAnimateDiff")
    prompt[loader]["inputs"]["motion_module"] = "twice.safetensors"
    prompt["second loader"] = copy.deepcopy(prompt[loader])
    prompt["second apply"] = copy.deepcopy(prompt[apply])
    prompt["second apply"]["inputs"] |= {"model": [apply, 0], "motion_module": ["second loader", 0]}
    nodes_of(prompt, "KSampler")[0]["model"] = ["second apply", 0]
    render(server, prompt)
    assert server.log_tail(lines=100000).count("twice.safetensors is AnimateDiff v3") == 1


def with_training(prompt: dict[str, Any], prefix: str) -> dict[str, Any]:
    """From a video through ComfyUI's own dataset node to a motion LoRA, which moves the clip of the same prompt."""
    keys = {entry["class_type"]: key for key, entry in prompt.items()}
    checkpoint, module = keys["CheckpointLoaderSimple"], keys["ADN_LoadMotionModule"]
    settings = {"steps": 3, "learning_rate": 0.01, "rank": 2, "alpha": 0.0, "seed": 0, "projections": "attention"}
    settings |= {"frames": 8, "stride": 1, "batch": 1, "accumulate": 1, "loss": "velocity", "first_timestep": 0}
    settings |= {"appearance_debiased": False, "caption_dropout": 0.1, "precision": "automatic", "recompute": True}
    trained = copy.deepcopy(prompt) | {
        "video": node("LoadVideo", file="moving_star.mp4"),
        "frames": node("GetVideoComponents", video=["video", 0]),
        "small": node(
            "ImageScale",
            **{"image": ["frames", 0], "upscale_method": "area", "width": SIZE, "height": SIZE, "crop": "disabled"},
        ),
        "dataset": node("MakeTrainingDataset", images=["small", 0], vae=[checkpoint, 2], clip=[checkpoint, 1]),
        "train": node(
            "ADN_TrainMotionLora",
            **{"model": [checkpoint, 0], "motion_module": [module, 0]},
            **{"latents": ["dataset", 0], "conditioning": ["dataset", 1], **settings},
        ),
        "save": node("ADN_SaveMotionLora", motion_lora=["train", 1], filename_prefix=prefix, layout="AnimateDiff"),
    }
    nodes_of(trained, "ADN_ApplyAnimateDiff")[0]["motion_module"] = ["train", 0]
    return trained


def test_a_lora_is_trained_in_a_graph_used_and_saved(server, short_prompt):
    plain, _ = render(server, short_prompt)
    trained, _ = render(server, with_training(short_prompt, "animatediff_motion_lora/star"))
    assert np.abs(pixels(trained) - pixels(plain)).mean() > 1 / 255
    assert not list((server.base / "output" / "animatediff_training").iterdir())

    loaded = copy.deepcopy(short_prompt)
    module = next(key for key, entry in loaded.items() if entry["class_type"] == "ADN_LoadMotionModule")
    file = "star_00001_.safetensors"
    loaded["lora"] = node("ADN_LoadMotionLora", motion_module=[module, 0], motion_lora=file, strength=1.0)
    nodes_of(loaded, "ADN_ApplyAnimateDiff")[0]["motion_module"] = ["lora", 0]
    again, _ = render(server, loaded)
    np.testing.assert_array_equal(pixels(again), pixels(trained))


def test_a_clip_is_scored_in_a_graph(server, short_prompt):
    prompt = copy.deepcopy(short_prompt)
    (decode,) = (key for key, entry in prompt.items() if entry["class_type"] == "VAEDecode")
    prompt["score"] = node("ADN_ScoreAnimation", images=[decode, 0], text="", context_length=0, context_overlap=4)
    outputs = server.submit(prompt)
    (sentences,) = outputs["score"]["text"]
    assert "px" in sentences or "pixels" in sentences
