"""SparseCtrl in ComfyUI's sampler: every call gets what diffusers computes from the keyframes of its frames."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy_extras.nodes_context_windows as context_nodes
import comfy_extras.nodes_model_advanced as advanced_nodes
import comfy_extras.nodes_sd3 as sd3_nodes
import pytest
import torch
from comfy_support import CHANNELS, CONTEXT, animate, conditioning, load_motion, make_model, make_sdxl_model
from lora_support import official, write
from node_support import (
    FAILURES,
    FRAMES,
    NEGATIVE,
    POSITIVE,
    core_nodes,
    error,
    ksampler,
    make_controlnet,
    noise_of,
    predict,
    prompt,
    run,
    small_model,
)
from sparse_ctrl_support import load_sparse, make_vae, oracle_features, pictures, sparse_oracle

from animatediff_native.motion_models.lora import apply_motion_lora
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import ContextOptions
from animatediff_native.sampling.keyframes import KeyframeImages, Keyframes, parse_positions
from animatediff_native.sampling.keyframes_in_windows import keyframes_in_window
from animatediff_native.sampling.windows import fuse_weights, windows

SMALL = CHANNELS[:2]
LONG, LENGTH, OVERLAP = 10, 4, 2
SAME, DIFFERENT = 1e-5, 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def vae():
    return make_vae()


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def motion(folder):
    return load_motion(folder, channels=SMALL)


@pytest.fixture(scope="module")
def animated(model, motion):
    return animate(model, motion)


@pytest.fixture(scope="module")
def scribble(folder):
    return load_sparse(folder, "scribble", SMALL)


@pytest.fixture(scope="module")
def rgb(folder):
    return load_sparse(folder, "rgb", SMALL)


def keyframe_images(frames: str, vae: Any = None, n: int = 2) -> KeyframeImages:
    """What Keyframe Images gives."""
    keyframes = Keyframes(pictures(n), parse_positions(frames), vae)
    return KeyframeImages.of(keyframes, keyframes.images)


def controlled(control: Any, images: Any, positive=POSITIVE, negative=NEGATIVE, **options: Any) -> list:
    """Both prompts after Apply ControlNet."""
    settings = {"strength": 0.7, "start_percent": 0.0, "end_percent": 1.0} | options
    conds = {"positive": positive, "negative": negative}
    return list(run(core_nodes.ControlNetApplyAdvanced, control_net=control, image=images, **conds, **settings))


def with_recorded_controls(model: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A clone of the model, and a list that grows by what each UNet call gets."""
    calls: list[dict[str, Any]] = []

    def record(apply_model, call):
        control, sampling = call["c"]["control"], model.get_model_object("model_sampling")
        features = [feature.clone() for kind in ("output", "middle") for feature in control[kind]] if control else None
        window = call["c"]["transformer_options"].get("context_window")
        calls.append(
            {
                "input": call["input"],
                "conds": len(call["cond_or_uncond"]),
                "text": call["c"]["c_crossattn"],
                "timestep": sampling.timestep(call["timestep"])[0],
                "frames": frames_of(window) if window is not None else None,
                "control": features,
            }
        )
        return apply_model(call["input"], call["timestep"], **call["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(record)
    return model, calls


def frames_of(window: Any) -> list[int]:
    """The frames of a call, with the one before the window that newer versions of ComfyUI add."""
    anchor = getattr(window, "causal_anchor_index", None)
    return [*([] if anchor is None else [anchor]), *window.index_list]


def expected_hint(keyframes: Keyframes, kind: str, places: dict[int, int], shape: torch.Size) -> torch.Tensor:
    """Picture and mask, (f, c + 1, h, w), for latents of that shape, where keyframes stand at the given places."""
    f, _, h, w = shape
    if kind == "rgb":
        seen = keyframes.latents(h, w) * 0.18215
    else:
        seen = keyframes.resized(8 * h, 8 * w).movedim(-1, 1)
    hint = torch.zeros(f, seen.shape[1] + 1, *seen.shape[2:])
    for place, keyframe in places.items():
        hint[place] = torch.cat((seen[keyframe], torch.ones(1, *seen.shape[2:])))
    return hint


def check_call(call: dict[str, Any], kind: str, keyframes: Keyframes, places: dict[int, int]) -> None:
    """Compare what a call gets with what diffusers computes for each of its conds."""
    parts = zip(call["input"].chunk(call["conds"]), call["text"].chunk(call["conds"]), strict=True)
    features = []
    for noisy, text in parts:
        hint = expected_hint(keyframes, kind, places, noisy.shape)
        features.append(oracle_features(sparse_oracle(kind, SMALL), noisy, hint, call["timestep"], text))
    for ours, theirs in zip(call["control"], map(torch.cat, zip(*features, strict=True)), strict=True):
        assert error(ours, 0.7 * theirs) < SAME


def sampled(model: Any, *conds: list, **options: Any) -> torch.Tensor:
    """What KSampler gives in a single step."""
    return ksampler(model, *conds, **{"steps": 1, **options})


# Every call


def test_both_prompts_of_every_call_get_what_diffusers_computes(animated, rgb, vae):
    recorded, calls = with_recorded_controls(animated)
    images = keyframe_images("0, -1", vae)
    clip = sampled(recorded, *controlled(rgb, images), steps=2)
    assert [call["conds"] for call in calls] == [2, 2]
    for call in calls:
        check_call(call, "rgb", images.keyframes, {0: 0, FRAMES - 1: 1})
    assert error(sampled(animated, steps=2), clip) > DIFFERENT


def area(x: int, width: int) -> dict[str, Any]:
    return {"area": (8, width, 0, x), "set_area_to_bounds": False, "strength": 1.0}


def mask(left: float) -> dict[str, Any]:
    weights = torch.full((FRAMES, 64, 64), 1.0 - left)
    weights[..., :32] = left
    return {"mask": weights, "set_area_to_bounds": False, "mask_strength": 1.0}


def with_options(*options: dict[str, Any]) -> list:
    return [[prompt(5 + i)[0][0], part] for i, part in enumerate(options)]


def lcm(model: Any) -> Any:
    return run(advanced_nodes.ModelSamplingDiscrete, model=model, sampling="lcm", zsnr=False)


def per_frame_text() -> list:
    return [[torch.randn(FRAMES, 77, CONTEXT, generator=torch.Generator().manual_seed(8)), {}]]


# Model, positive prompt, settings of the sampler; the number of conds in each call of a step.
SCENES: dict[str, tuple[Any, Any, dict[str, Any], list[int]]] = {
    "bare model": (None, POSITIVE, {}, [2]),
    "LCM, few steps": (lcm, POSITIVE, {"sampler_name": "lcm", "cfg": 1.0, "steps": 2}, [1, 1]),
    "a prompt for each frame": (None, per_frame_text(), {}, [2]),
    "two prompts": (None, with_options({}, {}), {}, [3]),
    "masks": (None, with_options(mask(1.0), mask(0.0)), {}, [3]),
    "areas": (None, with_options(area(0, 3), area(3, 5)), {}, [1, 2, 2]),
}


@pytest.mark.parametrize("scene", SCENES)
def test_it_works_beside(model, scribble, scene):
    change, positive, settings, conds = SCENES[scene]
    recorded, calls = with_recorded_controls(change(model) if change else model)
    images = keyframe_images("0, 3")
    sampled(recorded, *controlled(scribble, images, positive), **settings)
    assert sorted(call["conds"] for call in calls) == sorted(conds)
    for call in calls:
        check_call(call, "scribble", images.keyframes, {0: 0, 3: 1})


def test_low_memory_runs_the_prompts_one_by_one(animated, scribble, monkeypatch):
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda *_: 0)
    recorded, calls = with_recorded_controls(animated)
    images = keyframe_images("1, 2")
    sampled(recorded, *controlled(scribble, images))
    assert [call["conds"] for call in calls] == [1, 1]
    for call in calls:
        check_call(call, "scribble", images.keyframes, {1: 0, 2: 1})


def test_one_picture_guides_an_image_without_motion(model, rgb, vae):
    recorded, calls = with_recorded_controls(model)
    images = keyframe_images("0", vae, n=1)
    sampled(recorded, *controlled(rgb, images), frames=1)
    check_call(calls[0], "rgb", images.keyframes, {0: 0})


# Windows


@pytest.mark.parametrize(
    ("window", "keyframes", "loop_of", "places"),
    [
        ([0, 1, 2, 3], (0, 3, 9), 0, {0: 0, 3: 1}),
        ([4, 5, 6, 7], (0, 9), 0, {3: 1}),
        ([4, 5, 6, 7], (2, 9), 0, {0: 0, 3: 1}),
        ([4, 5, 6, 7], (2,), 0, {0: 0}),
        ([0, 1, 2, 3], (15,), 0, {3: 0}),
        ([0, 1, 2, 3], (15,), 16, {0: 0}),  # round the end of the loop, the last frame comes before the first
        ([14, 15, 0, 1], (0, 7), 16, {2: 0}),
        ([0, 1, 2], (9,), 16, {1: 0}),  # seven frames from either end
        ([0, 4, 8, 12], (5, 15), 0, {1: 0}),
    ],
)
def test_a_window_without_keyframes_sees_the_nearest(window, keyframes, loop_of, places):
    assert keyframes_in_window(window, keyframes, "nearest", loop_of) == places
    inside = {window.index(frame): i for i, frame in enumerate(keyframes) if frame in window}
    assert keyframes_in_window(window, keyframes, "none", loop_of) == inside


def windowed(model: Any, **options: Any) -> Any:
    return apply_sliding_context(model, ContextOptions(LENGTH, OVERLAP, **{"free_noise": False, **options}))


@pytest.mark.parametrize("at_once", [1, 2])
def test_each_window_is_controlled_as_if_it_were_a_clip(animated, scribble, at_once):
    """The only picture is at frame 1, and stands at the first place of all windows but the first."""
    noise, plan = noise_of(LONG), windows("static", LONG, LENGTH, OVERLAP)
    clip = predict(windowed(animated, at_once=at_once), controlled(scribble, keyframe_images("1", n=1))[0], noise)
    expected = torch.zeros_like(noise)
    for window, weight in zip(plan, fuse_weights("pyramid", plan, LONG, OVERLAP), strict=True):
        place = "1" if window[0] == 0 else "0"
        alone = predict(animated, controlled(scribble, keyframe_images(place, n=1))[0], noise[window])
        expected[window] += alone * weight.view(-1, 1, 1, 1)
    assert error(clip, expected) < SAME
    assert error(predict(windowed(animated), POSITIVE, noise), expected) > DIFFERENT


@pytest.mark.parametrize("far", ["nearest", "none"])
@pytest.mark.parametrize("schedule", ["closed loop", "uniform", "core"])
def test_windows_round_the_end_and_of_every_other_frame_see_their_keyframes(model, folder, far, schedule):
    control = load_sparse(folder, "scribble", SMALL, far_keyframes=far)
    if schedule == "core":
        settings = {"context_schedule": "standard_static", "fuse_method": "pyramid"}
        node = context_nodes.ContextWindowsManualNode
        windowed_model = run(node, model=model, context_length=LENGTH, context_overlap=OVERLAP, **settings)
    else:
        windowed_model = windowed(model, schedule=schedule, stride=2)
    recorded, calls = with_recorded_controls(windowed_model)
    images = keyframe_images("3, 9")
    sampled(recorded, *controlled(control, images), frames=LONG)
    assert len(calls) > 3
    loop_of = LONG if schedule == "closed loop" else 0
    for call in calls:
        places = keyframes_in_window(call["frames"], (3, 9), far, loop_of)
        check_call(call, "scribble", images.keyframes, places)


@pytest.mark.parametrize("images", [keyframe_images("0, -1"), pictures(2)], ids=["keyframes", "plain images"])
def test_windows_within_the_motion_modules_are_windows_in_sparse_ctrl_too(animated, scribble, images):
    """One of them is all of the clip, so that the result is that of the clip at once."""
    positive, noise = controlled(scribble, images)[0], noise_of(8)
    inside = apply_sliding_context(animated, ContextOptions(LENGTH, OVERLAP, within="motion module", free_noise=False))
    recorded, calls = with_recorded_controls(inside)
    predict(recorded, positive, noise)
    whole, expected = with_recorded_controls(animated)
    predict(whole, positive, noise)
    assert [call["frames"] for call in calls] == [None]
    for features, of_clip in zip(calls[0]["control"], expected[0]["control"], strict=True):
        assert features.shape == of_clip.shape and torch.isfinite(features).all()
    # The first feature comes before all motion modules, the next ones after some.
    assert error(calls[0]["control"][0], expected[0]["control"][0]) < SAME
    assert error(calls[0]["control"][-1], expected[0]["control"][-1]) > DIFFERENT


def test_more_frames_than_positions_are_refused_before_sampling(model, scribble):
    recorded, calls = with_recorded_controls(model)
    with pytest.raises(ValueError, match="33 frames at once are more than the 32 that scribble_2_7"):
        sampled(recorded, *controlled(scribble, keyframe_images("0, 1")), frames=33)
    assert not calls


# Strength, percents, chains


def test_strength_0_is_bit_equal_to_no_control(animated, scribble):
    without = sampled(animated)
    assert torch.equal(sampled(animated, *controlled(scribble, keyframe_images("0, 1"), strength=0.0)), without)
    positive, negative = controlled(scribble, keyframe_images("0, 1"))
    for entry in (*positive, *negative):
        entry[1]["control"].strength = 0.0
    assert torch.equal(sampled(animated, positive, negative), without)


def test_percents_choose_the_steps(animated, scribble):
    recorded, calls = with_recorded_controls(animated)
    sampled(recorded, *controlled(scribble, keyframe_images("0, 1"), start_percent=0.5), steps=4)
    sampled(recorded, *controlled(scribble, keyframe_images("0, 1"), end_percent=0.4), steps=4)
    active = [call["control"] is not None for call in calls]
    assert active == [False, False, True, True, True, True, False, False]


def test_strength_and_motion_scale_are_those_of_its_motion_modules(model, folder):
    """Without them every frame stands alone, and frames without a picture are all alike."""
    still = load_sparse(folder, "scribble", SMALL, strength=0.0)
    recorded, calls = with_recorded_controls(model)
    for control in (
        still,
        load_sparse(folder, "scribble", SMALL),
        load_sparse(folder, "scribble", SMALL, motion_scale=2.0),
    ):
        predict(recorded, controlled(control, keyframe_images("0", n=1))[0])
    alone, together, sharper = (call["control"][-1] for call in calls)
    assert torch.equal(alone[1], alone[5]) and error(together[1], together[5]) > DIFFERENT
    assert error(sharper, together) > DIFFERENT


@pytest.mark.parametrize("other", ["ControlNet", "another", "the same"])
def test_two_in_a_chain_add_up(animated, scribble, rgb, vae, other):
    images = keyframe_images("0, 3", vae)
    second = {"ControlNet": make_controlnet(), "another": rgb, "the same": scribble}[other]
    hints = pictures(FRAMES, seed=3) if other == "ControlNet" else keyframe_images("1, 2", vae)
    chain = controlled(second, hints, *controlled(scribble, images))
    features = []
    for conds in (controlled(scribble, images), controlled(second, hints), chain):
        recorded, calls = with_recorded_controls(animated)
        sampled(recorded, *conds)
        features.append(calls[0]["control"])
    for first, second_alone, both in zip(*features, strict=True):
        assert error(both, first + second_alone) < SAME


def test_the_older_apply_nodes_take_it_too(animated, rgb, vae):
    """ControlNetApply knows no VAE, and gives the negative prompt the control of the positive one."""
    images = keyframe_images("0, 3", vae)
    expected = sampled(animated, *controlled(rgb, images))
    positive = run(core_nodes.ControlNetApply, conditioning=POSITIVE, control_net=rgb, image=images, strength=0.7)
    assert error(sampled(animated, positive), expected) < SAME
    plain = keyframe_images("0, 3")
    settings = {"strength": 0.7, "start_percent": 0.0, "end_percent": 1.0, "vae": vae}
    conds = {"positive": POSITIVE, "negative": NEGATIVE}
    both = run(sd3_nodes.ControlNetApplySD3, control_net=rgb, image=plain, **settings, **conds)
    assert torch.equal(sampled(animated, *both), expected)


# What it leaves alone


def test_it_is_used_by_several_at_once(animated, scribble):
    """Apply ControlNet copies it: the loaded one stays without keyframes, and each copy has its own."""
    first, second = (controlled(scribble, keyframe_images(frames)) for frames in ("0, 1", "4, 5"))
    alone = sampled(animated, *first)
    sampled(animated, *second)
    assert torch.equal(sampled(animated, *first), alone)
    assert scribble.keyframes is None and not scribble.extra_args
    control = first[0][0][1]["control"]
    assert control.pictures is None and control.cond_hint is None, "nothing stays after a run"
    assert control.get_models() == scribble.get_models()


@pytest.mark.parametrize("failure", ["exception", "interrupt"])
def test_after_a_failure_every_run_is_as_before(model, animated, scribble, failure):
    conds, core = controlled(scribble, keyframe_images("0, 1")), controlled(make_controlnet(), pictures(FRAMES))
    plain, of_core, expected = sampled(model), sampled(model, *core), sampled(animated, *conds)
    action, raised = FAILURES[failure]
    handle = scribble.control_model.middle_block.register_forward_pre_hook(lambda *_: action())
    with pytest.raises(raised):
        sampled(animated, *conds)
    handle.remove()
    assert torch.equal(sampled(model), plain)
    assert torch.equal(sampled(model, *core), of_core)
    assert torch.equal(sampled(animated, *conds), expected)
    assert not any(module._forward_hooks for module in scribble.control_model.modules())


def test_a_copy_on_another_gpu_computes_the_same(animated, scribble):
    if not hasattr(scribble, "deepclone_multigpu"):
        pytest.skip("this ComfyUI knows one GPU")
    conds = controlled(scribble, keyframe_images("0, 1"))
    expected = sampled(animated, *conds)
    control = conds[0][0][1]["control"]
    copy = control.deepclone_multigpu(torch.device("cpu"))
    for cond in conds:
        cond[0][1]["control"] = copy
    assert torch.equal(sampled(animated, *conds), expected)
    assert copy.control_model is not control.control_model


def test_a_motion_lora_acts_beside_it(folder, model, motion, scribble):
    """The control sees neither the motion module nor its LoRA."""
    layer = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_v"
    up, down = torch.eye(32, 4), torch.eye(4, 32)
    with_lora = apply_motion_lora(motion, write(folder / "lora.safetensors", {layer: (5 * up, down)}, official), 1.0)
    recorded, calls = with_recorded_controls(animate(model, with_lora))
    images = keyframe_images("0, 1")
    clip = sampled(recorded, *controlled(scribble, images))
    check_call(calls[0], "scribble", images.keyframes, {0: 0, 1: 1})
    assert error(clip, sampled(animate(model, motion), *controlled(scribble, images))) > DIFFERENT


# Refusals


def test_rgb_without_a_vae_is_refused_at_apply_controlnet(rgb, vae):
    with pytest.raises(
        ValueError, match=r"^rgb_2_7.safetensors sees pictures as latents: connect the checkpoint's VAE"
    ):
        controlled(rgb, keyframe_images("0, 1"))
    controlled(rgb, keyframe_images("0, 1"), vae=vae)


@pytest.mark.parametrize(("frames", "sentence"), [("0, 9", "belongs to frame 9"), ("1, 1", "both belong to frame 1")])
def test_keyframes_that_do_not_fit_are_refused_before_sampling(animated, scribble, frames, sentence):
    recorded, calls = with_recorded_controls(animated)
    with pytest.raises(ValueError, match=sentence):
        sampled(recorded, *controlled(scribble, keyframe_images(frames)))
    assert not calls


@pytest.mark.parametrize("base", ["SDXL", "SD2"])
def test_another_base_is_refused_in_one_sentence(folder, base):
    model = make_sdxl_model() if base == "SDXL" else make_model(context_dim=64)
    control = load_sparse(folder, "scribble")
    sentence = r"32/64/128/128 channels and 48 text features, but this \w+ model has [\d/]+ and \d+: use a checkpoint"
    with pytest.raises(ValueError, match=sentence):
        sampled(model, *controlled(control, keyframe_images("0, 1"), conditioning(), conditioning()))
