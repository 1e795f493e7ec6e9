"""Workflows in the style of old tutorials become workflows for this pack and ComfyUI alone."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from comfy_server import ComfyServer
from convert_workflow import main
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from workflow import named_widgets, workflow_to_prompt

from old_workflows.convert import convert
from old_workflows.node_types import NODE_TYPES
from old_workflows.old_nodes import is_old

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.json"))
FOLDERS = ("checkpoints", "controlnet", "loras", "animatediff_models", "animatediff_motion_lora")
MINIATURE = {
    "ckpt_name": "miniature.safetensors",
    "motion_module": "miniature_motion.safetensors",
    "motion_lora": "miniature_pan.safetensors",
    "lora_name": "miniature_neon.safetensors",
    "control_net_name": "miniature_outline.safetensors",
    "file": "moving_star.mp4",
    "folder": "frames",
}
SMALL = {"width": 64, "height": 64, "steps": 2}
FRAMES = 18  # two windows


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("comfyui")
    (base / "input" / "frames").mkdir(parents=True)
    for index in range(10):
        Image.new("RGB", (96, 96), (20 * index, 80, 120)).save(base / "input" / "frames" / f"{index:02}.png")
    packs = {"animatediff-native": ROOT, "comfyui-miniature": ROOT / "demo" / "comfyui-miniature"}
    models = {name: ROOT / "demo" / "models" / name for name in FOLDERS}
    videos = sorted((ROOT / "demo" / "input").glob("*.mp4"))
    comfyui = Path(os.environ["ADN_COMFYUI"])
    with ComfyServer(comfyui, base, packs, models, arguments=["--cpu"], inputs=videos) as running:
        yield running


@pytest.fixture(scope="module")
def object_info(server) -> dict[str, Any]:
    return server.object_info()


def read(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "corpus" / f"{name}.json").read_text(encoding="utf-8"))


def every_workflow(function):
    return pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)(function)


def nodes_of(workflow: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"] in types]


def widgets(node: dict[str, Any]) -> dict[str, Any]:
    """Of a new node, by name."""
    return dict(zip(NODE_TYPES[node["type"]].widgets, node["widgets_values"], strict=False))


def links_of(workflow: dict[str, Any]) -> dict[int, list[Any]]:
    return {link[0]: link for link in (list(e.values()) if isinstance(e, dict) else e for e in workflow["links"])}


def sources(workflow: dict[str, Any], node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name of an input -> the node that it comes from."""
    nodes, links = {each["id"]: each for each in workflow["nodes"]}, links_of(workflow)
    connected = [socket for socket in node.get("inputs") or [] if socket["link"] is not None]
    return {socket["name"]: nodes[links[socket["link"]][1]] for socket in connected}


def sampled_through(workflow: dict[str, Any], sampler: int = 0) -> list[dict[str, Any]]:
    """The nodes that the model goes through, from the checkpoint to a sampler."""
    node = nodes_of(workflow, "KSampler")[sampler]
    row: list[dict[str, Any]] = []
    while "model" in (found := sources(workflow, node)):
        node = found["model"]
        row.insert(0, node)
    return row[1:]


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
            if name in ("batch_size", "frames") and node["class_type"] != "RebatchImages":
                node["inputs"][name] = min(value, FRAMES)
            if isinstance(value, list) and small.get(value[0], {}).get("class_type") == "VAELoader":
                node["inputs"][name] = [checkpoint, 2]
    return {key: node for key, node in small.items() if node["class_type"] not in ("VAELoader", "LoadImage")}


def problems(prompt: dict[str, Any], object_info: dict[str, Any]) -> Iterator[str]:
    """What the editor would mark red."""
    for node in prompt.values():
        name, schema = node["class_type"], object_info[node["class_type"]]["input"]
        inputs = schema.get("required", {}) | schema.get("optional", {})
        yield from (f"{name} lacks {key}" for key in schema.get("required", {}) if key not in node["inputs"])
        for key, value in node["inputs"].items():
            kind, *rest = inputs.get(key.split(".")[0], (None,))
            if isinstance(value, list):
                fits = kind is not None and value[0] in prompt
            else:
                fits = kind is not None and allowed(value, kind, rest[0] if rest else {})
            if not fits:
                yield f"{name} has {key} {value}"


def allowed(value: Any, kind: str | list[str], options: dict[str, Any]) -> bool:
    if isinstance(kind, list) or kind == "COMBO":
        return value in (kind if isinstance(kind, list) else options["options"])
    if kind in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and options.get("min", value) <= value <= options.get("max", value)
    return True


# What every conversion keeps to


@every_workflow
def test_no_old_node_is_left_but_those_that_are_named(path):
    workflow, lost = convert(read(path.stem))
    for node in workflow["nodes"]:
        if is_old(node["type"]):
            assert any(line.startswith(f"{node['type']} (node {node['id']}): it has no counterpart") for line in lost)
            assert node["mode"] == 4


@every_workflow
def test_both_ends_of_every_link_agree(path):
    workflow, _ = convert(read(path.stem))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = links_of(workflow)
    assert len(links) == len(workflow["links"])
    for id, source, output, target, input, type in links.values():
        leaving, entering = nodes[source]["outputs"][output], nodes[target]["inputs"][input]
        assert id in leaving["links"]
        assert entering["link"] == id
        assert type in (leaving["type"], entering["type"]) or "*" in (leaving["type"], entering["type"])
        assert entering["type"] == "*" or leaving["type"] in (*entering["type"].split(","), "*", "COMBO")
    named = [link for node in workflow["nodes"] for socket in node["outputs"] for link in socket["links"] or []]
    named += [socket["link"] for node in workflow["nodes"] for socket in node.get("inputs", []) if socket["link"]]
    assert set(named) == set(links)


@every_workflow
def test_other_nodes_and_groups_stay_as_they_were(path):
    old = read(path.stem)
    new, _ = convert(old)
    kept = {node["id"]: node for node in new["nodes"]}
    for node in old["nodes"]:
        if is_old(node["type"]) or (node["type"] in ("Reroute", "PrimitiveNode") and node["id"] not in kept):
            continue
        names = ("type", "pos", "size", "mode", "title", "color", "bgcolor", "widgets_values", "properties", "flags")
        assert {name: kept[node["id"]].get(name) for name in names} == {name: node.get(name) for name in names}
    assert [new.get(name) for name in ("groups", "extra", "version", "id")] == [
        old.get(name) for name in ("groups", "extra", "version", "id")
    ]


@every_workflow
def test_nodes_do_not_hide_each_other(path):
    """Those that were not in each other's way before."""
    workflow, _ = convert(read(path.stem))
    old = {node["id"] for node in read(path.stem)["nodes"]}
    boxes = [(node, *node["pos"], *pair(node["size"])) for node in workflow["nodes"]]
    for node, x, y, w, h in boxes:
        for other, left, top, wide, high in boxes:
            if node["id"] not in old and other["id"] != node["id"]:
                assert x + w <= left or left + wide <= x or y + h <= top or top + high <= y


def pair(size: Any) -> tuple[float, float]:
    return (size["0"], size["1"]) if isinstance(size, dict) else tuple(size)


@every_workflow
def test_the_workflow_that_is_given_is_not_changed(path):
    old = read(path.stem)
    before = copy.deepcopy(old)
    convert(old)
    assert old == before


@every_workflow
def test_a_converted_workflow_is_not_changed_again(path):
    once, _ = convert(read(path.stem))
    twice, lost = convert(once)
    assert twice == once
    assert all("it has no counterpart" in line for line in lost)


@every_workflow
def test_the_editor_finds_nothing_wrong(path, object_info):
    workflow, _ = convert(read(path.stem))
    assert list(problems(with_miniature_models(prompt_of(workflow, object_info)), object_info)) == []


@pytest.mark.parametrize("kind", NODE_TYPES)
def test_new_nodes_have_the_sockets_and_widgets_of_this_comfyui(kind, object_info):
    info, made = object_info[kind], NODE_TYPES[kind]
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    assert {name: inputs[name][0] for name in made.sockets} == dict(made.sockets)
    assert [name for name in inputs if name in made.sockets] == list(made.sockets)
    names = [name for name, _ in named_widgets(info["input"], list(made.widgets.values()))]
    assert names[: len(made.widgets)] == list(made.widgets)
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
        ("ade_prompt_scheduling", FRAMES),
        ("video_to_video_controlnet", 12),
        ("image_folder_to_video", 8),
    ],
)
def test_a_converted_workflow_runs(name, frames, server, object_info):
    workflow, _ = convert(read(name))
    prompt = with_miniature_models(prompt_of(workflow, object_info))
    (file,) = server.output_files(server.submit(prompt))
    with av.open(str(file)) as video:
        assert sum(1 for _ in video.decode(video=0)) == frames


# What becomes of each kind of old node


def test_one_loader_becomes_load_and_apply():
    workflow, lost = convert(read("text_to_video_gen1"))
    (apply,) = sampled_through(workflow)
    assert apply["type"] == "ADN_ApplyAnimateDiff"
    assert widgets(apply)["beta_schedule"] == "AnimateDiff SD1.5"
    assert "title" not in apply
    assert apply["properties"] == {"cnr_id": "animatediff-native", "Node name for S&R": "ADN_ApplyAnimateDiff"}
    assert widgets(sources(workflow, apply)["motion_module"])["motion_module"] == "mm_sd_v15_v2.ckpt"
    assert lost == []


def test_old_nodes_keep_their_places():
    old = {node["id"]: node for node in read("multi_model_gen2")["nodes"]}
    new, _ = convert(read("multi_model_gen2"))
    replaced = [node for node in new["nodes"] if node["id"] in old and node["type"].startswith("ADN_")]
    assert len(replaced) == 7  # two modules, a LoRA, two Apply AnimateDiff, two Sliding Context
    assert [node["pos"] for node in replaced] == [old[node["id"]]["pos"] for node in replaced]


def test_motion_loras_are_chained_in_their_order():
    workflow, _ = convert(read("motion_lora_chain"))
    (apply,) = sampled_through(workflow)
    second = sources(workflow, apply)["motion_module"]
    first = sources(workflow, second)["motion_module"]
    assert [tuple(widgets(node).values()) for node in (first, second)] == [
        ("v2_lora_ZoomIn.ckpt", 0.8),
        ("v2_lora_PanLeft.ckpt", 0.5),
    ]
    assert sources(workflow, first)["motion_module"]["type"] == "ADN_LoadMotionModule"


def test_free_noise_goes_to_the_windows():
    workflow, _ = convert(read("long_clip_free_noise"))
    apply, windows = sampled_through(workflow)
    assert apply["type"] == "ADN_ApplyAnimateDiff"
    assert widgets(windows) == {
        "context_length": 16,
        "context_overlap": 4,
        "schedule": "static",
        "fuse": "overlap-linear",
        "context_stride": 0,
        "within": "whole UNet",
        "windows_at_once": 1,
        "free_noise": True,
        "start_percent": 0,
    }
    assert not nodes_of(workflow, "Reroute")  # it led the context options, which are gone


@pytest.mark.parametrize(
    "name, schedule, fuse, stride",
    [
        ("looped_closed_loop", "closed loop", "pyramid", 1),
        ("animatelcm", "uniform", "pyramid", 1),
        ("legacy_loader_2023", "looped", "flat", 1),
        ("loader_v1_2023", "closed loop", "flat", 2),
    ],
)
def test_windows_without_free_noise_keep_their_schedule(name, schedule, fuse, stride):
    workflow, _ = convert(read(name))
    (windows,) = nodes_of(workflow, "ADN_SlidingContext")
    found = widgets(windows)
    assert (found["schedule"], found["fuse"], found["context_stride"]) == (schedule, fuse, stride)
    assert found["free_noise"] is False


def test_the_newest_of_several_motion_modules_comes_first_and_sets_the_noise():
    workflow, _ = convert(read("multi_model_gen2"))
    row = sampled_through(workflow)
    assert [node["type"] for node in row] == ["ADN_ApplyAnimateDiff"] * 2 + ["ADN_SlidingContext"] * 2
    first, second, early, late = map(widgets, row)
    assert (first["start_percent"], first["end_percent"], first["beta_schedule"]) == (0.4, 1, "automatic")
    assert (second["start_percent"], second["end_percent"], second["beta_schedule"]) == (0, 0.6, "keep the model's own")
    assert (early["context_length"], early["start_percent"]) == (16, 0)
    assert (late["context_length"], late["start_percent"], late["fuse"]) == (12, 0.5, "flat")
    assert sources(workflow, row[0])["motion_module"]["type"] == "ADN_LoadMotionLora"


def test_two_samplers_share_one_model():
    workflow, _ = convert(read("hires_second_pass"))
    first, second = (sampled_through(workflow, index) for index in (0, 1))
    assert [node["id"] for node in first] == [node["id"] for node in second]
    assert [node["mode"] for node in nodes_of(workflow, "CreateVideo", "SaveVideo")].count(2) == 2  # the muted draft


def test_views_numbers_masks_and_keyframes():
    workflow, lost = convert(read("views_multivals_keyframes"))
    apply, windows = sampled_through(workflow)
    assert widgets(windows)["within"] == "motion module"
    assert widgets(windows)["fuse"] == "flat"
    assert widgets(apply)["motion_scale"] == 1.15
    keyframes = sources(workflow, apply)["motion_strength"]
    curve = sources(workflow, keyframes)["effect"]
    assert widgets(curve)["keyframes"] == "0: 1 hold\n0.7: 0.6 hold"
    assert widgets(curve)["over"] == "sampling"
    mask = sources(workflow, sources(workflow, keyframes)["previous"])["effect"]
    assert (widgets(mask)["low"], widgets(mask)["high"]) == (0.5, 1.2)
    assert sources(workflow, mask)["source"]["type"] == "SolidMask"
    assert lost == []


def test_free_init_and_seeds_per_frame():
    workflow, _ = convert(read("free_init"))
    _, noise, again = sampled_through(workflow)
    assert (widgets(noise)["noise"], widgets(noise)["share"]) == ("per-frame seeds", 1.0)
    assert (widgets(again)["iterations"], widgets(again)["filter"]) == (3, "butterworth")


def test_fizznodes_prompts_keep_what_is_before_and_behind_and_to_be_avoided():
    workflow, _ = convert(read("prompt_travel_fizznodes"))
    found = sources(workflow, nodes_of(workflow, "KSampler")[0])
    wanted, avoided = widgets(found["positive"]), widgets(found["negative"])
    assert "(pink:1.2)" in wanted["prompts"]
    assert '"summer, green leaves"' in wanted["prompts"]
    assert "--neg" not in wanted["prompts"] + avoided["prompts"]
    assert '"24": "snow, rain"' in avoided["prompts"]
    assert (wanted["suffix"], avoided["suffix"]) == ("4k", "")
    assert sources(workflow, found["positive"])["prefix"]["title"] == "Style"
    assert sources(workflow, found["positive"])["frames"]["title"] == "Frames"


def test_prompts_for_more_frames_than_the_clip_has_take_its_number():
    """FizzNodes' 120 frames were cut to the clip's."""
    workflow, _ = convert(read("prompt_travel_fizznodes_2023"))
    (schedule,) = nodes_of(workflow, "ADN_PromptSchedule")
    assert sources(workflow, schedule)["latent"]["type"] == "EmptyLatentImage"


def test_prompt_scheduling_holds_and_ranges():
    workflow, _ = convert(read("ade_prompt_scheduling"))
    texts = [widgets(node)["prompts"] for node in nodes_of(workflow, "ADN_PromptSchedule")]
    assert texts[0].startswith('"0 hold": "a seed in soil",\n"8-11": "a green sprout"')
    assert [widgets(node)["interpolation"] for node in nodes_of(workflow, "ADN_PromptSchedule")] == ["linear", "slerp"]
    assert sources(workflow, nodes_of(workflow, "KSampler")[0])["latent_image"]["type"] == "EmptyLatentImage"


def test_a_video_is_loaded_cut_and_scaled_by_comfyuis_nodes():
    workflow, lost = convert(read("video_to_video_controlnet"))
    (canny,) = nodes_of(workflow, "Canny")
    scale = sources(workflow, canny)["image"]
    assert (widgets(scale)["width"], widgets(scale)["crop"]) == (512, "center")
    cut = sources(workflow, scale)["image"]
    assert widgets(cut) == {"batch_index": 2, "length": 12}
    assert sources(workflow, sources(workflow, cut)["image"])["video"]["type"] == "LoadVideo"
    assert sources(workflow, nodes_of(workflow, "CreateVideo")[0])["audio"]["type"] == "GetVideoComponents"
    (control,) = nodes_of(workflow, "ControlNetApplyAdvanced")
    assert widgets(control) == {"strength": 0.8, "start_percent": 0, "end_percent": 0.85}
    assert [node["type"] for node in sampled_through(workflow)] == ["ADN_ApplyAnimateDiff", "ADN_SlidingContext"]
    assert [line for line in lost if "timestep_kf" in line] == lost


@pytest.mark.parametrize(
    "name, savers",
    [
        ("text_to_video_gen1", {"CreateVideo", "SaveVideo"}),
        ("looped_closed_loop", {"SaveAnimatedWEBP"}),
        ("animatelcm", {"SaveWEBM"}),
        ("legacy_loader_2023", {"SaveAnimatedWEBP"}),
        ("loader_v1_2023", {"CreateVideo", "SaveVideo"}),
    ],
)
def test_clips_are_saved_in_the_format_they_had(name, savers):
    workflow, _ = convert(read(name))
    assert {node["type"] for node in workflow["nodes"] if "Save" in node["type"] or "Create" in node["type"]} == savers


def test_what_cannot_be_carried_over_is_said_with_node_and_setting():
    workflow, lost = convert(read("camera_and_sparse_control"))
    for words in (
        "CameraCtrl is not supported",
        "batch_offset 2",
        "noise_layers, from ADE_NoiseLayerAdd (node 5)",
        'noise_type "empty"',
        'beta_schedule "cosine"',
        "ACN_SparseCtrlLoaderAdvanced (node 11): it has no counterpart",
    ):
        assert any(words in line for line in lost)
    assert nodes_of(workflow, "ControlNetApplyAdvanced")[0]["mode"] == 4
    assert not nodes_of(workflow, "ADE_CameraPoseBasic", "ADE_NoiseLayerAdd")


def test_windows_without_a_motion_module_stay_on_the_model():
    old = read("long_clip_free_noise")
    for node in nodes_of(old, "ADE_UseEvolvedSampling"):
        next(socket for socket in node["inputs"] if socket["name"] == "m_models")["link"] = None
    old["links"] = [link for link in old["links"] if link[5] != "M_MODELS"]
    workflow, lost = convert(old)
    assert [node["type"] for node in sampled_through(workflow)] == ["ADN_SlidingContext"]
    left = [line.partition(" (node")[0] for line in lost if "it has no counterpart" in line]
    assert left == ["ADE_LoadAnimateDiffModel", "ADE_ApplyAnimateDiffModelSimple"]


def test_windows_that_two_loaders_share_become_two_nodes():
    old = read("hires_second_pass")
    (loader,) = nodes_of(old, "ADE_AnimateDiffLoaderGen1")
    second = copy.deepcopy(loader) | {"id": 50, "pos": [-500, 900]}
    model, context = (next(link for link in old["links"] if link[5] == kind and link[3] == loader["id"])
                      for kind in ("MODEL", "CONTEXT_OPTIONS"))  # fmt: skip
    old["links"] += [[60, *model[1:3], 50, 0, "MODEL"], [61, *context[1:3], 50, 1, "CONTEXT_OPTIONS"]]
    second["inputs"][0]["link"], second["inputs"][1]["link"] = 60, 61
    second["outputs"][0]["links"] = [62]
    sampler = nodes_of(old, "KSampler")[1]
    old["links"] = [link for link in old["links"] if link[0] != sampler["inputs"][0]["link"]]
    old["links"].append([62, 50, 0, sampler["id"], 0, "MODEL"])
    sampler["inputs"][0]["link"] = 62
    old["nodes"].append(second)
    workflow, _ = convert(old)
    rows = [sampled_through(workflow, index) for index in (0, 1)]
    assert [[node["type"] for node in row] for row in rows] == [["ADN_ApplyAnimateDiff", "ADN_SlidingContext"]] * 2
    assert len({node["id"] for row in rows for node in row}) == 4
    assert [widgets(row[1]) for row in rows] == [widgets(rows[0][1])] * 2


def test_latents_that_were_combined_are_decoded_first():
    old = read("text_to_video_gen1")
    (combine,), (decode,) = nodes_of(old, "VHS_VideoCombine"), nodes_of(old, "VAEDecode")
    incoming = {link[4]: link for link in old["links"] if link[3] == decode["id"]}
    old["nodes"].remove(decode)
    old["links"] = [link for link in old["links"] if decode["id"] not in (link[1], link[3])]
    combine["inputs"] = [{"name": "images", "type": "LATENT", "link": 40}, {"name": "vae", "type": "VAE", "link": 41}]
    old["links"] += [
        [40, *incoming[0][1:3], combine["id"], 0, "LATENT"],
        [41, *incoming[1][1:3], combine["id"], 1, "VAE"],
    ]
    workflow, _ = convert(old)
    made = sources(workflow, nodes_of(workflow, "CreateVideo")[0])["images"]
    assert {name: node["type"] for name, node in sources(workflow, made).items()} == {
        "samples": "KSampler",
        "vae": "CheckpointLoaderSimple",
    }


@pytest.mark.parametrize("value", [None, "", "0", -1e9, 1e9, True, []])
@every_workflow
def test_values_that_slipped_into_the_wrong_widget_do_no_harm(path, value):
    """As the page saved them where a pack had got another widget in between."""
    old = read(path.stem)
    for node in old["nodes"]:
        if is_old(node["type"]):
            values = node.get("widgets_values") or []
            node["widgets_values"] = (
                dict.fromkeys(values, value) if isinstance(values, dict) else [value for _ in values]
            )
    for node in convert(old)[0]["nodes"]:
        if node["type"] in NODE_TYPES:
            for name, default in NODE_TYPES[node["type"]].widgets.items():
                assert isinstance(widgets(node)[name], (int, float) if isinstance(default, (int, float)) else str)


def test_links_keep_the_form_that_the_page_gave_them():
    workflow, _ = convert(read("ade_prompt_scheduling"))
    names = {"id", "origin_id", "origin_slot", "target_id", "target_slot", "type"}
    assert all(link.keys() == names for link in workflow["links"])
    assert workflow["state"]["lastNodeId"] == max(node["id"] for node in workflow["nodes"])
    assert workflow["state"]["lastLinkId"] == max(link["id"] for link in workflow["links"])


def test_before_the_first_keyframe_the_motion_module_works_in_full():
    old = read("views_multivals_keyframes")
    first, second = nodes_of(old, "ADE_AnimateDiffKeyframe")
    first["widgets_values"][0] = 0.3
    workflow, _ = convert(old)
    (curve,) = (node for node in nodes_of(workflow, "ADN_MotionCurve") if node["id"] == first["id"])
    assert widgets(curve)["keyframes"] == "0: 1 hold\n0.3: 1 hold\n0.7: 0.6 hold"
    assert second["id"] not in {node["id"] for node in workflow["nodes"]}


def test_links_that_lead_nowhere_are_dropped():
    old = read("text_to_video_gen1")
    old["links"] += [None, [90, 77, 0, 78, 0, "MODEL"]]
    assert convert(old)[0] == convert(read("text_to_video_gen1"))[0]


# The command


def test_the_command_writes_beside_and_says_what_was_lost(tmp_path):
    """In a Python without ComfyUI."""
    old, new = Path(__file__).parent / "corpus" / "looped_closed_loop.json", tmp_path / "new.json"
    before = old.read_bytes()
    command = [sys.executable, "-S", str(ROOT / "tools" / "convert_workflow.py"), str(old), str(new)]
    answer = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert answer.returncode == 0, answer.stderr
    assert "pingpong" in answer.stdout
    assert json.loads(new.read_text(encoding="utf-8")) == convert(json.loads(before))[0]
    assert old.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["new.json"]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_the_command_reads_pictures_that_hold_their_workflow(tmp_path, suffix):
    text = json.dumps(read("text_to_video_gen1"))
    picture, old, new = Image.new("RGB", (8, 8)), tmp_path / f"old{suffix}", tmp_path / "new.json"
    if suffix == ".png":
        info = PngInfo()
        info.add_text("workflow", text)
        picture.save(old, pnginfo=info)
    else:
        exif = picture.getexif()
        exif[0x010F] = f"workflow:{text}"
        picture.save(old, exif=exif)
    assert main([str(old), str(new)]) == 0
    assert json.loads(new.read_text(encoding="utf-8")) == convert(json.loads(text))[0]


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("{", "is no workflow: it is not JSON"),
        ("[]", "it has no nodes and links"),
        ('{"1": {"class_type": "KSampler", "inputs": {}}}', "API format"),
        (None, "cannot be read: No such file"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, capsys, content, sentence):
    old = tmp_path / "old.json"
    if content is not None:
        old.write_text(content, encoding="utf-8")
    assert main([str(old), str(tmp_path / "new.json")]) == 1
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said
    assert not (tmp_path / "new.json").exists()


def test_the_command_never_overwrites(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(read("text_to_video_gen1")), encoding="utf-8")
    new.write_text("mine", encoding="utf-8")
    assert main([str(old), str(old), "--force"]) == 1
    assert main([str(old), str(new)]) == 1
    assert new.read_text(encoding="utf-8") == "mine"
    assert main([str(old), str(new), "--force"]) == 0
    assert json.loads(new.read_text(encoding="utf-8"))["nodes"]
