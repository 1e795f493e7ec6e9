"""SparseCtrl in ComfyUI's sampler: every call gets what diffusers computes from the keyframes of its frames."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy_extras.nodes_model_advanced as advanced_nodes
import comfy_extras.nodes_sd3 as sd3_nodes
import pytest
import torch
from comfy_support import CONTEXT, animate, conditioning, make_model, make_sdxl_model
from lora_support import official, write
from node_support import (
    FAILURES,
    FRAMES,
    NEGATIVE,
    POSITIVE,
    core_nodes,
    error,
    make_controlnet,
    predict,
    prompt,
    run,
)
from sparse_ctrl_support import (
    DIFFERENT,
    SAME,
    SMALL,
    check_call,
    controlled,
    keyframe_images,
    load_sparse,
    make_vae,
    pictures,
    sampled,
    with_recorded_controls,
)

from animatediff_native.motion_models.lora import apply_motion_lora


@pytest.fixture(scope="module")
def vae():
    return make_vae()


@pytest.fixture(scope="module")
def rgb(folder):
    return load_sparse(folder, "rgb", SMALL)


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
