"""What a file is: accepted in every wrapping, or refused by name."""

from __future__ import annotations

from dataclasses import replace

import diffusers_oracle as oracle
import numpy
import pytest
import torch
from comfy_support import motion_config, motion_state_dict
from picture_support import picture_weights

from animatediff_native.motion_models.formats import (
    HOTSHOT,
    LCM,
    LCM_I2V,
    LONG,
    PIA,
    SDXL,
    TABLE,
    V1,
    V2,
    V3,
    read_motion_file,
    stretch,
)

P = "down_blocks.0.motion_modules.0.temporal_transformer."
BLOCK = P + "transformer_blocks.0.attention_blocks.0."


def keys(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(2, 2) for name in names}


def prefixed(prefix: str, state_dict: dict) -> dict:
    return {prefix + key: tensor for key, tensor in state_dict.items()}


def without(state_dict: dict, part: str) -> dict:
    return {key: tensor for key, tensor in state_dict.items() if part not in key}


def with_positions(state_dict: dict, length: int) -> dict:
    return {k: torch.zeros(1, length, t.shape[2]) if k.endswith(".pe") else t for k, t in state_dict.items()}


@pytest.mark.parametrize(("name", "family"), [("v1", V1), ("v2", V2), ("v3", V3)])
def test_family_and_layout_are_read_from_the_keys(name, family):
    file = read_motion_file(motion_state_dict(name), "a.ckpt")
    assert file.family == family
    assert file.config == motion_config(name)
    assert file.family.unet_norms_over_frames == (name == "v1")


WRAPPED = {
    "state_dict": lambda sd: {"state_dict": sd, "epoch": 3, "global_step": 10},
    "trainer": lambda sd: {"state_dict": prefixed("module.", sd)},
    "deepspeed": lambda sd: {"module": prefixed("module.", sd)},
    "unet prefix": lambda sd: prefixed("unet.", sd),
    "model prefix": lambda sd: {"model": prefixed("model.", sd)},
    "config entry": lambda sd: {**sd, "animatediff_config": {"motion_module_type": "Vanilla"}},
    "whole unet": lambda sd: {
        **sd,
        **keys("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight", "time_embed.0.bias"),
    },
    "half": lambda sd: {key: tensor.half() for key, tensor in sd.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_wrappings_make_no_difference(wrap):
    state_dict = motion_state_dict("v3")
    file = read_motion_file(wrap(state_dict), "a.ckpt")
    assert file.family == V3
    assert file.state_dict.keys() == state_dict.keys()
    assert all(tensor.dtype == torch.float32 for key, tensor in file.state_dict.items() if key.endswith(".pe"))


def motion_with(*names: str, family: str = "v2") -> dict:
    return motion_state_dict(family) | keys(*names)


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1."
DIFFUSERS = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1."

# A part of the message -> a file that gets it.
REFUSED = {
    "a motion LoRA": lambda: keys(BLOCK + "processor.to_q_lora.down.weight", BLOCK + "processor.to_q_lora.up.weight"),
    "for this file use Load Motion LoRA": lambda: keys("unet." + DIFFUSERS + "to_q.lora_A.weight"),
    "a LoRA for the image model": lambda: keys(ATTENTION + "processor.to_q_lora.up.weight"),
    "use Load LoRA": lambda: keys("lora_unet_down_blocks_0_attentions_0_proj_in.alpha"),
    "for this file use Load SparseCtrl": lambda: {"controlnet": motion_with("controlnet_cond_embedding.weight")},
    "CameraCtrl": lambda: {"pose_encoder_state_dict": keys("encoder_conv_in.weight"), "lora_state_dict": {}},
    "CMCM": lambda: prefixed("module.", motion_with(P + "transformer_blocks.0.cc_projection.weight")),
    "OMCM": lambda: keys("conv_in.weight", "body.0.block1.weight"),
    "FancyVideo": lambda: {"module": motion_with("module.fps_embedding.linear.weight")},
    "without a positional encoding": lambda: without(motion_state_dict("v3"), "pos_encoder"),
    "Load ControlNet Model": lambda: keys("control_model.zero_convs.0.0.weight"),
    "Load Checkpoint": lambda: keys(
        "model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.quant_conv.bias"
    ),
    "Load VAE": lambda: keys("decoder.conv_in.weight", "encoder.conv_in.weight"),
    "Load Diffusion Model": lambda: keys("down_blocks.0.resnets.0.conv1.weight"),
    "is not a motion module": lambda: keys("something.else"),
    "not a motion module: choose": lambda: torch.zeros(3),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_by_name(kind):
    with pytest.raises(ValueError) as error:
        read_motion_file(REFUSED[kind](), "a.ckpt")
    message = str(error.value)
    assert message.startswith("a.ckpt is ")
    assert kind in message
    assert "\n" not in message and message.endswith(".")


def test_every_row_of_the_table_is_tested():
    assert len(TABLE) == len({V1, V2, V3, LONG, LCM, PIA, LCM_I2V, SDXL, HOTSHOT}) + len(
        {read_error(make()) for make in REFUSED.values()}
    )


def read_error(loaded) -> str:
    with pytest.raises(ValueError) as error:
        read_motion_file(loaded, "a.ckpt")
    return str(error.value)


BROKEN = {
    "proj_out.bias is missing": lambda sd: without(
        sd, "up_blocks.1.motion_modules.2.temporal_transformer.proj_out.bias"
    ),
    "proj_in.weight is missing": lambda sd: without(
        sd, "up_blocks.1.motion_modules.2.temporal_transformer.proj_in.weight"
    ),
    "down_blocks.1.motion_modules.0": lambda sd: without(sd, "down_blocks.1.motion_modules.0."),
    "shape [64, 3] instead of [64, 64]": lambda sd: (
        sd | {"down_blocks.1.motion_modules.0.temporal_transformer.proj_out.weight": torch.zeros(64, 3)}
    ),
    "shape [33, 33]": lambda sd: sd | {P + "proj_in.weight": torch.zeros(33, 33)},
    "holds NaN": lambda sd: sd | {P + "norm.bias": torch.full((32,), float("nan"))},
    "infinite": lambda sd: sd | {P + "proj_out.bias": torch.full((32,), float("inf"))},
    "unknown kind, with the key " + P + "extra": lambda sd: sd | {P + "extra": torch.zeros(2)},
}


@pytest.mark.parametrize("key", BROKEN)
def test_damage_is_reported_with_its_key(key):
    message = read_error(BROKEN[key](motion_state_dict("v2")))
    assert key in message
    assert "_blocks." in message
    assert "\n" not in message


def with_conv(shape: tuple[int, ...], state_dict: dict) -> dict:
    return state_dict | {"conv_in.weight": torch.zeros(shape), "conv_in.bias": torch.zeros(32)}


BROKEN_PICTURE_INPUT = {
    "conv_in.bias is missing": lambda sd: without(with_conv((32, 9, 3, 3), sd), "conv_in.bias"),
    "conv_in.weight has the shape [32, 9, 1, 1] instead of [32, 9, 3, 3]": lambda sd: with_conv((32, 9, 1, 1), sd),
    "a level of its down_blocks is missing": lambda sd: without(with_conv((32, 9, 3, 3), sd), "down_blocks."),
    "img_encoder.conv_in.bias is missing": lambda sd: sd | {"img_encoder.conv_in.weight": torch.zeros(32, 4, 3, 3)},
    "unknown kind, with the key img_encoder.extra": lambda sd: (
        sd | picture_weights("AnimateLCM-I2V") | keys("img_encoder.extra")
    ),
}


@pytest.mark.parametrize("what", BROKEN_PICTURE_INPUT)
def test_damage_to_the_part_that_sees_pictures_is_reported(what):
    assert what in read_error(BROKEN_PICTURE_INPUT[what](motion_state_dict("v2")))


def test_huge_indices_cost_nothing():
    file = motion_state_dict("v3") | keys("down_blocks.0.motion_modules.99999999.temporal_transformer.norm.weight")
    assert read_motion_file(file, "a.ckpt").config == motion_config("v3")


def test_motion_keys_behind_an_unknown_prefix_are_not_taken_for_a_module():
    message = read_error(prefixed("other.prefix.", motion_state_dict("v3")))
    assert "of an unknown kind, without" in message


def test_no_motion_key_in_its_place_is_no_empty_module():
    middle = {key: t for key, t in without(motion_state_dict("v2"), "pos_encoder").items() if "mid_block" in key}
    state_dict = prefixed("x.", middle)
    with pytest.raises(ValueError, match=r"unknown kind, with the key x\.mid_block"):
        read_motion_file(state_dict, "a.safetensors")


def test_a_damaged_positional_encoding_is_reported():
    file = motion_state_dict("v3")
    first = next(key for key in file if key.endswith("pos_encoder.pe"))
    assert f"{first} has the shape [3] instead of" in read_error(file | {first: torch.zeros(3)})


def test_a_video_vae_is_no_motion_module():
    assert "Load VAE" in read_error(keys("encoder.conv_in.weight", "decoder.mid.temporal_res_block.conv1.weight"))


def diffusers_layout(state_dict: dict) -> dict:
    return {oracle.rename(key): tensor for key, tensor in state_dict.items()}


def test_a_diffusers_file_without_positions_is_not_taken_for_animate_lcm():
    """It has the same parts as AnimateLCM's own file, in other words."""
    stripped = without(motion_state_dict("v2"), "pos_encoder")
    assert read_motion_file(stripped, "a.safetensors").family == LCM
    assert read_motion_file(diffusers_layout(stripped), "a.safetensors").family == V2


def test_without_middle_block_the_length_of_the_positions_decides():
    """A fine-tune of v1 that was given v3's 32 positions is sampled as v3 is; nothing else in it could tell."""
    state_dict = motion_state_dict("v1")
    assert read_motion_file(state_dict, "a.ckpt").family == V1
    assert read_motion_file(with_positions(state_dict, 32), "a.ckpt").family == V3


@pytest.mark.parametrize(("family", "trained"), [(V3, 16), (HOTSHOT, 8)])
def test_stretching_spreads_the_positions_of_the_trained_frames(family, trained):
    file = replace(read_motion_file(motion_state_dict("v3"), "a.ckpt"), family=family)
    wide = stretch(file, 40)
    assert wide.config == replace(file.config, pe_length=40)
    for key, tensor in wide.state_dict.items():
        if not key.endswith(".pe"):
            assert tensor is file.state_dict[key]
            continue
        known = file.state_dict[key][0].double().numpy()
        at = numpy.linspace(0, trained - 1, 40)
        expected = [numpy.interp(at, range(trained), known[:trained, c]) for c in range(known.shape[1])]
        assert tensor.dtype == torch.float32
        numpy.testing.assert_allclose(tensor[0].T.numpy(), expected, atol=1e-6)


def test_stretching_to_fewer_frames_than_trained_is_refused():
    file = read_motion_file(motion_state_dict("v3"), "a.ckpt")
    with pytest.raises(ValueError, match="AnimateDiff v3 was trained on 16 frames"):
        stretch(file, 16)
