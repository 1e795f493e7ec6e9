"""Key layouts, read and written: motion modules against diffusers, and trained LoRAs under the keys of each layout."""

from __future__ import annotations

from typing import Any

import diffusers_oracle as oracle
import pytest
import torch
from comfy_support import animate, conditioning, load_motion, make_model, motion_config, motion_state_dict
from diffusers import AnimateDiffPipeline, DDIMScheduler
from torch.nn import Parameter

from animatediff_native.motion_models.key_layouts import (
    DIFFUSERS_KEYS,
    HOTSHOT_KEYS,
    LORA_LAYOUTS,
    ORIGINAL_KEYS,
    PROJECTIONS,
    ModuleLayout,
    from_original,
    layer_spellings,
    module_layout,
    to_original,
)
from animatediff_native.motion_models.lora import apply_motion_lora
from animatediff_native.motion_models.motion_model import MotionModel
from animatediff_native.motion_models.saving import domain_adapter_file, motion_lora_file, write
from animatediff_native.training.lora import layers_of, lora

pytestmark = pytest.mark.autograd
ATTENTION = "down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.1.to_out.0"
FEED_FORWARD = "up_blocks.3.motion_modules.2.temporal_transformer.transformer_blocks.0.ff.net.2"
BLOCK = "down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0"


def trained(rank: int = 3, projections: str = "attention") -> dict[str, torch.Tensor]:
    model = MotionModel(motion_config("v2")).requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    with lora(model, layers_of(model, projections), rank, generator=generator) as parameters:
        for parameter in parameters.values():
            parameter.data.normal_(0, 0.1, generator=generator)
        return {key: parameter.detach().clone() for key, parameter in parameters.items()}


@pytest.mark.parametrize(
    "layout", [ORIGINAL_KEYS, HOTSHOT_KEYS, DIFFUSERS_KEYS], ids=["original", "Hotshot", "diffusers"]
)
def test_a_module_layout_is_read_as_it_is_written(layout: ModuleLayout):
    keys = list(motion_state_dict("v2"))
    spelled = [from_original(key, layout) for key in keys]
    assert module_layout(spelled) is layout
    for key, spelling in zip(keys, spelled, strict=True):
        assert key in to_original(spelling, layout)
    assert {original for spelling in spelled for original in to_original(spelling, layout)} == set(keys)


def test_diffusers_keys_are_diffusers_own():
    assert all(from_original(key, DIFFUSERS_KEYS) == oracle.rename(key) for key in motion_state_dict("v2"))


def test_keys_outside_of_motion_modules_stay():
    for key in ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight", "conv_norm_out.norm1.bias"):
        assert to_original(key, DIFFUSERS_KEYS) == {key}


def test_every_spelling_of_a_layer_is_read():
    block = f"{BLOCK}.attention_blocks.1"
    assert set(layer_spellings(f"{block}.to_out.0")) == {
        f"{block}.to_out.0",
        f"{block}.to_out",
        f"{block}.to_out.processor.0",
        f"{block}.processor.to_out",
        "lora_unet_" + f"{block}.to_out.0".replace(".", "_"),
    }


@pytest.mark.parametrize(
    "layout, attention, feed_forward",
    [
        (
            "AnimateDiff",
            f"{BLOCK}.attention_blocks.1.processor.to_out_lora.up.weight",
            ".ff.net.processor.2_lora.up.weight",
        ),
        (
            "MotionDirector",
            f"{BLOCK}.attention_blocks.1.to_out.processor.0_lora.up.weight",
            ".ff.net.processor.2_lora.up.weight",
        ),
        (
            "diffusers",
            "unet.down_blocks.0.motion_modules.1.transformer_blocks.0.attn2.to_out.0.lora_B.weight",
            ".ff.net.2.lora_B.weight",
        ),
    ],
)
def test_names_are_those_of_the_layout(layout, attention, feed_forward):
    file = motion_lora_file({f"{ATTENTION}.lora_up.weight": torch.ones(2, 2)}, layout)
    assert list(file) == [attention]
    file = motion_lora_file({f"{FEED_FORWARD}.lora_up.weight": torch.ones(2, 2)}, layout)
    assert next(iter(file)).endswith(feed_forward)


@pytest.mark.parametrize("layout", LORA_LAYOUTS)
@pytest.mark.parametrize("projections", PROJECTIONS)
def test_load_motion_lora_adds_what_training_added(tmp_path, layout, projections):
    motion, values = load_motion(tmp_path), trained(projections=projections)
    path = tmp_path / "lora.safetensors"
    write(motion_lora_file(values, layout, scale=0.5), {}, str(path))
    altered = apply_motion_lora(motion, str(path), 1.0)
    layers = {key.partition(".lora_")[0] for key in values}
    assert {key.removesuffix(".weight") for key in altered.patcher.patches} == layers
    for key, patches in altered.patcher.patches.items():
        up, down = patches[0][1].weights[:2]
        layer = key.removesuffix(".weight")
        expected = 0.5 * values[f"{layer}.lora_up.weight"] @ values[f"{layer}.lora_down.weight"]
        torch.testing.assert_close(up @ down, expected)


def test_diffusers_finds_the_same_noise_with_it(tmp_path):
    """AnimateDiffPipeline's `load_lora_weights`, against ComfyUI's sampler with Load Motion LoRA."""
    model, motion, values = make_model(), load_motion(tmp_path), trained()
    for layout in ("AnimateDiff", "diffusers"):
        write(motion_lora_file(values, layout), {}, str(tmp_path / f"{layout}.safetensors"))
    altered = apply_motion_lora(motion, str(tmp_path / "AnimateDiff.safetensors"), 1.0)
    with torch.inference_mode():
        predicted, x, timestep = oracle.noise_found(animate(model, altered), oracle.CFG)
    unet = oracle.make_oracle(model.model.diffusion_model, motion_state_dict("v2"))

    def expected() -> torch.Tensor:
        with torch.no_grad():
            positive, negative = (oracle.predict(unet, x, timestep, conditioning(seed)) for seed in (5, 6))
        return negative + (positive - negative) * oracle.CFG

    assert oracle.relative_error(predicted, expected()) > 1e-2
    pipeline: Any = AnimateDiffPipeline(None, None, None, unet, None, DDIMScheduler())  # type: ignore[arg-type]
    pipeline.load_lora_weights(str(tmp_path), weight_name="diffusers.safetensors")
    assert oracle.relative_error(predicted, expected()) < 1e-5


def test_a_domain_adapter_has_the_names_of_v3s_own():
    values = {"input_blocks.1.1.transformer_blocks.0.attn1.to_out.0.lora_down.weight": Parameter(torch.ones(2, 4))}
    names = {
        "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0": (
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
        )
    }
    file = domain_adapter_file(values, names, scale=0.5)
    assert list(file) == ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight"]
    up = {key.replace("lora_down", "lora_up"): value for key, value in values.items()}
    assert [float(weight.mean()) for weight in (*file.values(), *domain_adapter_file(up, names, 0.5).values())] == [
        1.0,
        0.5,
    ]
