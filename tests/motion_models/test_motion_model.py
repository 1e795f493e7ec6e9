"""The motion module alone: parity with diffusers, and what it promises about chunks, strength and types."""

from __future__ import annotations

from typing import Any

import comfy.ops
import pytest
import torch
from comfy_support import motion_config, randomise
from diffusers.models.attention import FreeNoiseTransformerBlock
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from diffusers_oracle import PerFrame, relative_error, rename

from animatediff_native.motion_models import motion_model
from animatediff_native.motion_models.motion_model import (
    AttentionWindows,
    MotionModel,
    MotionModelConfig,
    MotionModule,
    sinusoids,
    zero_output,
)

CHANNELS, FRAMES, CONDS = 64, 6, 2


def make_module(operations: Any = torch.nn, dtype: torch.dtype | None = None, **options: Any) -> Any:
    config = MotionModelConfig.for_unet((CHANNELS,), mid=False, **options)
    module = MotionModule(CHANNELS, config, operations, dtype=dtype, device=None)
    randomise(module, 1)
    return module


def features(height: int = 5, width: int = 3) -> torch.Tensor:
    return torch.randn(CONDS * FRAMES, CHANNELS, height, width, generator=torch.Generator().manual_seed(2))


def oracle_for(module: MotionModule, *, per_frame: bool) -> AnimateDiffTransformer3D:
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=8,
        attention_head_dim=CHANNELS // 8,
        in_channels=CHANNELS,
        activation_fn="geglu",
        attention_bias=False,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    ).eval()
    weights = {rename("." + key).removeprefix("."): tensor for key, tensor in module.state_dict().items()}
    expected = theirs.state_dict()
    theirs.load_state_dict({key: weights[key] for key in expected})
    if per_frame:
        theirs.norm.__class__ = PerFrame
    return theirs


def oracle_output(module: MotionModule, x: torch.Tensor, *, per_frame: bool) -> torch.Tensor:
    return oracle_for(module, per_frame=per_frame)(x, num_frames=FRAMES)


@pytest.mark.parametrize("operations", [torch.nn, comfy.ops.manual_cast])
def test_equals_diffusers_with_per_frame_norm(operations):
    module, x = make_module(operations), features()
    assert relative_error(module(x, FRAMES), oracle_output(module, x, per_frame=True)) < 1e-5


def test_norm_over_frames_equals_stock_diffusers():
    module, x = make_module(norm_over_frames=True), features()
    expected = oracle_output(module, x, per_frame=False)
    assert relative_error(module(x, FRAMES), expected) < 1e-5
    assert relative_error(make_module()(x, FRAMES), expected) > 1e-3, "the two norm scopes have to differ"


def test_chunks_do_not_change_the_result(monkeypatch):
    module, x = make_module(), features()
    whole = module(x, FRAMES)
    monkeypatch.setattr(motion_model, "CHUNK_BYTES_CPU", 1)
    assert relative_error(module(x, FRAMES), whole) < 1e-6  # of the norm: single values near zero differ by the CPU


def test_clips_do_not_mix():
    """Frames of one cond never reach another."""
    module, x = make_module(), features()
    alone = module(x[:FRAMES], FRAMES)
    torch.testing.assert_close(module(x, FRAMES)[:FRAMES], alone, rtol=1e-5, atol=1e-6)


def test_strength_scales_what_is_added():
    module, x = make_module(), features()
    branch = module(x, FRAMES) - x
    torch.testing.assert_close(module(x, FRAMES, strength=0.3), x + 0.3 * branch)
    assert module(x, FRAMES, strength=0.0) is x


def test_strength_of_each_frame_and_place_scales_what_is_added_there():
    module, x = make_module(), features()
    strength = torch.rand(CONDS * FRAMES, 1, *x.shape[2:], generator=torch.Generator().manual_seed(3))
    strength[2] = strength[:, :, 1, 1] = 0.0
    output = module(x, FRAMES, strength=strength)
    torch.testing.assert_close(output, x + strength * (module(x, FRAMES) - x))
    assert torch.equal(output[2], x[2])
    assert torch.equal(output[:, :, 1, 1], x[:, :, 1, 1])


@pytest.mark.parametrize("scale", [1.7, 0.0, -0.5])
def test_one_scale_everywhere_equals_the_number(scale):
    module, x = make_module(), features()
    everywhere = torch.full((CONDS * FRAMES, 1, 1, 1), scale)
    expected = module(x, FRAMES, motion_scale=scale)
    assert relative_error(module(x, FRAMES, motion_scale=everywhere), expected) < 1e-5
    assert relative_error(expected, module(x, FRAMES)) > 1e-3


def test_scale_multiplies_the_keys_of_its_frame_and_place(monkeypatch):
    """Against attention written out for one pixel of one cond at a time."""
    module, x = make_module(), features()
    scale = torch.rand(CONDS * FRAMES, 1, *x.shape[2:], generator=torch.Generator().manual_seed(3)) * 3
    expected = module(x, FRAMES)
    for cond in range(CONDS):
        of_cond = slice(cond * FRAMES, (cond + 1) * FRAMES)
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                expected[of_cond, :, row, column] = with_scaled_keys(
                    module, monkeypatch, x[of_cond], scale[of_cond, 0, row, column]
                )[:, :, row, column]
    assert relative_error(module(x, FRAMES, motion_scale=scale), expected) < 1e-5
    monkeypatch.setattr(motion_model, "CHUNK_BYTES_CPU", 1)
    assert relative_error(module(x, FRAMES, motion_scale=scale), expected) < 1e-5


def with_scaled_keys(module: Any, monkeypatch: Any, x: torch.Tensor, of_frames: torch.Tensor) -> torch.Tensor:
    """The module with the attention of "Attention Is All You Need", equation 1, its keys multiplied frame by frame."""

    def attend(q, k, v, heads, motion_scale):
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k * of_frames[:, None], v))
        out = ((q @ k.mT) * motion_scale / q.shape[-1] ** 0.5).softmax(-1) @ v
        return out.transpose(1, 2).flatten(2)

    with monkeypatch.context() as patched:
        patched.setattr(motion_model, "attend", attend)
        return module(x, x.shape[0])


def test_motion_scale_multiplies_the_keys():
    module, x = make_module(), features()
    scaled = module(x, FRAMES, motion_scale=1.28)
    for block in module.temporal_transformer.transformer_blocks[0].attention_blocks:
        block.to_k.weight.mul_(1.28)
    torch.testing.assert_close(scaled, module(x, FRAMES), rtol=1e-4, atol=1e-5)


def test_input_is_left_alone():
    module, x = make_module(), features()
    before = x.clone()
    module(x, FRAMES)
    assert torch.equal(x, before)


@pytest.mark.autograd
def test_training_computes_what_inference_does():
    module, x = make_module(), features()
    trained = module(x, FRAMES)
    trained.square().sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(module(x, FRAMES), trained.detach(), rtol=1e-5, atol=1e-6)
    without = {name for name, p in module.named_parameters() if p.grad is None}
    assert all(name.endswith("pos_encoder.pe") for name in without)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type_and_stays_close(dtype):
    module, x = make_module(comfy.ops.manual_cast), features()
    half = module(x.to(dtype), FRAMES)
    assert half.dtype == dtype
    assert relative_error(half.float(), module(x, FRAMES)) < (2e-3 if dtype == torch.float16 else 2e-2)


def test_positions_stay_fp32_in_a_half_precision_model():
    module = make_module(comfy.ops.manual_cast, dtype=torch.float16)
    block = module.temporal_transformer.transformer_blocks[0].attention_blocks[0]
    assert block.to_q.weight.dtype == torch.float16
    assert torch.equal(block.pos_encoder.pe, sinusoids(32, CHANNELS))


def test_positional_encodings_are_one_family():
    assert torch.equal(sinusoids(32, 64)[:, :24], sinusoids(24, 64))


def test_zero_output_makes_the_identity():
    model: Any = MotionModel(motion_config())
    x = torch.randn(FRAMES, 32, 4, 4)
    zero_output(model)
    assert torch.equal(model.down_blocks[0].motion_modules[0](x, FRAMES), x)


@pytest.mark.parametrize(("family", "millions"), [("v1", 417.14), ("v2", 453.21), ("v3", 417.14)])
def test_full_size_has_the_published_number_of_parameters(family, millions):
    model = MotionModel(motion_config(family, (320, 640, 1280, 1280)), device=torch.device("meta"))
    count = sum(p.numel() for name, p in model.named_parameters() if not name.endswith(".pe"))
    assert round(count / 1e6, 2) == millions


def windows_of(frames: int, starts: list[int], length: int) -> AttentionWindows:
    """Windows from these first frames, blended with pyramid weights."""
    pyramid = torch.minimum(torch.arange(1.0, length + 1), torch.arange(float(length), 0, -1))
    total = torch.zeros(frames)
    for start in starts:
        total[start : start + length] += pyramid
    ranges = [list(range(start, start + length)) for start in starts]
    return AttentionWindows.of(ranges, [pyramid / total[window] for window in ranges], torch.device("cpu"))


@pytest.mark.parametrize(("frames", "stride"), [(12, 4), (20, 6), (8, 8)])
def test_windows_inside_of_the_module_are_those_of_freenoise(frames, stride):
    """diffusers' transformer block for FreeNoise, with as many windows as fit the clip exactly."""
    length = 8
    module = make_module()
    x = torch.randn(CONDS * frames, CHANNELS, 5, 3, generator=torch.Generator().manual_seed(2))
    theirs = oracle_for(module, per_frame=True)
    block: Any = FreeNoiseTransformerBlock(
        CHANNELS, 8, CHANNELS // 8, positional_embeddings="sinusoidal", num_positional_embeddings=32,
        double_self_attention=True, context_length=length, context_stride=stride,
    )  # fmt: skip
    block.load_state_dict(theirs.transformer_blocks[0].state_dict())
    theirs.transformer_blocks[0] = block
    windows = windows_of(frames, list(range(0, frames - length + 1, stride)), length)
    assert relative_error(module(x, frames, windows=windows), theirs(x, num_frames=frames)) < 1e-5


def test_a_window_of_all_frames_is_no_window():
    module, x = make_module(), features()
    assert torch.equal(module(x, FRAMES, windows=windows_of(FRAMES, [0], FRAMES)), module(x, FRAMES))


def test_scale_of_each_frame_follows_it_into_the_windows():
    """One window's frames alone give what they give in the clip, where no other window has them."""
    module, length, frames = make_module(), 4, 8
    x = torch.randn(frames, CHANNELS, 5, 3, generator=torch.Generator().manual_seed(2))
    scale = torch.linspace(0.5, 2.0, frames).view(-1, 1, 1, 1)
    clip = module(x, frames, 1.0, scale, windows_of(frames, [0, 4], length))
    torch.testing.assert_close(clip[4:], module(x[4:], length, 1.0, scale[4:]), rtol=1e-5, atol=1e-6)


def test_windows_may_hold_more_frames_than_there_are_positions():
    module, frames = make_module(pe_length=8), 20
    x = torch.randn(frames, CHANNELS, 2, 2)
    assert torch.isfinite(module(x, frames, windows=windows_of(frames, [0, 6, 12], 8))).all()
