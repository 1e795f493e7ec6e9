"""Beside the rest of ComfyUI: samplers, prompts, LoRAs, ControlNets and context windows do what they always do."""

from __future__ import annotations

import comfy.model_patcher
import comfy_extras.nodes_context_windows as context_nodes
import comfy_extras.nodes_custom_sampler as sampler_nodes
import comfy_extras.nodes_freelunch as freeu_nodes
import comfy_extras.nodes_hooks as hook_nodes
import folder_paths
import pytest
import safetensors.torch
import torch
from node_support import (
    FRAMES,
    NEGATIVE,
    POSITIVE,
    SIZE,
    OneHintPerRow,
    accepts,
    core_nodes,
    empty_latent,
    error,
    guided,
    ksampler,
    make_controlnet,
    noise_of,
    predict,
    prompt,
    run,
    small_model,
    with_recorded_calls,
)

SAME, DIFFERENT = 1e-5, 1e-3  # relative errors, of latents that are half noise: rounding, and another result


# Samplers


def advanced(model, latent, start: int, end: int, first: bool):
    """KSamplerAdvanced for a part of four steps."""
    return run(
        core_nodes.KSamplerAdvanced,
        model=model,
        add_noise="enable" if first else "disable",
        noise_seed=3,
        steps=4,
        cfg=3.0,
        sampler_name="euler",
        scheduler="normal",
        positive=POSITIVE,
        negative=NEGATIVE,
        latent_image=latent,
        start_at_step=start,
        end_at_step=end,
        return_with_leftover_noise="enable" if first and end == 2 else "disable",
    )


@pytest.mark.parametrize("keyframes", ["0: 1", "0: 0, 1: 2"])
def test_two_advanced_passes_equal_one(adn, apply, model, motion, keyframes):
    """Also with a strength that rises over the sampling: a pass goes on where the one before it stopped."""
    curve = run(adn["ADN_MotionCurve"], keyframes=keyframes, over="sampling")
    animated = apply(model, motion, motion_strength=run(adn["ADN_MotionStrength"], strength=curve))
    whole = advanced(animated, empty_latent(), 0, 10000, first=True)["samples"]
    half = advanced(animated, empty_latent(), 0, 2, first=True)
    split = advanced(animated, half, 2, 10000, first=False)["samples"]
    assert error(split, whole) < SAME
    assert error(half["samples"], whole) > DIFFERENT


def test_sampler_custom_advanced_equals_ksampler(animated):
    guider = run(sampler_nodes.CFGGuider, model=animated, positive=POSITIVE, negative=NEGATIVE, cfg=3.0)
    sampled, _ = run(
        sampler_nodes.SamplerCustomAdvanced,
        noise=run(sampler_nodes.RandomNoise, noise_seed=3),
        guider=guider,
        sampler=run(sampler_nodes.KSamplerSelect, sampler_name="euler"),
        sigmas=run(sampler_nodes.BasicScheduler, model=animated, scheduler="normal", steps=2, denoise=1.0),
        latent_image=empty_latent(),
    )
    assert torch.equal(sampled["samples"], ksampler(animated))


def test_ksampler_gives_the_same_clip_twice_and_another_without_the_module(animated, model):
    first = ksampler(animated)
    assert torch.equal(ksampler(animated), first)
    assert error(ksampler(model), first) > DIFFERENT


# Prompts


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_cfg_mixes_the_prompts_linearly(apply, model, load_motion, family):
    """Frames of the positive and the negative prompt, in one batch, do not see each other."""
    animated, calls = with_recorded_calls(apply(model, load_motion(family)))
    together = guided(animated, POSITIVE, NEGATIVE, cfg=3.0)
    assert calls == [2]
    cond, uncond = predict(animated, POSITIVE), predict(animated, NEGATIVE)
    assert error(together, uncond + 3.0 * (cond - uncond)) < SAME


def test_cfg_1_equals_both_prompts_without_the_shortcut(animated):
    both, calls = with_recorded_calls(animated)
    both.model_options["disable_cfg1_optimization"] = True
    expected = ksampler(both, cfg=1.0)
    assert calls == [2, 2]
    single, calls = with_recorded_calls(animated)
    assert error(ksampler(single, cfg=1.0), expected) < SAME
    assert calls == [1, 1]


def test_prompts_of_unequal_length_run_together(animated):
    long = prompt(seed=7, tokens=154)
    recorded, calls = with_recorded_calls(animated)
    together = guided(recorded, long, NEGATIVE, cfg=3.0)
    assert calls == [2]
    cond, uncond = predict(animated, long), predict(animated, NEGATIVE)
    assert error(together, uncond + 3.0 * (cond - uncond)) < SAME


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_low_memory_runs_the_prompts_one_by_one(apply, model, load_motion, family, monkeypatch):
    together, calls = with_recorded_calls(apply(model, load_motion(family)))
    expected = ksampler(together)
    assert calls == [2, 2]
    calls.clear()
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda *_: 0)
    assert error(ksampler(together), expected) < SAME
    assert calls == [1, 1, 1, 1]


def test_a_mask_per_frame_chooses_between_two_prompts(animated):
    mask = (torch.rand(FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    other = prompt(7)
    masked = [
        run(core_nodes.ConditioningSetMask, conditioning=c, mask=m, set_cond_area="default", strength=1.0)
        for c, m in ((POSITIVE, mask), (other, 1 - mask))
    ]
    combined = run(core_nodes.ConditioningCombine, conditioning_1=masked[0], conditioning_2=masked[1])
    recorded, calls = with_recorded_calls(animated)
    expected = torch.where(mask[:, None].bool(), predict(animated, POSITIVE), predict(animated, other))
    assert error(predict(recorded, combined), expected) < SAME
    assert calls == [2]


@pytest.mark.parametrize("width", [4, 2])
def test_areas_are_clips_of_their_own(animated, width):
    """Left and right areas, of the same size (one UNet call) and of different sizes (two)."""

    def area(cond, x, w):
        return run(
            core_nodes.ConditioningSetArea, conditioning=cond, x=8 * x, y=0, width=8 * w, height=8 * SIZE, strength=1.0
        )

    other, noise = prompt(7), noise_of()
    left, right = area(POSITIVE, 0, width), area(other, width, SIZE - width)
    recorded, calls = with_recorded_calls(animated)
    sampled = predict(recorded, run(core_nodes.ConditioningCombine, conditioning_1=left, conditioning_2=right))
    assert calls == ([2] if width == 4 else [1, 1])
    parts = predict(animated, POSITIVE, noise[..., :width]), predict(animated, other, noise[..., width:])
    assert error(sampled, torch.cat(parts, dim=-1)) < SAME


# LoRA

LORA_LAYERS = {  # name in the LoRA file: the UNet's weight
    "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "mid_block_attentions_0_transformer_blocks_0_attn2_to_k": "middle_block.1.transformer_blocks.0.attn2.to_k",
    "up_blocks_1_attentions_2_transformer_blocks_0_ff_net_2": "output_blocks.5.1.transformer_blocks.0.ff.net.2",
}


@pytest.fixture
def lora(tmp_path, monkeypatch):
    """The name of a LoRA file, and a model whose weights hold that LoRA at strength 0.8."""
    merged, generator, state_dict = small_model(), torch.Generator().manual_seed(8), {}
    for name, layer in LORA_LAYERS.items():
        weight = merged.model.diffusion_model.get_submodule(layer).weight
        up, down = (torch.randn(shape, generator=generator) / 4 for shape in ((len(weight), 4), (4, weight.shape[1])))
        state_dict |= {f"lora_unet_{name}.lora_up.weight": up, f"lora_unet_{name}.lora_down.weight": down}
        weight.data += 0.8 * up @ down
    safetensors.torch.save_file(state_dict, tmp_path / "look.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("loras", None)
    yield "look.safetensors", merged
    folder_paths.filename_list_cache.pop("loras", None)


def load_lora(model, name):
    return run(core_nodes.LoraLoaderModelOnly, model=model, lora_name=name, strength_model=0.8)


def test_load_lora_equals_merged_weights(apply, model, motion, lora):
    name, merged = lora
    without = ksampler(apply(model, motion))
    sampled = ksampler(apply(load_lora(model, name), motion))
    assert error(sampled, ksampler(apply(merged, motion))) < SAME
    assert error(sampled, without) > DIFFERENT
    assert torch.equal(ksampler(apply(model, motion)), without)


def test_load_lora_before_and_after_apply_animatediff_is_the_same(apply, model, motion, lora):
    name, _ = lora
    before, after = apply(load_lora(model, name), motion), load_lora(apply(model, motion), name)
    assert torch.equal(ksampler(before), ksampler(after))


def test_a_lora_hook_works_on_its_own_prompt_alone(apply, model, motion, lora):
    name, merged = lora
    animated = apply(model, motion)
    hooks = run(hook_nodes.CreateHookLoraModelOnly, lora_name=name, strength_model=0.8)
    props = {"strength": 1.0, "set_cond_area": "default"}
    hooked = run(hook_nodes.ConditioningSetProperties, cond_NEW=POSITIVE, hooks=hooks, **props)
    cond, uncond = predict(apply(merged, motion), POSITIVE), predict(animated, NEGATIVE)
    assert error(guided(animated, hooked, NEGATIVE, cfg=3.0), uncond + 3.0 * (cond - uncond)) < SAME
    assert error(predict(animated, POSITIVE), cond) > DIFFERENT
    assert torch.equal(predict(animated, NEGATIVE), uncond)


# ControlNet


def with_hints(controlnet, hints):
    """Apply ControlNet on both prompts."""
    strengths = {"strength": 0.7, "start_percent": 0.0, "end_percent": 1.0}
    return run(
        core_nodes.ControlNetApplyAdvanced,
        positive=POSITIVE,
        negative=NEGATIVE,
        control_net=controlnet,
        image=hints,
        **strengths,
    )


def hints_for(frames: int):
    """Pictures, far too bright: a ControlNet of random weights is hard of seeing."""
    return 20 * torch.rand(frames, 8 * SIZE, 8 * SIZE, 3, generator=torch.Generator().manual_seed(2))


def test_each_frame_sees_its_own_controlnet_hint(animated):
    hints = hints_for(FRAMES)
    sampled = ksampler(animated, *with_hints(make_controlnet(), hints))
    expected = ksampler(animated, *with_hints(make_controlnet(OneHintPerRow), hints))
    assert error(sampled, expected) < SAME
    assert error(ksampler(animated, *with_hints(make_controlnet(), hints.flip(0))), expected) > DIFFERENT


@pytest.mark.parametrize("low_memory", [False, True])
def test_hints_follow_their_frames_through_sliding_context(adn, animated, low_memory, monkeypatch):
    """8 frames in windows of 4: a call with both prompts has as many latents as there are hints."""
    if low_memory:
        monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda *_: 0)
    model = run(adn["ADN_SlidingContext"], model=animated, context_length=4, context_overlap=2)
    hints = hints_for(8)
    sampled = ksampler(model, *with_hints(make_controlnet(), hints), frames=8)
    expected = ksampler(model, *with_hints(make_controlnet(OneHintPerRow), hints), frames=8)
    assert error(sampled, expected) < SAME
    assert error(ksampler(model, *with_hints(make_controlnet(), hints.flip(0)), frames=8), expected) > DIFFERENT


# Model patches


def test_freeu_is_the_same_before_and_after_apply_animatediff(apply, model, motion):
    before = apply(run(freeu_nodes.FreeU_V2, model=model), motion)
    after = run(freeu_nodes.FreeU_V2, model=apply(model, motion))
    sampled = ksampler(before)
    assert torch.equal(sampled, ksampler(after))
    assert error(sampled, ksampler(apply(model, motion))) > DIFFERENT


def test_freeu_alone_is_left_as_it_is_by_a_module_that_adds_nothing(apply, model, motion):
    for name, weight in motion.patcher.model.named_parameters():
        if "proj_out" in name:
            weight.data.zero_()
    freeu = run(freeu_nodes.FreeU_V2, model=model)
    still = apply(freeu, motion, beta_schedule="keep the model's own")
    assert torch.equal(ksampler(still), ksampler(freeu))


# Context windows and parts of the sampling


def windows_by_hand(model, windows, noise, anchors=False):
    """The prediction for a long clip: every window on its own, blended with ComfyUI's pyramid weights.

    With `anchors`, as ComfyUI's causal_window_fix has it, a window also gets the frame before it, which is dropped.
    """
    total, weight_sum = torch.zeros_like(noise), torch.zeros(len(noise), 1, 1, 1)
    for window in windows:
        anchor = [window[0] - 1] if anchors and window[0] > 0 else []
        predicted = predict(model, POSITIVE, noise[anchor + window])[len(anchor) :]
        weights = torch.tensor([min(i, len(window) - 1 - i) + 1.0 for i in range(len(window))]).view(-1, 1, 1, 1)
        total[window] += weights * predicted
        weight_sum[window] += weights
    return total / weight_sum


@pytest.mark.parametrize("anchors", [False, True])
def test_core_context_windows_sample_each_window_as_a_clip(animated, anchors):
    node = context_nodes.ContextWindowsManualNode
    fix = {"causal_window_fix": anchors} if accepts(node, "causal_window_fix") else {}
    if anchors and not fix:
        pytest.skip("this ComfyUI does not add frames to windows")
    kind = {"context_schedule": "standard_static", "fuse_method": "pyramid"}
    windowed = run(node, model=animated, context_length=4, context_overlap=2, **kind, **fix)
    noise = noise_of(8)
    expected = windows_by_hand(animated, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]], noise, anchors)
    assert error(predict(windowed, POSITIVE, noise), expected) < SAME


def test_two_modules_take_turns_by_percent(apply, model, load_motion):
    """One for the first half of the steps and one for the second equals a pass with each."""
    first, second = load_motion("v2", seed=1), load_motion("v3", seed=2)
    chained = apply(apply(model, first, end_percent=0.5), second, start_percent=0.5)
    sampled = advanced(chained, empty_latent(), 0, 10000, first=True)["samples"]
    half = advanced(apply(model, first), empty_latent(), 0, 2, first=True)
    expected = advanced(apply(model, second), half, 2, 10000, first=False)["samples"]
    assert error(sampled, expected) < SAME
    assert error(advanced(apply(model, first), empty_latent(), 0, 10000, first=True)["samples"], expected) > DIFFERENT
