"""What becomes of each kind of old node."""

from __future__ import annotations

import copy

import pytest
from conversion_support import nodes_of, read, sampled_through, sources, widgets

from animatediff_native.old_workflows.convert import convert


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
        "reference": 0,
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
    curve = sources(workflow, keyframes)["strength"]
    assert widgets(curve)["keyframes"] == "0 hold: 1\n0.7 hold: 0.6"
    assert widgets(curve)["over"] == "sampling"
    mask = sources(workflow, sources(workflow, keyframes)["previous"])["strength"]
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
    assert '"summer, green leaves 4k"' in wanted["prompts"]
    assert "--neg" not in wanted["prompts"] + avoided["prompts"]
    assert '"24": "snow, rain"' in avoided["prompts"]
    assert ' 4k"' in wanted["prompts"]
    assert "4k" not in avoided["prompts"]
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
        "noise_layers, from ADE_NoiseLayerAdd (node 5)",
        'noise_type "empty"',
    ):
        assert any(words in line for line in lost)
    assert not nodes_of(workflow, "ADE_CameraPoseBasic", "ADE_NoiseLayerAdd")


def test_windows_without_a_motion_module_stay_on_the_model():
    old = read("long_clip_free_noise")
    for node in nodes_of(old, "ADE_UseEvolvedSampling"):
        next(socket for socket in node["inputs"] if socket["name"] == "m_models")["link"] = None
    old["links"] = [link for link in old["links"] if link[5] != "M_MODELS"]
    workflow, lost = convert(old)
    assert [node["type"] for node in sampled_through(workflow)] == ["ADN_SlidingContext"]
    assert not nodes_of(workflow, "ADE_LoadAnimateDiffModel", "ADE_ApplyAnimateDiffModelSimple"), "they lead nowhere"
    assert not [line for line in lost if "it has no counterpart" in line]


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


def test_before_the_first_keyframe_the_motion_module_works_in_full():
    old = read("views_multivals_keyframes")
    first, second = nodes_of(old, "ADE_AnimateDiffKeyframe")
    first["widgets_values"][0] = 0.3
    workflow, _ = convert(old)
    (curve,) = (node for node in nodes_of(workflow, "ADN_MotionCurve") if node["id"] == first["id"])
    assert widgets(curve)["keyframes"] == "0 hold: 1\n0.3 hold: 1\n0.7 hold: 0.6"
    assert second["id"] not in {node["id"] for node in workflow["nodes"]}


def test_a_noise_schedule_that_only_a_stand_in_has_is_set_in_front_of_the_motion_module():
    """As the old node did: Apply AnimateDiff behind it keeps the model's own."""
    workflow, lost = convert(read("looped_closed_loop"))
    stand_in, apply, _ = sampled_through(workflow)
    assert stand_in["type"] == "ADN_OldUseEvolvedSampling"
    assert widgets(stand_in) == {"beta_schedule": "avg(sqrt_linear,linear)"}
    assert widgets(apply)["beta_schedule"] == "keep the model's own"
    assert "sample_settings" not in sources(workflow, stand_in)
    assert not [line for line in lost if "beta_schedule" in line]


def test_offsets_of_seeds_and_frames_are_kept_by_a_stand_in():
    workflow, lost = convert(read("camera_and_sparse_control"))
    stand_in = sampled_through(workflow)[0]
    assert widgets(stand_in)["beta_schedule"] == "cosine"
    settings = widgets(sources(workflow, stand_in)["sample_settings"])
    assert (settings["batch_offset"], settings["noise_type"]) == (2, "default")
    assert not [line for line in lost if "offset" in line or "cosine" in line]


def test_frames_with_seeds_of_their_own_are_shifted_too():
    """Clip Noise would draw them from the sampler's seed, so the stand-in draws them."""
    old = read("free_init")
    nodes_of(old, "ADE_AnimateDiffSamplingSettings")[0]["widgets_values"][3] = 7
    workflow, _ = convert(old)
    stand_in, *_ = sampled_through(workflow)
    settings = widgets(sources(workflow, stand_in)["sample_settings"])
    assert (settings["seed_gen"][:8], settings["seed_offset"]) == ("auto1111", 7)
    assert widgets(stand_in)["beta_schedule"] == "use existing"
    assert not nodes_of(workflow, "ADN_ClipNoise")
    assert nodes_of(workflow, "ADN_FreeInit")


def test_a_noise_schedule_without_a_motion_module_is_kept():
    old = read("long_clip_free_noise")
    for node in nodes_of(old, "ADE_UseEvolvedSampling"):
        next(socket for socket in node["inputs"] if socket["name"] == "m_models")["link"] = None
        node["widgets_values"][0] = "sqrt_linear (AnimateDiff)"
    old["links"] = [link for link in old["links"] if link[5] != "M_MODELS"]
    stand_in, windows = sampled_through(convert(old)[0])
    assert widgets(stand_in)["beta_schedule"] == "sqrt_linear (AnimateDiff)"
    assert windows["type"] == "ADN_SlidingContext"


def test_inputs_are_read_under_the_names_that_they_had():
    """The motion LoRA's was lora_name, and some workflows hold values by name."""
    old = read("motion_lora_chain")
    for node, strength in zip(nodes_of(old, "ADE_AnimateDiffLoRALoader"), (0.8, 0.5), strict=True):
        node["widgets_values"] = {"lora_name": f"{strength}.ckpt", "strength": strength}
    loras = [widgets(node) for node in nodes_of(convert(old)[0], "ADN_LoadMotionLora")]
    assert [lora["motion_lora"] for lora in loras] == [f"{lora['strength']}.ckpt" for lora in loras]


@pytest.mark.parametrize(
    "node", ["ADE_AnimateDiffLoaderGen1", "ADE_AnimateDiffUniformContextOptions", "VHS_VideoCombine"]
)
def test_a_link_that_leads_nowhere_now_is_reported(node):
    """Whatever its name is, and once."""
    name = next(name for name in ("text_to_video_gen1", "hires_second_pass", "legacy_loader_2023", "animatelcm")
                if nodes_of(read(name), node))  # fmt: skip
    old = read(name)
    target = nodes_of(old, node)[0]
    old["nodes"].append({"id": 900, "type": "Other", "outputs": [{"name": "X", "type": "X", "links": [901]}]})
    old["links"].append([901, 900, 0, target["id"], len(target.get("inputs") or []), "X"])
    target["inputs"] = [*(target.get("inputs") or []), {"name": "per_block", "type": "X", "link": 901}]
    lost = convert(old)[1]
    assert len([line for line in lost if line.startswith(f"{node} (node {target['id']}): per_block, from Other")]) == 1
