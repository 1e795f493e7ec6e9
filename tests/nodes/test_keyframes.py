"""Keyframe Images and Apply AnimateDiff together."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from comfy_support import animate
from node_support import CHANNELS, ksampler, run
from picture_support import picture_weights, vae

from animatediff_native.sampling.keyframes import Keyframes, parse_positions
from animatediff_native.sampling.pictures import PictureSettings


@pytest.mark.parametrize("family", ["PIA", "AnimateLCM-I2V"])
def test_keyframes_and_their_settings_reach_the_motion_module(adn, apply, model, motion_folder, family):
    safetensors.torch.save_file(picture_weights(family, CHANNELS), motion_folder / "picture.safetensors")
    motion = run(adn["ADN_LoadMotionModule"], motion_module="picture.safetensors")
    images = torch.rand(2, 64, 48, 3, generator=torch.Generator().manual_seed(8))
    curve = run(adn["ADN_MotionCurve"], keyframes="0: 1, -1: 0.5")
    keyframes = run(adn["ADN_KeyframeImages"], images=images, frames="0, -1", vae=vae())
    animated = apply(
        model, motion, keyframes=keyframes, keyframe_motion="large", keyframe_strength=curve, keyframe_drift=0.5
    )
    pictures = Keyframes(images, parse_positions("0, -1"), vae())
    settings = PictureSettings(pictures, motion="large", strength=curve, drift=0.5)
    assert torch.equal(ksampler(animated), ksampler(animate(model, motion, pictures=settings)))
    assert not torch.equal(ksampler(animated), ksampler(apply(model, motion, keyframes=keyframes)))
