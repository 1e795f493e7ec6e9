"""A real ComfyUI server with the pack and its demo models: what a user meets, over HTTP and in files."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from comfy_app import stand_ins
from comfy_server import ComfyServer, ServerError
from PIL import Image, ImageSequence
from workflow import with_stand_ins, workflow_to_prompt

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
FOLDERS = ("checkpoints", "controlnet", "loras", "animatediff_models", "animatediff_motion_lora")
INPUTS = sorted((ROOT / "demo" / "input").glob("*.mp4"))
NODES = (
    "ADN_LoadMotionModule",
    "ADN_LoadMotionLora",
    "ADN_ApplyAnimateDiff",
    "ADN_SlidingContext",
    "ADN_PromptSchedule",
    "ADN_ClipNoise",
    "ADN_FreeInit",
    "ADN_MotionStrength",
    "ADN_MotionStrengthPerLevel",
    "ADN_MotionCurve",
    "ADN_MergeMotionModules",
    "ADN_SaveMotionModule",
    "ADN_TrainMotionLora",
    "ADN_TrainMotionModule",
    "ADN_SaveMotionLora",
    "ADN_ScoreAnimation",
)
STEPS = 2  # what the workflows ask for takes minutes; the demo and the evaluation render in full


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("comfyui")
    own = base / "models" / "animatediff_models"  # beside the folder of demo models
    own.mkdir(parents=True)
    (own / "broken.safetensors").write_bytes(b"not a weights file")
    packs = {"animatediff-native": ROOT, "comfyui-miniature": ROOT / "demo" / "comfyui-miniature"}
    models = {name: ROOT / "demo" / "models" / name for name in FOLDERS}
    # The classic cache keeps exactly the last prompt's results, so it is known which nodes run again.
    with ComfyServer(
        Path(os.environ["ADN_COMFYUI"]), base, packs, models, arguments=["--cpu", "--cache-classic"], inputs=INPUTS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def object_info(server) -> dict[str, Any]:
    return server.object_info()


def nodes_of(prompt: dict[str, Any], class_type: str) -> list[dict[str, Any]]:
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


def shortened(workflow: Path, object_info: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The workflow as a prompt for the miniature, of few steps; `settings` are given to every KSampler."""
    prompt = workflow_to_prompt(json.loads(workflow.read_text(encoding="utf-8")), object_info)
    prompt = with_stand_ins(prompt, stand_ins())
    for sampler in nodes_of(prompt, "KSampler"):
        sampler.update({"steps": STEPS, **settings})
    for training in nodes_of(prompt, "ADN_TrainMotionLora"):
        training["steps"] = STEPS
    return prompt


@pytest.fixture
def short_prompt(object_info) -> dict[str, Any]:
    """Four frames of the demo, as WebP alone."""
    prompt = shortened(ROOT / "workflows" / "text_to_animation.json", object_info)
    nodes_of(prompt, "EmptyLatentImage")[0]["batch_size"] = 4
    return {key: node for key, node in prompt.items() if node["class_type"] not in ("CreateVideo", "SaveVideo")}


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
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = f"http://127.0.0.1:{server.port}/extensions/animatediff-native/docs/{node_id}.md"
    with opener.open(address, timeout=60) as page:
        assert page.read().decode().startswith("# ")


def test_motion_modules_of_every_folder_are_listed(object_info):
    kind, options = object_info["ADN_LoadMotionModule"]["input"]["required"]["motion_module"]
    choices = kind if isinstance(kind, list) else options["options"]
    assert {"broken.safetensors", "miniature_motion.safetensors"} <= set(choices)


def problems(prompt: dict[str, Any], object_info: dict[str, Any]) -> Iterator[str]:
    """What the editor would mark red: inputs that are missing or unknown, choices that do not exist."""
    for node in prompt.values():
        name, schema = node["class_type"], object_info[node["class_type"]]["input"]
        inputs = schema.get("required", {}) | schema.get("optional", {})
        yield from (f"{name} lacks {key}" for key in schema.get("required", {}) if key not in node["inputs"])
        for key, value in node["inputs"].items():
            if key.split(".")[0] not in inputs:
                yield f"{name} has no {key}"
            elif not isinstance(value, list):
                kind, *rest = inputs[key.split(".")[0]]
                choices = kind if isinstance(kind, list) else (rest[0] if rest else {}).get("options")
                if kind != "COMFY_DYNAMICCOMBO_V3" and choices is not None and value not in choices:
                    yield f"{name} has no {key} {value}"
            elif value[0] not in prompt:
                yield f"{name} gets {key} from a node that is not there"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_fits_the_nodes(workflow, object_info):
    assert list(problems(shortened(workflow, object_info), object_info)) == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_gives_its_files(workflow, server, object_info):
    prompt = shortened(workflow, object_info)
    files = server.output_files(server.submit(prompt))
    savers = {".mp4": "SaveVideo", ".webp": "SaveAnimatedWEBP"}
    expected = {suffix: len(nodes_of(prompt, saver)) for suffix, saver in savers.items()}
    assert Counter(file.suffix for file in files) == Counter(expected)
    for file in files:
        assert frames_of(file) == expected_frames(prompt)


def expected_frames(prompt: dict[str, Any]) -> tuple[int, int, int]:
    """Number of frames, width and height of the clip that a prompt gives: those of its latent or of its video."""
    if not nodes_of(prompt, "EmptyLatentImage"):
        (video,), (scaled,) = nodes_of(prompt, "LoadVideo"), nodes_of(prompt, "ImageScale")
        return frames_of(ROOT / "demo" / "input" / video["file"])[0], scaled["width"], scaled["height"]
    (latent,) = nodes_of(prompt, "EmptyLatentImage")
    enlarged = nodes_of(prompt, "LatentUpscaleBy")
    times = enlarged[0]["scale_by"] if enlarged else 1
    return latent["batch_size"], round(latent["width"] * times), round(latent["height"] * times)


def frames_of(file: Path) -> tuple[int, int, int]:
    """Number of frames, width and height of a clip."""
    if file.suffix == ".webp":
        with Image.open(file) as picture:
            return picture.n_frames, *picture.size
    with av.open(str(file)) as video:
        frames = list(video.decode(video=0))
        return len(frames), frames[0].width, frames[0].height


def test_a_broken_file_is_reported_and_the_server_renders_on(server, short_prompt):
    first, _ = render(server, short_prompt)
    broken = copy.deepcopy(short_prompt)
    nodes_of(broken, "ADN_LoadMotionModule")[0]["motion_module"] = "broken.safetensors"
    with pytest.raises(ServerError, match=r"broken\.safetensors is .*no weights file"):
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
            interrupt(server)

    with pytest.raises(ServerError, match="interrupted"):
        server.submit(other, interrupt_once)
    assert seen[1] < 200
    again, sampled = render(server, short_prompt)
    assert sampled
    assert again == first


def interrupt(server: ComfyServer) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"http://127.0.0.1:{server.port}/interrupt", data=b"{}", timeout=60).close()


def test_the_motion_module_makes_a_difference(server, short_prompt):
    without = copy.deepcopy(short_prompt)
    nodes_of(without, "ADN_ApplyAnimateDiff")[0]["strength"] = 0.0
    clips = [pixels(render(server, prompt)[0]) for prompt in (short_prompt, without)]
    assert np.abs(clips[0] - clips[1]).mean() > 1 / 255


def pixels(webp: bytes) -> np.ndarray:
    """(f, h, w, c) in [0, 1]; the bytes of two files differ already by the prompts that ComfyUI writes into them."""
    with Image.open(io.BytesIO(webp)) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) / 255.0 for frame in ImageSequence.Iterator(picture)])


def test_a_file_that_two_nodes_load_is_in_memory_once(server, short_prompt):
    """ComfyUI gives nodes with the same inputs the same result."""
    own = server.base / "models" / "animatediff_models"
    demo = ROOT / "demo" / "models" / "animatediff_models"
    shutil.copy(demo / "miniature_motion.safetensors", own / "twice.safetensors")
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


def test_a_lora_is_trained_in_a_graph_used_and_saved(server, short_prompt):
    """From a video through ComfyUI's own dataset node; the trained module moves the clip in the same run."""
    plain, _ = render(server, short_prompt)
    prompt = copy.deepcopy(short_prompt)
    keys = {node["class_type"]: key for key, node in prompt.items()}
    checkpoint, module = keys["CheckpointLoaderSimple"], keys["ADN_LoadMotionModule"]
    prompt |= {
        "video": node("LoadVideo", file=INPUTS[0].name),
        "frames": node("GetVideoComponents", video=["video", 0]),
        "dataset": node("MakeTrainingDataset", images=["frames", 0], vae=[checkpoint, 2], clip=[checkpoint, 1]),
        "train": node(
            "ADN_TrainMotionLora",
            model=[checkpoint, 0],
            motion_module=[module, 0],
            latents=["dataset", 0],
            conditioning=["dataset", 1],
            **{"steps": 3, "learning_rate": 0.01, "rank": 2, "frames": 16, "stride": 1, "seed": 0, "alpha": 0.0},
            **{
                "projections": "attention",
                "appearance_debiased": False,
                "batch": 1,
                "accumulate": 1,
                "loss": "velocity",
            },
            **{"first_timestep": 0, "caption_dropout": 0.1, "precision": "automatic", "recompute": True},
        ),
        "save": node(
            "ADN_SaveMotionLora",
            motion_lora=["train", 1],
            filename_prefix="animatediff_motion_lora/star",
            layout="AnimateDiff",
        ),
    }
    nodes_of(prompt, "ADN_ApplyAnimateDiff")[0]["motion_module"] = ["train", 0]
    trained, _ = render(server, prompt)
    assert np.abs(pixels(trained) - pixels(plain)).mean() > 1 / 255
    assert not list((server.base / "output" / "animatediff_training").iterdir())

    loaded = copy.deepcopy(short_prompt)
    loaded["lora"] = node(
        "ADN_LoadMotionLora", motion_module=[module, 0], motion_lora="star_00001_.safetensors", strength=1.0
    )
    nodes_of(loaded, "ADN_ApplyAnimateDiff")[0]["motion_module"] = ["lora", 0]
    again, _ = render(server, loaded)
    np.testing.assert_array_equal(pixels(again), pixels(trained))


def test_a_clip_is_scored_in_a_graph(server, short_prompt):
    prompt = copy.deepcopy(short_prompt)
    (decode,) = (key for key, each in prompt.items() if each["class_type"] == "VAEDecode")
    prompt["score"] = node("ADN_ScoreAnimation", images=[decode, 0], text="", context_length=0, context_overlap=4)
    outputs = server.submit(prompt)
    (said,) = outputs["score"]["text"]
    assert "px" in said or "pixels" in said


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}
