"""Prompt Schedule as a node, with the text encoder of the miniature checkpoint that the repository carries."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from comfy_extras.nodes_hooks import SetClipHooks
from comfy_support import CPU, randomise, sdxl_config
from node_support import core_nodes, error, guided, predict, run

from animatediff_native.demo import evaluate
from animatediff_native.demo.train import MODELS

STAR, CIRCLE = "a red star", "a blue circle"
LONG = " ".join(["a red star and a blue circle"] * 4)
TEXT = f"0: {STAR}\n4: {CIRCLE}"


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


@pytest.fixture
def schedule(adn, miniature):
    def make(prompts: str, frames: int = 5, clip: Any = miniature.clip, **inputs: Any) -> list:
        return run(adn["ADN_PromptSchedule"], clip=clip, prompts=prompts, frames=frames, **inputs)

    return make


def encode(clip: Any, text: str) -> list:
    """What the CLIP Text Encode node gives."""
    return run(core_nodes.CLIPTextEncode, clip=clip, text=text)


def at_frame(conditioning: list, frame: int) -> list:
    """The conditioning of one frame alone."""
    return [
        [tokens[frame : frame + 1], {**values, "pooled_output": values["pooled_output"][frame : frame + 1]}]
        for tokens, values in conditioning
    ]


def assert_same(actual: list, expected: list) -> None:
    for (tokens, values), (expected_tokens, expected_values) in zip(actual, expected, strict=True):
        assert torch.equal(tokens, expected_tokens)
        assert values.keys() == expected_values.keys()
        assert torch.equal(values["pooled_output"], expected_values["pooled_output"])


@pytest.mark.parametrize("interpolation", ["linear", "slerp"])
def test_a_prompt_on_its_own_frame_is_what_clip_text_encode_gives(schedule, miniature, interpolation):
    scheduled = schedule(TEXT, 7, interpolation=interpolation)
    assert scheduled[0][0].shape[0] == scheduled[0][1]["pooled_output"].shape[0] == 7
    assert_same(at_frame(scheduled, 0), encode(miniature.clip, STAR))
    for frame in (4, 5, 6):
        assert_same(at_frame(scheduled, frame), encode(miniature.clip, CIRCLE))


def test_between_two_prompts_lies_the_mean_of_both(schedule, miniature):
    ((tokens, values),) = at_frame(schedule(TEXT), 2)
    (first, a), (second, b) = encode(miniature.clip, STAR)[0], encode(miniature.clip, CIRCLE)[0]
    torch.testing.assert_close(tokens, (first + second) / 2)
    torch.testing.assert_close(values["pooled_output"], (a["pooled_output"] + b["pooled_output"]) / 2)


def test_slerp_keeps_the_length_of_vectors_half_way(schedule, miniature):
    first, second = (encode(miniature.clip, text)[0][0].norm(dim=-1) for text in (STAR, CIRCLE))
    halfway = schedule(TEXT, interpolation="slerp")[0][0][2:3].norm(dim=-1)
    torch.testing.assert_close(halfway, (first + second) / 2)
    assert schedule(TEXT)[0][0][2:3].norm(dim=-1).sum() < halfway.sum()


def test_each_prompt_is_encoded_once(schedule, miniature, monkeypatch):
    seen: list[Any] = []
    tokenize = miniature.clip.tokenize
    monkeypatch.setattr(miniature.clip, "tokenize", lambda text: seen.append(text) or tokenize(text))
    schedule(f"0: {STAR}\n4: {CIRCLE}\n8: {STAR}\n90: a green cross", 9)
    assert seen == [STAR, CIRCLE]


def test_prefix_and_suffix_belong_to_every_prompt(schedule, miniature):
    scheduled = schedule(TEXT, prefix="paper,", suffix="on white")
    assert_same(at_frame(scheduled, 0), encode(miniature.clip, f"paper, {STAR}, on white"))
    assert_same(at_frame(scheduled, 4), encode(miniature.clip, f"paper, {CIRCLE}, on white"))


def test_the_latent_says_how_many_frames_there_are(schedule):
    scheduled = schedule(f"0: {STAR}\n-1: {CIRCLE}", 5, latent={"samples": torch.zeros(9, 4, 8, 8)})
    assert_same(scheduled, schedule(TEXT.replace("4", "8"), 9))


def test_a_list_of_another_pack_gives_the_same(schedule):
    assert_same(schedule(f'"0": "{STAR}",\n"4": "{CIRCLE}",'), schedule(TEXT))


def test_a_prompt_of_several_chunks_is_mixed_with_a_short_one(schedule, miniature):
    scheduled = schedule(f"0: {STAR}\n4: {LONG}")
    long, short = encode(miniature.clip, LONG), encode(miniature.clip, STAR)
    chunks = long[0][0].shape[1] // short[0][0].shape[1]
    assert chunks > 1
    assert_same(at_frame(scheduled, 4), long)
    assert torch.equal(scheduled[0][0][:1], short[0][0].repeat(1, chunks, 1))
    noise = noise_of(1)
    model = miniature.base
    torch.testing.assert_close(
        predict(model, at_frame(scheduled, 0), noise), predict(model, short, noise), rtol=1e-4, atol=1e-4
    )


def noise_of(frames: int) -> torch.Tensor:
    return torch.randn(frames, 4, 16, 16, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_sampler_gives_every_frame_its_own_prompt(schedule, miniature, cfg):
    scheduled, negative, noise = schedule(TEXT), encode(miniature.clip, ""), noise_of(5)
    clip = guided(miniature.base, scheduled, negative, cfg, noise)
    alone = [guided(miniature.base, at_frame(scheduled, i), negative, cfg, noise[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(clip, torch.cat(alone), rtol=1e-3, atol=1e-3)
    assert error(clip[4:], guided(miniature.base, at_frame(scheduled, 0), negative, cfg, noise[4:])) > 0.01


def sdxl_model(width: int) -> Any:
    """SDXL's blocks for prompts and pooled outputs of the miniature's width."""
    config = sdxl_config() | {"context_dim": width, "adm_in_channels": width + 6 * 256}
    model = comfy.model_base.SDXL(comfy.supported_models.SDXL(config), device=CPU).eval()
    randomise(model.diffusion_model, seed=0)
    unet: Any = model.diffusion_model
    unet.out[2].weight.data *= 10
    return comfy.model_patcher.CoreModelPatcher(model, load_device=CPU, offload_device=CPU)


def test_sdxl_gets_every_frames_own_pooled_output(schedule):
    scheduled, noise = schedule(TEXT), noise_of(5)
    same_words = [[scheduled[0][0][:1].expand(5, -1, -1), scheduled[0][1]]]
    model = sdxl_model(scheduled[0][0].shape[2])
    clip = predict(model, same_words, noise)
    alone = [predict(model, at_frame(same_words, i), noise[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(clip, torch.cat(alone), rtol=1e-3, atol=1e-3)
    assert error(clip[4:], predict(model, at_frame(same_words, 0), noise[4:])) > 0.01


def clip_with_lora_from_half_way(clip: Any) -> Any:
    """As core's Create Hook LoRA, Create Hook Keyframe and Set CLIP Hooks with schedule_clip make it."""
    generator = torch.Generator().manual_seed(1)
    width = clip.cond_stage_model.clip_l.transformer.text_model.embeddings.token_embedding.weight.shape[1]
    key = "lora_te_text_model_encoder_layers_0_self_attn_out_proj.lora_{}.weight"
    lora = {key.format(way): torch.randn(width, width, generator=generator) for way in ("up", "down")}
    hooks = comfy.hooks.create_hook_lora(lora, 1.0, 1.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for strength, start in ((0.0, 0.0), (1.0, 0.5)):
        keyframes.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start))
    hooks.set_keyframes_on_hooks(keyframes)
    return run(SetClipHooks, clip=clip, apply_to_conds=True, schedule_clip=True, hooks=hooks)


def test_a_text_encoder_with_hooks_gives_an_entry_for_each_keyframe(schedule, miniature):
    clip = clip_with_lora_from_half_way(miniature.clip)
    scheduled, expected = schedule(TEXT, clip=clip), encode(clip, STAR)
    assert len(scheduled) == len(expected) == 2
    assert_same(at_frame(scheduled, 0), expected)
    assert_same(at_frame(scheduled, 4), encode(clip, CIRCLE))
    assert error(scheduled[0][0], scheduled[1][0]) > 0.01
    for (_, values), (_, given) in zip(scheduled, expected, strict=True):
        assert [values[name] for name in ("clip_start_percent", "clip_end_percent")] == [
            given[name] for name in ("clip_start_percent", "clip_end_percent")
        ]
        assert values["hooks"].hooks == given["hooks"].hooks


def test_without_a_text_encoder_an_error_says_so(schedule):
    with pytest.raises(ValueError, match="checkpoint has no text encoder"):
        schedule(TEXT, clip=None)


def test_an_error_in_the_text_names_its_place(schedule):
    with pytest.raises(ValueError, match=r'^Line 2, column 1: "sprout" does not begin with a frame number'):
        schedule("0: a seed\nsprout")
