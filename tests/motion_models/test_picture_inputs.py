"""The parts of motion models that see pictures, against diffusers and against formulas of the papers."""

from __future__ import annotations

from typing import Any

import diffusers_oracle as oracle
import pytest
import torch
import torch.nn.functional as F
from comfy_support import CHANNELS, CONTEXT, animate, conditioning, make_model
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from picture_support import keyframes, latents_of, load_picture_motion, picture_weights
from torch import Tensor

from animatediff_native.motion_models.motion_model import sinusoids
from animatediff_native.motion_models.picture_inputs import PictureEncoder
from animatediff_native.sampling.pictures import PictureSettings

FRAMES = oracle.FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("animatediff_models")


def guided(net: Any, x: Tensor, timestep: Tensor) -> Tensor:
    positive, negative = (oracle.predict(net, x, timestep, conditioning(seed)) for seed in (5, 6))
    return negative + (positive - negative) * oracle.CFG


def merged_pia(unet: Any, weights: dict[str, Tensor]) -> UNetMotionModel:
    """ComfyUI's UNet and a PIA file, put together by diffusers into a UNet of nine channels, with PIA's norms."""
    four = oracle.make_oracle(unet, weights)
    plain = UNet2DConditionModel(
        block_out_channels=CHANNELS, cross_attention_dim=CONTEXT, attention_head_dim=8, norm_num_groups=32
    )
    plain.load_state_dict({key: tensor for key, tensor in four.state_dict().items() if key in plain.state_dict()})
    adapter = MotionAdapter(
        block_out_channels=CHANNELS, motion_max_seq_length=32, use_motion_mid_block=False, conv_in_channels=9
    )
    renamed = {oracle.rename(key): tensor for key, tensor in weights.items()}
    adapter.load_state_dict({key: tensor for key, tensor in renamed.items() if key in adapter.state_dict()})
    merged: Any = UNetMotionModel.from_unet2d(plain, adapter)
    merged.eval()
    for theirs, ours in zip(merged.modules(), four.modules(), strict=True):
        if isinstance(ours, oracle.PerFrame):
            theirs.__class__ = oracle.PerFrame
    oracle.res_norms_over_frames(merged, FRAMES)
    return merged


@pytest.fixture(scope="module")
def merged():
    with torch.inference_mode():
        return merged_pia(make_model().model.diffusion_model, picture_weights("PIA"))


SMALL = [1, 0.9, 0.85, 0.85, 0.85, 0.8]


@pytest.mark.parametrize(
    ("at", "count", "affinity", "nearest"),
    [
        ("0", 1, SMALL, [0] * 6),
        ("2", 1, [0.85, 0.9, 1, 0.9, 0.85, 0.85], [0] * 6),
        ("0, -1", 2, [1, 0.9, 0.8, 0.8, 0.9, 1], [0, 0, 0, 1, 1, 1]),
        (None, 0, [0] * 6, None),
    ],
)
def test_pia_sees_what_diffusers_shows_to_its_nine_channels(folder, merged, at, count, affinity, nearest):
    """Noisy latent, affinity, picture; and over all frames the norms of the UNet's ResBlocks."""
    plain, motion = make_model(), load_picture_motion(folder, "PIA")
    pictures = keyframes(at, count) if at else None
    latents = latents_of(pictures)[nearest] if pictures else torch.zeros(FRAMES, 4, 8, 8)
    found, x, timestep = oracle.noise_found(animate(plain, motion, pictures=PictureSettings(pictures)), oracle.CFG)
    mask = torch.tensor(affinity).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    expected = guided(merged, torch.cat([x, mask, latents], dim=1), timestep)
    assert oracle.relative_error(found, expected) < 1e-5


def encoded(weights: dict[str, Tensor], latents: Tensor, drift: float) -> list[Tensor]:
    """AnimateLCM-I2V's encoder in words of functions: convolution, the frames' sinusoids, two blocks a level."""
    w = {key.removeprefix("img_encoder."): tensor for key, tensor in weights.items()}
    position = torch.arange(len(latents))[:, None] / 10000.0 ** (torch.arange(0, CHANNELS[0], 2) / CHANNELS[0])
    encoding = torch.stack([position.sin(), position.cos()], dim=-1).flatten(1)
    x, features = F.conv2d(latents, w["conv_in.weight"], w["conv_in.bias"], padding=1), []
    x = x + drift * encoding[:, :, None, None]
    for i in range(8):
        if i in (2, 4, 6):
            h, width = x.shape[-2:]
            x = F.avg_pool2d(F.pad(x, (0, width % 2, 0, h % 2), mode="replicate"), 2)
        if f"body.{i}.in_conv.weight" in w:
            x = F.conv2d(x, w[f"body.{i}.in_conv.weight"], w[f"body.{i}.in_conv.bias"])
        h = F.conv2d(x, w[f"body.{i}.block1.weight"], w[f"body.{i}.block1.bias"], padding=1).relu()
        x = x + F.conv2d(h, w[f"body.{i}.block2.weight"], w[f"body.{i}.block2.bias"])
        features += [x] if i % 2 else []
    return features


def test_the_encoder_is_that_of_the_paper_in_odd_sizes_too():
    weights = picture_weights("AnimateLCM-I2V")
    assert sum(key.startswith("img_encoder.") for key in weights) == 2 + 8 * 4 + 2 * 2
    encoder = PictureEncoder(CHANNELS, torch.nn)
    encoder.load_state_dict(
        {key.removeprefix("img_encoder."): t for key, t in weights.items() if key.startswith("img_encoder.")}
    )
    latents = torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    found = encoder(latents, 0.8 * sinusoids(3, CHANNELS[0])[0])
    for ours, expected in zip(found, encoded(weights, latents, 0.8), strict=True):
        assert oracle.relative_error(ours, expected) < 1e-6
    assert [tuple(x.shape[1:]) for x in found] == [(32, 5, 7), (64, 3, 4), (128, 2, 2), (128, 1, 1)]


@pytest.mark.parametrize(("strength", "drift"), [(1.0, 0.8), (0.5, 0.0), (0.0, 0.8)])
def test_animate_lcm_i2v_adds_its_features_before_the_second_module_of_every_level(folder, strength, drift):
    plain, motion = make_model(), load_picture_motion(folder, "AnimateLCM-I2V")
    pictures, weights = keyframes("0"), picture_weights("AnimateLCM-I2V")
    settings = PictureSettings(pictures, strength=strength, drift=drift)
    animated = animate(plain, motion, pictures=settings, beta_schedule="AnimateDiff SD1.5")
    found, x, timestep = oracle.noise_found(animated, oracle.CFG)
    net: Any = oracle.make_oracle(plain.model.diffusion_model, motion.patcher.model.state_dict())
    for block, features in zip(
        net.down_blocks, encoded(weights, latents_of(pictures).expand(FRAMES, -1, -1, -1), drift), strict=True
    ):
        block.motion_modules[1].register_forward_pre_hook(
            lambda _module, args, features=features: (args[0] + strength * features, *args[1:])
        )
    assert oracle.relative_error(found, guided(net, x, timestep)) < 1e-5
