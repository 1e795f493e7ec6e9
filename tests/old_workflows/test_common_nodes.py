"""Small graphs with nodes of common packs, each an example of what published workflows hold."""

from __future__ import annotations

from typing import Any

import pytest
from conversion_support import Drawing, links_of, nodes_of, sampled_through, sources, widgets

from animatediff_native.old_workflows.convert import convert


def with_sampling(type: str, values: list[Any], name: str, kind: str) -> Drawing:
    drawing = Drawing()
    settings = drawing.add("ADE_AnimateDiffSamplingSettings", [0, "default", "comfy", 0], "", "SAMPLE_SETTINGS")
    drawing.wire(drawing.add(type, values, "", kind), 0, settings, name)
    drawing.wire(settings, 0, drawing.node("ADE_AnimateDiffLoaderGen1"), "sample_settings")
    return drawing


def test_a_custom_cfg_goes_into_the_sampler():
    workflow, lost = with_sampling("ADE_CustomCFGSimple", [2.0], "custom_cfg", "CUSTOM_CFG").convert()
    assert nodes_of(workflow, "KSampler")[0]["widgets_values"][3] == 2.0
    assert lost == []


def test_a_sigma_schedule_replaces_the_loaders_noise_schedule():
    names = {"sigma_schedule": "SIGMA_SCHEDULE"}
    workflow, lost = with_sampling("ADE_SigmaSchedule", ["lcm"], *next(iter(names.items()))).convert()
    assert widgets(sampled_through(workflow)[0])["beta_schedule"] == "LCM"
    assert lost == []


def test_what_is_left_out_is_said_with_its_values():
    _, lost = with_sampling("ADE_NoiseLayerAdd", [3, "auto1111", 0.7], "noise_layers", "NOISE_LAYERS").convert()
    assert any("ADE_NoiseLayerAdd" in line and "with 3, auto1111, 0.7" in line for line in lost)


def test_adjusted_positions_are_said_with_their_values():
    drawing = Drawing()
    settings = drawing.add("ADE_AnimateDiffSettings", [], "pe_adjust", "AD_SETTINGS")
    drawing.wire(drawing.add("ADE_AdjustPEFullStretch", [24, False], "", "PE_ADJUST"), 0, settings, "pe_adjust")
    drawing.wire(settings, 0, drawing.node("ADE_AnimateDiffLoaderGen1"), "ad_settings")
    _, lost = drawing.convert()
    assert any("ad_settings" in line and "ADE_AdjustPEFullStretch" in line and "with 24" in line for line in lost)


def test_weights_of_a_controlnet_are_said_once_with_their_values():
    drawing = Drawing("video_to_video_controlnet")
    weights = drawing.add("ScaledSoftControlNetWeights", [0.825, False], "", "CONTROL_NET_WEIGHTS")
    drawing.wire(weights, 0, drawing.node("ACN_AdvancedControlNetApply"), "weights_override")
    (line,) = [line for line in drawing.convert()[1] if "weights_override" in line]
    assert "ScaledSoftControlNetWeights" in line
    assert "with 0.825" in line


@pytest.mark.parametrize("schedule", ["lcm avg(sqrt_linear,linear)", "lcm >> sqrt_linear", "lcm[100_ots]", "lcm"])
def test_plain_lcm_is_offered_for_the_schedules_that_only_a_hidden_node_has(schedule):
    drawing = Drawing()
    drawing.node("ADE_AnimateDiffLoaderGen1")["widgets_values"][1] = schedule
    workflow, lost = drawing.convert()
    exact = [widgets(node)["beta_schedule"] for node in nodes_of(workflow, "ADN_OldUseEvolvedSampling")]
    assert exact == ([] if schedule == "lcm" else [schedule])
    assert any('"LCM" of Apply AnimateDiff' in line for line in lost) is (schedule != "lcm")


@pytest.mark.parametrize("strategy", ["match A", "match larger"])
def test_a_merge_that_comfyui_does_otherwise_is_said(strategy):
    drawing = Drawing()
    merge = drawing.add("VHS_MergeImages", [strategy, "bicubic", "disabled"], "images_A images_B", "IMAGE")
    for name in ("images_A", "images_B"):
        drawing.wire(drawing.node("VAEDecode"), 0, merge, name)
    drawing.wire(merge, 0, drawing.node("VHS_VideoCombine"), "images")
    workflow, lost = drawing.convert()
    assert {*sources(workflow, nodes_of(workflow, "ImageBatch")[0])} == {"image1", "image2"}
    assert any("merge_strategy" in line for line in lost) is (strategy != "match A")


def test_an_input_that_names_no_link_is_not_connected():
    drawing = Drawing()
    sampler, encode = drawing.node("KSampler"), drawing.node("CLIPTextEncode")
    index, socket = next(entry for entry in enumerate(sampler["inputs"]) if entry[1]["name"] == "positive")
    socket["link"] = None
    drawing.workflow["links"].append([900, encode["id"], 0, sampler["id"], index, "CONDITIONING"])
    workflow, _ = drawing.convert()
    assert "positive" not in sources(workflow, nodes_of(workflow, "KSampler")[0])


def test_images_are_never_decoded():
    drawing = Drawing()
    drawing.wire(drawing.node("CheckpointLoaderSimple"), 2, drawing.node("VHS_VideoCombine"), "vae")
    assert len(nodes_of(drawing.convert()[0], "VAEDecode")) == 1


def test_each_node_of_a_long_chain_is_visited_once():
    """Both conditionings of each Apply come from the one before, so the ways double with every node."""
    drawing = Drawing("prompt_travel_fizznodes_2023")
    sampler, nodes = drawing.node("KSampler"), {node["id"]: node for node in drawing.workflow["nodes"]}
    links = {link[0]: link for link in drawing.workflow["links"]}
    ends = {socket["name"]: links[socket["link"]] for socket in sampler["inputs"]}
    before = {name: (nodes[ends[name][1]], ends[name][2]) for name in ("positive", "negative")}
    for _ in range(40):
        control = drawing.add(
            "ControlNetApplyAdvanced", [1.0, 0.0, 1.0], "positive negative", "CONDITIONING CONDITIONING"
        )
        for index, (name, (source, output)) in enumerate(list(before.items())):
            drawing.wire(source, output, control, name)
            before[name] = (control, index)
    for name, (source, output) in before.items():
        drawing.wire(source, output, sampler, name)
    (schedule,) = nodes_of(drawing.convert()[0], "ADN_PromptSchedule")
    assert next(socket["link"] for socket in schedule["inputs"] if socket["name"] == "latent") is not None


@pytest.mark.parametrize("frames, windows", [(16, False), (24, True)])
def test_the_first_packs_sampler_becomes_apply_animatediff_and_ksampler(frames, windows):
    drawing = Drawing()
    sampler = drawing.node("KSampler")
    seed, control, *rest = sampler["widgets_values"]
    sampler |= {"type": "AnimateDiffSampler", "widgets_values": ["default", frames, seed, control, *rest]}
    loader = drawing.add("AnimateDiffModuleLoader", ["mm_sd_v15_v2.ckpt"], "lora_stack", "MOTION_MODULE")
    lora = drawing.add("AnimateDiffLoraLoader", ["v2_lora_ZoomIn.ckpt", 0.6], "lora_stack", "MOTION_LORA_STACK")
    drawing.wire(lora, 0, loader, "lora_stack")
    drawing.wire(loader, 0, sampler, "motion_module")
    drawing.wire(drawing.node("CheckpointLoaderSimple"), 0, sampler, "model")
    workflow, _ = drawing.convert()
    row = sampled_through(workflow)
    assert [node["type"] for node in row] == ["ADN_ApplyAnimateDiff"] + ["ADN_SlidingContext"] * windows
    assert widgets(nodes_of(workflow, "KSampler")[0])["steps"] == rest[0]
    lora = sources(workflow, row[0])["motion_module"]
    assert widgets(lora) == {"motion_lora": "v2_lora_ZoomIn.ckpt", "strength": 0.6}
    assert widgets(sources(workflow, lora)["motion_module"])["motion_module"] == "mm_sd_v15_v2.ckpt"


def test_split_clips_and_audio_have_counterparts():
    drawing = Drawing()
    combine = drawing.node("VHS_VideoCombine")
    split = drawing.add("VHS_SplitImages", [8], "images", "IMAGE INT IMAGE INT")
    drawing.wire(drawing.node("VAEDecode"), 0, split, "images")
    drawing.wire(split, 2, combine, "images")
    audio, reroute = (
        drawing.add("VHS_LoadAudioUpload", ["a.mp3", 1.5, 0], "", "AUDIO"),
        drawing.add("Reroute", None, "*", "*"),
    )
    drawing.wire(audio, 0, reroute, "*")
    drawing.wire(reroute, 0, combine, "audio")
    workflow, lost = drawing.convert()
    (video,) = nodes_of(workflow, "CreateVideo")
    assert widgets(sources(workflow, video)["images"]) == {"batch_index": 8, "length": 4096}
    trim = sources(workflow, sources(workflow, video)["audio"])["*"]
    assert widgets(trim)["start_index"] == 1.5
    assert sources(workflow, trim)["audio"]["type"] == "LoadAudio"
    assert lost == []


@pytest.mark.parametrize("kinds", ["VHS_VideoInfo", "VHS_VideoInfoSource VHS_VideoInfoLoaded"])
def test_speed_and_size_of_a_video_come_from_comfyuis_nodes(kinds):
    """Of the file, and of what the loader has cut and scaled."""
    drawing = Drawing("video_to_video_controlnet")
    names = ("fps", "frames", "duration", "width", "height")
    video = drawing.node("VHS_LoadVideo")
    video["outputs"] += [{"name": "video_info", "type": "VHS_VIDEOINFO", "links": []}] * (4 - len(video["outputs"]))
    reader = drawing.add("Reader", [], " ".join((*names, *(f"loaded_{name}" for name in names))))
    ends = []
    for kind in kinds.split():
        info = drawing.add(kind, {}, "video_info", " ".join(("FLOAT INT FLOAT INT INT",) * (3 - len(kinds.split()))))
        drawing.wire(video, 3, info, "video_info")
        ends += [(info, output) for output in range(len(info["outputs"]))]
    for (info, output), socket in zip(ends, list(reader["inputs"]), strict=True):
        drawing.wire(info, output, reader, socket["name"])
    workflow, lost = drawing.convert()
    given = sources(workflow, nodes_of(workflow, "Reader")[0])
    sizes = [
        {name: node["type"] for name, node in sources(workflow, given[name]).items()}
        for name in given
        if "width" in name
    ]
    assert given["fps"]["type"] == given["loaded_fps"]["type"] == "GetVideoComponents"
    assert sizes == [{"image": "GetVideoComponents"}, {"image": "ImageScale"}]
    speeds = {link[2] for link in links_of(workflow).values() if link[1] == given["fps"]["id"] and link[5] == "FLOAT"}
    assert speeds == {2}, "its third output"
    assert given["frames"] == given["height"] == given["width"]
    assert "duration" not in given
    assert any("output FLOAT has no counterpart" in line for line in lost)


@pytest.mark.parametrize("mode, edits", [(0, True), (0, False), (4, True)])
def test_what_a_basic_pipe_brings_is_wired_directly(mode, edits):
    """Unless its end is switched off, and so brought nothing."""
    drawing, parts = Drawing(), "model clip vae positive negative"
    put = drawing.add("ToBasicPipe", None, parts, "BASIC_PIPE")
    edited = drawing.add("EditBasicPipe", None, f"basic_pipe {parts}", "BASIC_PIPE")
    first = drawing.add("FromBasicPipe_v2", None, "basic_pipe", "BASIC_PIPE MODEL CLIP VAE CONDITIONING CONDITIONING")
    last = drawing.add("FromBasicPipe", None, "basic_pipe", "MODEL CLIP VAE CONDITIONING CONDITIONING")
    last["mode"], edited["mode"] = mode, 0 if edits else 4
    text, other = drawing.node("CLIPTextEncode"), drawing.add("CLIPTextEncode", ["b"], "clip", "CONDITIONING")
    for source, target, name in ((text, put, "positive"), (put, first, "basic_pipe"), (first, edited, "basic_pipe"),
                                 (other, edited, "positive"), (edited, last, "basic_pipe")):  # fmt: skip
        drawing.wire(source, 0, target, name)
    sampler = drawing.node("KSampler")
    drawing.wire(first, 4, sampler, "negative")
    drawing.wire(last, 3, sampler, "positive")
    workflow, _ = drawing.convert()
    ends = sources(workflow, nodes_of(workflow, "KSampler")[0])
    assert ends["negative"]["id"] == text["id"]
    assert ends["positive"]["id"] == (last if mode else other if edits else text)["id"]
    assert len(nodes_of(workflow, "ToBasicPipe", "EditBasicPipe", "FromBasicPipe_v2")) == (0 if mode == 0 else 2)


@pytest.mark.parametrize(
    "type, values, new, expected",
    [
        ("Image scale to side", [640, "Longest", "area", "disabled"], "ImageScaleToMaxDimension", ["area", 640]),
        ("Image scale to side", [640, "Height", "area", "center"], "ImageScale", ["area", 0, 640, "center"]),
        ("SimpleMath+", ["a*2"], "ComfyMathExpression", ["a*2"]),
        ("Primitive float [Crystools]", [0.5], "PrimitiveFloat", [0.5]),
        ("Upscale Model Loader", ["4x.pth"], "UpscaleModelLoader", ["4x.pth"]),
    ],
)
def test_a_node_with_one_counterpart_keeps_its_values(type, values, new, expected):
    drawing = Drawing()
    drawing.wire(drawing.add(type, values, "image", "X"), 0, drawing.node("KSampler"), "seed")
    (node,) = nodes_of(drawing.convert()[0], new)
    assert node["widgets_values"] == expected


@pytest.mark.parametrize(
    "type, values, row",
    [
        ("DWPreprocessor", ["disable", "enable", "enable", 512], ["SDPoseDrawKeypoints", "SDPoseKeypointExtractor"]),
        ("MiDaS-DepthMapPreprocessor", [6.28, 0.1, 512], ["DA3Render", "DA3Inference"]),
        ("AIO_Preprocessor", ["DepthAnythingV2Preprocessor", 512], ["DA3Render", "DA3Inference"]),
        ("AIO_Preprocessor", ["LineArtPreprocessor", 512], ["AIO_Preprocessor"]),
    ],
)
def test_poses_and_depth_come_from_comfyuis_models(type, values, row):
    drawing = Drawing("video_to_video_controlnet")
    control = drawing.node("ACN_AdvancedControlNetApply")
    picture = drawing.add(type, values, "image", "IMAGE")
    drawing.wire(drawing.node("VHS_LoadVideo"), 0, picture, "image")
    drawing.wire(picture, 0, control, "image")
    workflow, _ = drawing.convert()
    node = sources(workflow, nodes_of(workflow, "ControlNetApplyAdvanced")[0])["image"]
    for kind in row:
        assert node["type"] == kind
        if kind == "SDPoseDrawKeypoints":
            drawn = {name: widgets(node)[name] for name in ("draw_body", "draw_hands", "draw_face")}
            assert drawn == {"draw_body": True, "draw_hands": False, "draw_face": True}
        ends = sources(workflow, node)
        node = next(ends[name] for name in ("keypoints", "da3_geometry", "image") if name in ends)
    assert node["type"] in ("ImageScale", "GetVideoComponents", "ImageFromBatch")


def test_latents_are_counted_where_their_number_is_known():
    drawing = Drawing()
    counter = drawing.add("VHS_GetLatentCount", {}, "latents", "INT")
    drawing.wire(drawing.node("EmptyLatentImage"), 0, counter, "latents")
    drawing.wire(counter, 0, drawing.node("KSampler"), "seed")
    (number,) = nodes_of(drawing.convert()[0], "PrimitiveInt")
    assert widgets(number)["value"] == drawing.node("EmptyLatentImage")["widgets_values"][2]


def test_a_stack_of_loras_becomes_a_chain():
    drawing = Drawing()
    stack = drawing.add(
        "CR LoRA Stack", ["On", "a", 0.5, 0.4, "Off", "b", 1, 1, "On", "c", 0.3, 0.2], "lora_stack", "LORA_STACK"
    )
    apply = drawing.add("CR Apply LoRA Stack", [], "model clip lora_stack", "MODEL CLIP")
    for output, name in enumerate(("model", "clip")):
        drawing.wire(drawing.node("CheckpointLoaderSimple"), output, apply, name)
    drawing.wire(stack, 0, apply, "lora_stack")
    drawing.wire(apply, 0, drawing.node("ADE_AnimateDiffLoaderGen1"), "model")
    first, second, _ = sampled_through(drawing.convert()[0])
    assert list(widgets(first).values()) == ["a", 0.5, 0.4]
    assert list(widgets(second).values()) == ["c", 0.3, 0.2]


@pytest.mark.parametrize("name", ["SetNode", "ue"])
def test_wires_without_lines_become_links(name):
    drawing = Drawing()
    checkpoint, loader = drawing.node("CheckpointLoaderSimple"), drawing.node("ADE_AnimateDiffLoaderGen1")
    socket = next(entry for entry in loader["inputs"] if entry["name"] == "model")
    if name == "ue":
        socket["link"] = None
        wire = {"upstream": str(checkpoint["id"]), "upstream_slot": 0, "downstream": loader["id"]}
        drawing.workflow["extra"] = {"ue_links": [wire | {"downstream_slot": loader["inputs"].index(socket)}]}
    else:
        drawing.wire(checkpoint, 0, drawing.add("SetNode", ["base"], "model", "*"), "model")
        drawing.wire(drawing.add("GetNode", ["base"], "", "MODEL"), 0, loader, "model")
    workflow, _ = drawing.convert()
    assert sources(workflow, sampled_through(workflow)[0])["model"]["id"] == checkpoint["id"]
    assert not nodes_of(workflow, "SetNode", "GetNode")


@pytest.mark.parametrize(
    "type, values, new, expected",
    [
        ("Int Literal", [7], "PrimitiveInt", 7),
        ("CR Seed", [7, "increment"], "PrimitiveInt", 7),
        ("Cfg Literal", [1.5], "PrimitiveFloat", 1.5),
        ("ttN text", ["a boat"], "PrimitiveStringMultiline", "a boat"),
    ],
)
def test_numbers_and_texts_become_primitives(type, values, new, expected):
    drawing = Drawing()
    drawing.wire(drawing.add(type, values, "", "X"), 0, drawing.node("KSampler"), "seed")
    (node,) = nodes_of(drawing.convert()[0], new)
    assert widgets(node)["value"] == expected


@pytest.mark.parametrize(
    "values, prefix", [(["Enabled", "image/webp", False], "Enabled"), ([True, "a/b", False], "a/b")]
)
def test_layouts_are_told_apart_by_what_values_can_be(values, prefix):
    drawing = Drawing("legacy_loader_2023")
    drawing.node("ADE_AnimateDiffCombine")["widgets_values"] = [8, 0, *values]
    (saver,) = nodes_of(drawing.convert()[0], "SaveAnimatedWEBP")
    assert widgets(saver)["filename_prefix"] == prefix


def test_what_is_avoided_before_and_behind_the_prompts_is_split_as_fizznodes_did():
    drawing = Drawing("prompt_travel_fizznodes")
    schedule = drawing.node("BatchPromptSchedule")
    schedule["inputs"] = [socket for socket in schedule["inputs"] if socket["name"] not in ("pre_text", "app_text")]
    schedule["widgets_values"] = ['"0": "a, --neg b"', 16, False, "c --neg d", "e --neg f", 0, 0, 0, 0, 0, 0]
    workflow, _ = drawing.convert()
    ends = sources(workflow, nodes_of(workflow, "KSampler")[0])
    assert [widgets(ends[name])["prompts"] for name in ("positive", "negative")] == ['"0": "c a, e"', '"0": "d b f"']


@pytest.mark.parametrize(
    "type, split",
    [("Text Multiline", True), ("PrimitiveNode", True), ("PrimitiveStringMultiline", True), ("Dice", False)],
)
def test_a_connected_text_is_split_where_it_is_constant(type, split):
    drawing = Drawing("prompt_travel_fizznodes")
    schedule = drawing.node("BatchPromptSchedule")
    schedule["inputs"] = [socket for socket in schedule["inputs"] if socket["name"] not in ("pre_text", "app_text")]
    schedule["widgets_values"] = ['"0": "a"', 16, False, "", "", 0, 0, 0, 0, 0, 0]
    drawing.wire(drawing.add(type, ["c --neg d"], "", "STRING"), 0, schedule, "pre_text")
    workflow, lost = drawing.convert()
    ends = sources(workflow, nodes_of(workflow, "KSampler")[0])
    prompts = [widgets(ends[name])["prompts"] for name in ("positive", "negative")]
    assert prompts == (['"0": "c a"', '"0": "d"'] if split else ['"0": "a"', '"0": ""'])
    assert ("prefix" in sources(workflow, ends["positive"])) is not split
    assert any("behind --neg is not split off" in line for line in lost) is not split


def test_a_prompt_for_the_api_stays_one():
    prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "2": {"class_type": "ADE_AnimateDiffLoaderGen1",
              "inputs": {"model": ["1", 0], "model_name": "mm.ckpt", "beta_schedule": "lcm"}},
        "3": {"class_type": "KSampler", "inputs": {"model": ["2", 0], "cfg": 2.0}, "_meta": {"title": "Sample"}},
        "4": {"class_type": "VHS_VideoCombine",
              "inputs": {"images": ["3", 0], "frame_rate": 8, "filename_prefix": "a", "format": "video/h264-mp4",
                         "crf": 30}},
    }  # fmt: skip
    converted, lost = convert(prompt)
    assert lost == []
    assert converted["1"] == prompt["1"]
    apply = converted[converted["3"]["inputs"]["model"][0]]
    assert (apply["class_type"], apply["inputs"]["beta_schedule"]) == ("ADN_ApplyAnimateDiff", "LCM")
    assert apply["inputs"]["model"] == ["1", 0]
    saved = converted["4"]["inputs"]
    assert (saved["codec"], saved["codec.encoding.crf"], saved["filename_prefix"]) == ("h264", 30.0, "a")
