"""A camera's way in a sampling run: what motion modules see of it, in every way that a clip can be sampled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from camera_support import camera_weights, encoded, follow
from comfy_support import animate, load_motion, sample
from node_support import CHANNELS, POSITIVE, error, guided, ksampler, predict
from torch import Tensor

from animatediff_native.motion_models import motion_model
from animatediff_native.motion_models.schedules import KEEP
from animatediff_native.sampling.camera import encoder_windows
from animatediff_native.sampling.camera_path import CameraPath
from animatediff_native.sampling.cameras import Cameras, plucker_embedding
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions
from animatediff_native.sampling.curves import FRAMES as OVER_FRAMES
from animatediff_native.sampling.curves import SAMPLING, Curve, from_mask, from_numbers, parse
from animatediff_native.sampling.windows import fuse_weights, windows

WAY = "0: still\n-1: pan 60 up 2 forward 3 roll 20"


@pytest.fixture(scope="module")
def module(folder) -> Any:
    return load_motion(folder, "v3", channels=CHANNELS)


@pytest.fixture(scope="module")
def filmed(folder, model, module):
    """The model with a module that follows a camera."""

    def make(text: str = WAY, settings: dict[str, Any] | None = None, **options: Any) -> Any:
        followed = follow(folder, module, text, CHANNELS, **options)
        return animate(model, followed, beta_schedule=KEEP, **(settings or {}))

    return make


def seen_features(cameras: Cameras, frames: list[int], size: int = 8) -> list[Tensor]:
    """The paper's features of a window whose first camera stands in the origin."""
    rays = plucker_embedding(Cameras(*(of_clip[frames] for of_clip in cameras)), 8 * size, 8 * size)
    return encoded(camera_weights(CHANNELS), rays)


def recorded(model: Any, **options: Any) -> list[Tensor]:
    """What the camera adds in the first motion module of the way down, for each pass through its layer: the tokens of
    one cond, pixels f c. Both conds are given the same."""
    animated_camera = next(m for (m,) in model.additional_models.values() if hasattr(m.model, "qkv_merge"))
    layer, seen = animated_camera.model.merge_of("down_blocks.0.motion_modules.0"), []
    motion = next(m for (m,) in model.additional_models.values() if hasattr(m.model, "down_blocks")).model
    first = motion.down_blocks[0].motion_modules[0].temporal_transformer.transformer_blocks[0].attention_blocks[0]
    before: list[Tensor] = []
    handles = [
        first.pos_encoder.register_forward_hook(lambda _m, _a, out: before.append(out.clone())),
        layer.register_forward_pre_hook(lambda _m, args: seen.append(args[0] - before.pop())),
    ]
    try:
        sample(model, **{"steps": 1, "size": 8, **options})
    finally:
        for handle in handles:
            handle.remove()
    return seen


def rows(features: Tensor) -> Tensor:
    return features.permute(2, 3, 0, 1).flatten(0, 1)


@pytest.mark.parametrize(
    "options",
    [
        None,
        ContextOptions(6, 2, "static"),
        ContextOptions(6, 2, "closed loop", stride=1),
        ContextOptions(6, 2, "static", at_once=3),
        ContextOptions(6, 2, within=MOTION),
    ],
    ids=lambda options: f"{options.schedule} {options.at_once} {options.within}" if options else "whole clip",
)
def test_every_window_sees_its_own_frames_from_its_first_on(filmed, options):
    clip, cameras = filmed(), CameraPath.parse(WAY).cameras(14)
    frames: list[Any] = []
    clip = apply_sliding_context(clip, options) if options else clip
    clip.set_model_attn1_patch(lambda q, k, v, o: frames.append(o["ad_params"]["sub_idxs"] or range(14)) or (q, k, v))
    seen = recorded(clip, frames=14)
    if options is None or options.within == MOTION:
        calls = [list(range(14))] * len(seen)
        parts = [list(range(14))] if options is None else windows("static", 14, 6, 2)
    else:
        calls = [list(indices) for indices in frames[:: len(frames) // len(seen)]]
        parts = None
    for tokens, call in zip(seen, calls, strict=True):
        of_call = parts or [call[start : start + 6] for start in range(0, len(call), 6)]
        expected = [rows(seen_features(cameras, part)[0]) for part in of_call]
        if options is not None and options.within == MOTION:
            expected = torch.stack(expected, dim=1).flatten(0, 1)  # the windows of a pixel are side by side
        else:
            expected = torch.cat(expected)
        assert error(tokens, expected.repeat(len(tokens) // len(expected), 1, 1)) < 1e-5
        assert len(tokens) in (len(expected), 2 * len(expected))


def test_more_frames_than_the_encoder_has_positions_for_go_through_it_in_halves_over_each_other(filmed):
    parts = windows("static", 20, 16, 8)
    assert parts == [list(range(16)), list(range(4, 20))]
    fused = fuse_weights("pyramid", parts, 20, 8)
    clip = filmed()
    (short,) = recorded(filmed(), frames=16)
    (long,) = recorded(clip, frames=20)
    assert long.shape[1] == 20 and short.shape[1] == 16
    network = next(m for (m,) in clip.additional_models.values() if hasattr(m.model, "qkv_merge")).model
    block = network.encoder_down_attention_blocks[0][0]
    x = torch.randn(2, 20, CHANNELS[0])
    windowed = block(x.clone(), 1.0, encoder_windows(20, 16, torch.device("cpu")))
    attended = [block.attend(x[:, part].clone(), 1.0, None) for part in parts]
    blended = torch.zeros_like(x)
    for part, weight, values in zip(parts, fused, attended, strict=True):
        blended[:, part] += values * weight[:, None]
    torch.testing.assert_close(windowed, blended + block.ff(block.ff_norm(blended)))


def test_the_camera_changes_the_clip_and_strength_0_is_bit_equal_to_none(model, module, filmed):
    without = ksampler(animate(model, module, beta_schedule=KEEP))
    assert torch.equal(ksampler(filmed(strength=0.0)), without)
    assert torch.equal(ksampler(filmed(strength=Curve(parse("0: 0", OVER_FRAMES)))), without)
    full = ksampler(filmed())
    assert error(full, without) > 0.01
    assert torch.equal(ksampler(filmed(strength=Curve(from_numbers([1.0] * 6)))), full)
    assert error(ksampler(filmed("0: still")), full) > 0.001


def test_a_second_use_of_the_module_sees_no_camera(module, filmed):
    both = animate(filmed(), module, beta_schedule=KEEP)
    alone = recorded(filmed())
    assert len(recorded(both)) == len(alone) > 0
    assert error(ksampler(both), ksampler(filmed())) > 0.01


def test_strength_changes_over_frames_the_picture_and_the_sampling(model, module, filmed):
    half = [0.5] * 6
    assert error(ksampler(filmed(strength=Curve(from_numbers(half)))), ksampler(filmed(strength=0.5))) < 1e-5
    mask = torch.ones(1, 8, 8)
    assert error(ksampler(filmed(strength=Curve(from_mask(mask, 0.0, 0.5)))), ksampler(filmed(strength=0.5))) < 1e-5
    mask[..., :4] = 0.0
    left = ksampler(filmed(strength=Curve(from_mask(mask, 0.0, 0.5))))
    assert error(left, ksampler(filmed(strength=0.5))) > 1e-3
    over = Curve(parse("0 hold: 1; 0.5: 0", SAMPLING), SAMPLING)
    ended = ksampler(filmed(strength=over), steps=4)
    assert error(ended, ksampler(filmed(), steps=4)) > 1e-4
    assert error(ended, ksampler(animate(model, module, beta_schedule=KEEP), steps=4)) > 1e-4


def test_windows_inside_the_motion_modules_take_strengths_of_their_frames(filmed):
    """A number for each frame, all alike, is the number alone."""
    options = ContextOptions(6, 2, within=MOTION)
    alone, each = (
        ksampler(apply_sliding_context(filmed(strength=s), options), frames=14)
        for s in (0.5, Curve(from_numbers([0.5] * 14)))
    )
    assert error(each, alone) < 1e-5


@pytest.mark.parametrize("within", [None, MOTION])
def test_pixels_that_go_through_a_module_one_after_the_other_keep_their_features_and_strengths(
    filmed, monkeypatch, within
):
    mask = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(2))
    clip = filmed(strength=Curve(from_mask(mask, 0.0, 1.0)))
    clip = apply_sliding_context(clip, ContextOptions(4, 2, within=within)) if within else clip
    expected = ksampler(clip)
    monkeypatch.setattr(motion_model, "CHUNK_BYTES_CPU", 70_000)
    calls = len(recorded(clip))
    monkeypatch.undo()
    assert calls > 2 * len(recorded(clip)), "in several parts"
    monkeypatch.setattr(motion_model, "CHUNK_BYTES_CPU", 70_000)
    assert error(ksampler(clip), expected) < 1e-5


def test_prompts_with_areas_see_the_rays_of_their_area(filmed):
    area = [[POSITIVE[0][0], {"area": (4, 8, 2, 0), "strength": 1.0}], *POSITIVE]
    clip, cameras = filmed(), CameraPath.parse(WAY).cameras(6)
    seen = recorded(clip, positive=area, cfg=1.0)
    rays = plucker_embedding(cameras, 64, 64)[..., 16:48, :]
    expected = {32: rows(encoded(camera_weights(CHANNELS), rays)[0]), 64: rows(seen_features(cameras, [*range(6)])[0])}
    assert sorted(len(tokens) for tokens in seen) == [32, 64]
    for tokens in seen:
        assert error(tokens, expected[len(tokens)]) < 1e-5


@pytest.mark.parametrize("size", [5, 9])
def test_sizes_that_are_no_multiple_of_64_pixels_have_features_of_the_unets_size(filmed, size):
    (seen,) = recorded(filmed(), size=size, cfg=1.0)
    expected = rows(seen_features(CameraPath.parse(WAY).cameras(6), [*range(6)], size)[0])
    assert error(seen, expected) < 1e-5


def test_a_single_frame_and_a_resting_module_need_no_camera(model, module, filmed):
    assert torch.equal(ksampler(filmed(), frames=1), ksampler(animate(model, module, beta_schedule=KEEP), frames=1))
    resting = filmed(settings={"start_percent": 0.5, "end_percent": 0.5})
    assert torch.equal(ksampler(resting), ksampler(model))


def test_guidance_is_linear_in_predictions_that_both_see_the_camera(filmed):
    clip = filmed()
    positive, negative = predict(clip, POSITIVE), predict(clip, [[POSITIVE[0][0].flip(1), {}]])
    found = guided(clip, POSITIVE, [[POSITIVE[0][0].flip(1), {}]], 3.0)
    assert error(found, negative + (positive - negative) * 3.0) < 1e-5


def test_cameras_that_a_clip_cannot_have_stop_before_sampling(filmed):
    with pytest.raises(ValueError, match="frame 3 is already taken by line 1"):
        ksampler(filmed("2-4: pan 1\n3: pan 2"))
