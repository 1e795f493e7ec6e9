"""Converted workflows in a real ComfyUI: its nodes have what the conversion gives them, and it runs the result."""

from __future__ import annotations

import copy
from typing import Any

import comfyui_version
import pytest
from conversion_support import every_workflow, links_of, read
from PIL import Image
from server_support import frames_of, problems

from animatediff_native.old_workflows.convert import convert
from animatediff_native.old_workflows.node_types import NODE_TYPES
from animatediff_native.tools.environment.downloads import COMFYUI_DEFAULT
from animatediff_native.tools.workflow import named_widgets, workflow_to_prompt

MINIATURE = {
    "ckpt_name": "miniature.safetensors",
    "motion_module": "miniature_motion.safetensors",
    "motion_lora": "miniature_pan.safetensors",
    "lora_name": "miniature_neon.safetensors",
    "control_net_name": "miniature_outline.safetensors",
    "sparse_ctrl": "miniature_outline.safetensors",  # it is only chosen: there is no miniature SparseCtrl
    "file": "moving_star.mp4",
    "image": "example.png",
    "folder": "frames",
}
NEWER = ("FrameInterpolate", "FrameInterpolationModelLoader", "LoadDA3Model", "DA3Inference", "DA3Render")
SMALL = {"width": 64, "height": 64, "steps": 2}
FRAMES = 18  # two windows


@pytest.fixture(scope="module")
def object_info(server) -> dict[str, Any]:
    """With a picture and a folder of pictures to choose."""
    Image.new("RGB", (96, 96), (20, 80, 120)).save(server.base / "input" / MINIATURE["image"])
    folder = server.base / "input" / "frames"
    folder.mkdir()
    for index in range(10):
        Image.new("RGB", (96, 96), (20 * index, 80, 120)).save(folder / f"{index:02}.png")
    return server.object_info()


def prompt_of(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    return workflow_to_prompt(workflow | {"links": list(links_of(workflow).values())}, object_info)


def with_miniature_models(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with the demo's files, small, in few steps and with few frames."""
    small = copy.deepcopy(prompt)
    checkpoint = next(key for key, node in small.items() if node["class_type"] == "CheckpointLoaderSimple")
    for node in small.values():
        wanted = {name: value for name, value in (MINIATURE | SMALL).items() if name in node["inputs"]}
        node["inputs"] |= {name: value for name, value in wanted.items() if not isinstance(node["inputs"][name], list)}
        for name, value in node["inputs"].items():
            if name in ("batch_size", "frames") and node["class_type"] not in ("RebatchImages", "ADN_KeyframeImages"):
                node["inputs"][name] = min(value, FRAMES)
            if isinstance(value, list) and small.get(value[0], {}).get("class_type") == "VAELoader":
                node["inputs"][name] = [checkpoint, 2]
    return {key: node for key, node in small.items() if node["class_type"] != "VAELoader"}


@every_workflow
def test_the_editor_finds_nothing_wrong(name, object_info):
    workflow, _ = convert(read(name))
    assert list(problems(with_miniature_models(prompt_of(workflow, object_info)), object_info)) == []


@pytest.mark.parametrize("kind", NODE_TYPES)
def test_new_nodes_have_the_sockets_and_widgets_of_this_comfyui(kind, object_info):
    older = comfyui_version.__version__ != COMFYUI_DEFAULT
    if older and kind in NEWER and kind not in object_info:
        pytest.skip(f"This ComfyUI has no {kind} yet.")
    info, made = object_info[kind], NODE_TYPES[kind]
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    for name, (kind_of_input, *options) in list(inputs.items()):
        if kind_of_input == "COMFY_AUTOGROW_V3":  # inputs that the page adds one by one
            ((_, one),) = options[0]["template"]["input"]["required"].items()
            del inputs[name]
            inputs |= {f"{name}.{each}": one for each in options[0]["template"]["names"]}
    for name, types in made.sockets.items():  # an older ComfyUI may take fewer types
        taken = set(inputs[name][0].split(","))
        assert taken == set(types.split(",")) or (older and taken < set(types.split(",")))
    assert [name for name in inputs if name in made.sockets] == list(made.sockets)
    names = [name for name, _ in named_widgets(info["input"], list(made.widgets.values()))]
    widgets = [name for name in made.widgets if name != "control_after_generate"]  # the page's own
    assert names[: len(widgets)] == widgets or (older and names == widgets[: len(names)])
    required = {name for name in info["input"].get("required", {}) if name in inputs}  # without those one by one
    assert required <= {*made.sockets, *made.widgets}, "a prompt would lack one"
    assert info["output"][: len(made.outputs)] == [*made.outputs.values()]
    if kind.startswith("ADN_"):
        defaults = {name: value for name, value in made.widgets.items() if "default" in inputs[name][1] and value != ""}
        assert defaults == {name: inputs[name][1]["default"] for name in defaults}


@pytest.mark.parametrize(
    "name, frames",
    [
        ("text_to_video_gen1", 16),
        ("prompt_travel_fizznodes", FRAMES),
        ("loader_v1_2023", FRAMES),
        ("multi_model_gen2", FRAMES),
        ("views_multivals_keyframes", FRAMES),
        ("free_init", 16),
        ("looped_closed_loop", FRAMES),  # with a stand-in node for its noise schedule
        ("ade_prompt_scheduling", FRAMES),
        ("video_to_video_controlnet", 12),
        ("image_folder_to_video", 8),
    ],
)
def test_a_converted_workflow_runs(name, frames, server, object_info):
    workflow, _ = convert(read(name))
    prompt = with_miniature_models(prompt_of(workflow, object_info))
    (file,) = server.output_files(server.submit(prompt))
    assert frames_of(file)[0] == frames
