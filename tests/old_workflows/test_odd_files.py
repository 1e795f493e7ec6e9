"""Workflows that other versions, other packs and scripts have written, and parts that are switched off."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from conversion_support import nodes_of, read, sampled_through, sources, widgets

from animatediff_native.old_workflows.convert import convert
from animatediff_native.old_workflows.motion_strength import ENTRY
from animatediff_native.old_workflows.prompt_ranges import RANGE
from animatediff_native.old_workflows.prompts import RELATIVE
from animatediff_native.sampling.prompt_schedule import blends, parse

MUTED, BYPASSED = 2, 4


def with_node(name: str, type: str, **changes: Any) -> dict[str, Any]:
    """A workflow of the corpus in which the first node of a type is changed."""
    workflow = read(name)
    nodes_of(workflow, type)[0].update(changes)
    return workflow


@pytest.mark.parametrize("key", ["pos", "size", "mode", "title", "inputs", "outputs", "properties", "widgets_values"])
@pytest.mark.parametrize("value", ["missing", None])
@pytest.mark.parametrize("name", ["legacy_loader_2023", "long_clip_free_noise", "image_folder_to_video"])
def test_what_a_script_did_not_write_is_what_the_page_adds(name, key, value):
    old = read(name)
    for node in old["nodes"]:
        node.pop(key, None)
        if value is None:
            node[key] = None
    assert convert(old)[0]["nodes"]


def test_a_link_goes_into_the_input_that_names_it():
    """Its number is that of another one, once a pack has put an input in front."""
    old = read("long_clip_free_noise")
    nodes_of(old, "ADE_UseEvolvedSampling")[0]["inputs"].insert(0, {"name": "new", "type": "NEW", "link": None})
    types = [node["type"] for node in sampled_through(convert(old)[0])]
    assert types == ["ADN_ApplyAnimateDiff", "ADN_SlidingContext"]


@pytest.mark.parametrize(
    "values, saved",
    [
        ([12, 0, "Enabled", "Clip"], ("Clip", False)),
        ([12, 0, False, "Clip", True], ("Clip", True)),
        ([12, 0, True, "Clip", "image/webp", True, "/view?filename=Clip.webp"], ("Clip", True)),
        ([12, 0, "Clip", "image/webp", True, True], ("Clip", True)),
    ],
)
def test_each_version_of_animatediff_combine_is_read(values, saved):
    old = with_node("legacy_loader_2023", "ADE_AnimateDiffCombine", widgets_values=values)
    workflow, lost = convert(old)
    (saver,) = nodes_of(workflow, "SaveAnimatedWEBP")
    assert (widgets(saver)["filename_prefix"], any("pingpong" in line for line in lost)) == saved
    assert widgets(saver)["fps"] == 12


def test_a_clip_may_have_the_name_of_an_old_switch():
    values = [12, 0, "Enabled", "video/h264-mp4", False, True, "/view?filename=Enabled_00001_.mp4"]
    workflow, _ = convert(with_node("legacy_loader_2023", "ADE_AnimateDiffCombine", widgets_values=values))
    assert widgets(nodes_of(workflow, "SaveVideo")[0])["filename_prefix"] == "Enabled"


@pytest.mark.parametrize(
    "rest",
    [
        ["", "4k", 0.5, 2.0, 3.0, 4.0],
        [False, "", "4k", 7, 0.5, 2.0, 3.0, 4.0],
        [False, "", "4k", 7, 0, 0.5, 2.0, 3.0, 4.0],
        [False, 7],
        [False, 7, 0],
    ],
)
def test_each_version_of_batch_prompt_schedule_is_read(rest):
    """Those with sockets for the weights have no widgets for them."""
    values = ['"0": "(rain:`pw_a`)"', 18, *rest]
    workflow, lost = convert(with_node("prompt_travel_fizznodes", "BatchPromptSchedule", widgets_values=values))
    schedule = widgets(nodes_of(workflow, "ADN_PromptSchedule")[0])
    prompt = "(rain:0.5)" if 0.5 in rest else "(rain:0)"
    assert schedule["prompts"] == f'"0": "{prompt} 4k"' if "4k" in rest else f'"0": "{prompt}"'
    assert schedule["suffix"] == ""
    assert [line.partition(": ")[2] for line in lost if "frame " in line] == ["start_frame 7 is left out."] * (
        7 in rest
    )


def test_a_video_loader_without_a_size_of_its_own_is_read():
    old = with_node(
        "video_to_video_controlnet", "VHS_LoadVideo", widgets_values=["star.mp4", 0, "512x?", 24, 3, 1, "image"]
    )
    workflow, _ = convert(old)
    assert [widgets(node) for node in nodes_of(workflow, "ImageFromBatch")] == [{"batch_index": 3, "length": 24}]
    assert widgets(nodes_of(workflow, "ImageScale")[0])["width"] == 512


def test_a_primitive_may_ask_for_all_frames_of_a_video():
    """ComfyUI's node for a part of them takes no 0."""
    old = read("video_to_video_controlnet")
    (loader,) = nodes_of(old, "VHS_LoadVideo")
    loader["widgets_values"] |= {"frame_load_cap": 0, "skip_first_frames": 0}
    outputs = [{"name": "INT", "type": "INT", "links": [71], "widget": {"name": "frame_load_cap"}}]
    old["nodes"].append({"id": 70, "type": "PrimitiveNode", "widgets_values": [0, "fixed"], "outputs": outputs})
    inputs = loader.setdefault("inputs", [])
    old["links"].append([71, 70, 0, loader["id"], len(inputs), "INT"])
    inputs.append({"name": "frame_load_cap", "type": "INT", "link": 71, "widget": {"name": "frame_load_cap"}})
    assert not nodes_of(convert(old)[0], "ImageFromBatch", "PrimitiveNode")


def test_a_range_of_prompts_ends_before_the_next_begins():
    """Also where parts of the clip are written, which may be frames that have a prompt."""
    values = ['"0:0.5": "seed", "0.5:1.0": "tree", "1.0": "wood"', False, 16, "lerp"]
    workflow, _ = convert(with_node("ade_prompt_scheduling", "ADE_PromptScheduling", widgets_values=values))
    text = next(widgets(node)["prompts"] for node in nodes_of(workflow, "ADN_PromptSchedule") if "wood" in str(node))
    shown = [blend.first for blend in blends(parse(text), 17)]
    assert shown == ["seed"] * 8 + ["tree"] * 8 + ["wood"]


@pytest.mark.parametrize("range", ["0:-", "0:.", "0:1.2.3", "0:--4", "0:0", ":"])
def test_what_is_no_range_of_frames_stays_as_it_is(range):
    """Prompt Schedule says which line it is."""
    values = [f'"{range}": "wood"', False, 16, "lerp"]
    workflow, _ = convert(with_node("ade_prompt_scheduling", "ADE_PromptScheduling", widgets_values=values))
    assert values[0] in [widgets(node)["prompts"] for node in nodes_of(workflow, "ADN_PromptSchedule")]


def test_the_noise_schedule_of_2023_is_found_under_its_name():
    values = ["mm_sd_v14.ckpt", "linear (default)"]
    workflow, lost = convert(with_node("legacy_loader_2023", "ADE_AnimateDiffLoaderWithContext", widgets_values=values))
    assert widgets(sampled_through(workflow)[0])["beta_schedule"] == "Stable Diffusion"
    assert not [line for line in lost if "beta_schedule" in line]


def test_numbers_that_were_made_a_list_stay_connected():
    """Motion Curve takes both."""
    old = read("motion_lora_chain")
    loader = nodes_of(old, "ADE_AnimateDiffLoaderGen1")[0]
    for id, type, name, link, kind in (
        (70, "Audio Analysis", None, 81, "FLOAT"),
        (71, "ADE_FloatToFloats", "FLOAT", 82, "FLOATS"),
        (72, "ADE_MultivalDynamicFloats", "floats", 83, "MULTIVAL"),
    ):
        inputs = [{"name": name, "type": "*", "link": link - 1}] if name else []
        outputs = [{"name": kind, "type": kind, "links": [link]}]
        old["nodes"].append({"id": id, "type": type, "inputs": inputs, "outputs": outputs})
    loader["inputs"].append({"name": "effect_multival", "type": "MULTIVAL", "link": 83})
    last = len(loader["inputs"]) - 1
    old["links"] += [[81, 70, 0, 71, 0, "FLOAT"], [82, 71, 0, 72, 0, "FLOATS"], [83, 72, 0, loader["id"], last, "*"]]
    workflow, lost = convert(old)
    (curve,) = nodes_of(workflow, "ADN_MotionCurve")
    assert sources(workflow, curve)["source"]["type"] == "Audio Analysis"
    assert not [line for line in lost if line.startswith("ADE_")]


def test_another_packs_node_that_comfyui_now_has_a_namesake_of_is_named():
    outputs = [{"name": "frames", "type": "IMAGE", "links": []}, {"name": "frame_count", "type": "INT", "links": []}]
    old = read("text_to_video_gen1")
    old["nodes"].append(
        {"id": 70, "type": "LoadVideo", "widgets_values": ["a.gif", "image", 0, 16], "outputs": outputs}
    )
    assert [line for line in convert(old)[1] if line.startswith("LoadVideo (node 70): it is another pack's")]


@pytest.mark.parametrize("type, kept", [("INT", False), ("FLOAT", True)])
def test_comfyuis_frame_rate_takes_no_whole_numbers(type, kept):
    old = read("text_to_video_gen1")
    (combine,) = nodes_of(old, "VHS_VideoCombine")
    old["nodes"].append({"id": 70, "type": "Number", "outputs": [{"name": type, "type": type, "links": [71]}]})
    old["links"].append([71, 70, 0, combine["id"], len(combine["inputs"]), type])
    combine["inputs"].append({"name": "frame_rate", "type": type, "link": 71, "widget": {"name": "frame_rate"}})
    workflow, lost = convert(old)
    assert ("fps" in sources(workflow, nodes_of(workflow, "CreateVideo")[0])) is kept
    assert any("whole numbers" in line for line in lost) is not kept


def test_group_nodes_that_hold_old_nodes_are_named():
    old = read("text_to_video_gen1")
    groups = {"Load": [{"type": "VAELoader"}], "Save it": [{"type": "VAEDecode"}, {"type": "VHS_VideoCombine"}]}
    old["extra"] = {"groupNodes": {name: {"nodes": nodes, "links": []} for name, nodes in groups.items()}}
    assert [line.partition(":")[0] for line in convert(old)[1]] == ["Group node Save it"]


@pytest.mark.parametrize(
    "name, old_type, new_type",
    [
        ("motion_lora_chain", "ADE_AnimateDiffLoRALoader", "ADN_LoadMotionLora"),
        ("looped_closed_loop", "ADE_LoopedUniformContextOptions", "ADN_SlidingContext"),
        ("multi_model_gen2", "ADE_ApplyAnimateDiffModel", "ADN_ApplyAnimateDiff"),
        ("free_init", "ADE_IterationOptsFreeInit", "ADN_FreeInit"),
    ],
)
def test_what_was_muted_beside_the_model_lets_it_pass(name, old_type, new_type):
    """A muted node in the model's way would stop the sampler."""
    workflow, _ = convert(with_node(name, old_type, mode=MUTED))
    modes = [node["mode"] for node in nodes_of(workflow, new_type)]
    assert modes.count(BYPASSED) == 1
    assert MUTED not in modes


def test_what_is_muted_altogether_stays_so():
    old = read("motion_lora_chain")
    for node in nodes_of(old, "ADE_AnimateDiffLoaderGen1", "ADE_AnimateDiffLoRALoader"):
        node["mode"] = MUTED
    new = [node for node in convert(old)[0]["nodes"] if node["type"].startswith("ADN_")]
    assert {node["mode"] for node in new} == {MUTED}


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
def test_sample_settings_that_are_switched_off_stay_so(mode):
    workflow, lost = convert(with_node("long_clip_free_noise", "ADE_AnimateDiffSamplingSettings", mode=mode))
    assert widgets(nodes_of(workflow, "ADN_SlidingContext")[0])["free_noise"] is False
    assert any("it is switched off" in line for line in lost)
    workflow, _ = convert(with_node("free_init", "ADE_AnimateDiffSamplingSettings", mode=mode))
    assert {node["mode"] for node in nodes_of(workflow, "ADN_ClipNoise", "ADN_FreeInit")} == {BYPASSED}


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
def test_multivals_and_keyframes_that_are_switched_off_stay_so(mode):
    old = read("views_multivals_keyframes")
    off = ("ADE_MultivalDynamic", "ADE_MultivalScaledMask", "ADE_AnimateDiffKeyframe")
    for node in nodes_of(old, *off):
        node["mode"] = mode
    workflow, lost = convert(old)
    (apply,) = nodes_of(workflow, "ADN_ApplyAnimateDiff")
    assert widgets(apply)["motion_scale"] == 1.0
    assert "motion_strength" not in sources(workflow, apply)
    assert {line.split(" (")[0] for line in lost} == set(off)


def test_the_newest_motion_module_that_works_sets_the_noise():
    old = read("multi_model_gen2")
    second, first = (copy.copy(widgets(node)) for node in sampled_through(convert(old)[0])[:2])
    assert (second["beta_schedule"], first["beta_schedule"]) == ("automatic", "keep the model's own")
    newest = next(node for node in nodes_of(old, "ADE_ApplyAnimateDiffModel") if node["widgets_values"][0] == 0.4)
    newest["mode"] = BYPASSED
    row = sampled_through(convert(old)[0])[:2]
    assert [widgets(node)["beta_schedule"] for node in row] == ["keep the model's own", "automatic"]


@pytest.mark.parametrize("search", [RANGE.search, RELATIVE.search, ENTRY.fullmatch], ids=["range", "relative", "entry"])
@pytest.mark.parametrize("run", [" ", "\n", "\t", "1", "-", ".", ":", '"', '" ', "0:", " 1"])
def test_long_runs_of_a_character_do_not_hang_a_pattern(search, run):
    """If a run were read again from each of its characters, this would take hours."""
    assert search(run * (200_000 // len(run)) + "x") is None


def test_an_overlap_as_long_as_its_window_leaves_one_frame_to_move_on():
    old = read("long_clip_free_noise")
    (node,) = (node for node in old["nodes"] if node["type"].endswith("ContextOptions"))
    node["widgets_values"][:2] = [8, 12]
    (windows,) = nodes_of(convert(old)[0], "ADN_SlidingContext")
    assert (widgets(windows)["context_length"], widgets(windows)["context_overlap"]) == (8, 7)
