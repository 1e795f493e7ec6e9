"""Trains the miniature's autoencoder: 96 px picture <-> 4 x 12 x 12 latent, in the TAESD layout that ComfyUI loads.

The encoder needs no training: it is the first four principal components of 8 x 8 patches, written into TAESD's
convolutions exactly. The decoder is trained to reconstruct the picture from them.
"""

import functools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from comfy.taesd.taesd import TAESD
from torch import Tensor

from ..training.loop import FitOptions, Training, seeded
from . import shapes

PATCH = 8
CHANNELS = 4
SCALE_FACTOR = 0.18215  # ComfyUI multiplies SD1.5 latents by it (latent_formats.SD15)
SPREAD = 0.6  # TAESD's decoder squashes its input to [-3, 3]: latents of unit variance are scaled to lie well inside


def principal_components(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (4, 3, 8, 8) and bias (4,) of the patch projection whose outputs have mean 0 and variance 1."""
    patches = F.unfold(pictures, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    basis = vectors[:, -CHANNELS:].flip(-1) / values[-CHANNELS:].flip(-1).sqrt()
    basis = basis * basis.sum(0).sign()
    return basis.T.float().reshape(CHANNELS, 3, PATCH, PATCH), -(mean @ basis).float()


def encode(pictures: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the latents (n, 4, h / 8, w / 8), of unit variance for the diffusion model, of pictures in [0, 1]."""
    return F.conv2d(pictures, weight, bias, stride=PATCH)


def write_encoder(model: TAESD, weight: Tensor, bias: Tensor) -> None:
    """Set TAESD's encoder to the projection: three stride-2 convolutions gather 2, 4 and 8 px blocks.

    Pictures are not negative, so ReLU passes them unchanged and every residual branch can be zero. The projection's
    positive and negative parts take two channels each.
    """
    encoder: Any = model.taesd_encoder
    for parameter in encoder.parameters():
        parameter.data.zero_()
    strided = [layer for layer in encoder if getattr(layer, "stride", None) == (2, 2)]
    encoder[0].weight.data[torch.arange(3), torch.arange(3), 1, 1] = 1
    for level, layer in enumerate(strided[:2]):
        channels = 3 * 4**level
        for dy in range(2):
            for dx in range(2):
                out = (dy * 2 + dx) * channels + torch.arange(channels)
                layer.weight.data[out, torch.arange(channels), 1 + dy, 1 + dx] = 1

    # Channel (second block, first block, colour) of the gathered 4 px blocks; the third convolution's taps choose
    # among four of those. Pixel = 4 * tap + 2 * second + first.
    taps = weight.reshape(CHANNELS, 3, 2, 2, 2, 2, 2, 2)  # o, colour, (tap, second, first) of y, then of x
    taps = taps.permute(0, 3, 6, 4, 7, 1, 2, 5)  # o, second y, second x, first y, first x, colour, tap y, tap x
    taps = taps.reshape(CHANNELS, 48, 2, 2)
    strided[2].weight.data[:CHANNELS, :48, 1:, 1:] = taps
    strided[2].weight.data[CHANNELS : 2 * CHANNELS, :48, 1:, 1:] = -taps
    last = encoder[len(encoder) - 1]
    for channel in range(CHANNELS):
        last.weight.data[channel, channel, 1, 1] = SPREAD
        last.weight.data[channel, CHANNELS + channel, 1, 1] = -SPREAD
    last.bias.data.copy_(bias * SPREAD)


def train(run_dir: Path, steps: int) -> TAESD:
    """Return the autoencoder with its decoder trained."""
    weight, bias = projection()
    torch.manual_seed(0)
    model = TAESD(latent_channels=CHANNELS)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.Conv2d.reset_parameters(layer)
    write_encoder(model, weight, bias)
    model.vae_scale.data.fill_(SPREAD * SCALE_FACTOR)
    parameters = dict(model.taesd_decoder.named_parameters())
    training = Training(run_dir / "autoencoder.pt", parameters, FitOptions(steps, learning_rate=1e-3))
    training.run(seeded(lambda generator: _loss(model, weight, bias, generator), seed=0))
    return model


@functools.cache
def projection() -> tuple[Tensor, Tensor]:
    """Return the encoder's weight and bias, fitted to drawn pictures of every look."""
    scene = shapes.random_scene(256, torch.Generator().manual_seed(1))
    return principal_components(torch.cat([shapes.draw(scene, look) for look in shapes.LOOKS]))


def _loss(model: TAESD, weight: Tensor, bias: Tensor, generator: torch.Generator, crop: int = 5) -> Tensor:
    """Return the mean error on crops of crop x crop latents around the shapes, with a little of a sampler's noise."""
    scene = shapes.random_scene(12, generator)
    pictures = torch.cat([shapes.draw(_rows(scene, i), look) for i, look in enumerate(shapes.LOOKS)])
    latents = encode(pictures, weight, bias)
    latents = latents + 0.05 * torch.randn(latents.shape, generator=generator)
    jitter = torch.randint(-2, 1, scene.centre.shape, generator=generator)
    corner = ((scene.centre / PATCH).long() - crop // 2 + 1 + jitter).clamp(0, pictures.shape[-1] // PATCH - crop)
    rows = [slice(y, y + crop) for y in corner[:, 1].tolist()]
    columns = [slice(x, x + crop) for x in corner[:, 0].tolist()]
    crops = torch.stack([z[:, r, c] for z, r, c in zip(latents, rows, columns, strict=True)])
    targets = torch.stack([p[:, _pixels(r), _pixels(c)] for p, r, c in zip(pictures, rows, columns, strict=True)])
    error = model.taesd_decoder(crops * SPREAD) - targets
    return error.abs().mean() + 2 * error.square().mean()


def _rows(scene: shapes.Scene, part: int) -> shapes.Scene:
    half = len(scene.shape) // 2
    return shapes.Scene(*(value[part * half : (part + 1) * half] for value in vars(scene).values()))


def _pixels(latents: slice) -> slice:
    return slice(latents.start * PATCH, latents.stop * PATCH)
