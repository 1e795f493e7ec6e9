"""The closed-form encoder, in the layout that ComfyUI loads."""

from __future__ import annotations

import torch
from comfy.taesd.taesd import TAESD

from animatediff_native.demo import autoencoder, shapes


def test_taesd_encoder_is_exactly_the_patch_projection():
    weight, bias = autoencoder.projection()
    model = TAESD(latent_channels=autoencoder.CHANNELS)
    autoencoder.write_encoder(model, weight, bias)
    model.vae_scale.data.fill_(autoencoder.SPREAD * autoencoder.SCALE_FACTOR)
    pictures = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    latents = model.encode(pictures * 2 - 1) * autoencoder.SCALE_FACTOR
    expected = autoencoder.encode(pictures, weight, bias)
    assert (latents - expected).norm() / expected.norm() < 1e-5


def test_latents_have_mean_zero_and_unit_variance():
    scene = shapes.random_scene(128, torch.Generator().manual_seed(8))
    latents = autoencoder.encode(
        torch.cat([shapes.draw(scene, look) for look in shapes.LOOKS]), *autoencoder.projection()
    )
    assert latents.mean((0, 2, 3)).abs().max() < 0.1
    assert (latents.var((0, 2, 3)) - 1).abs().max() < 0.25
