"""The live preview of the miniature shows the colours that its autoencoder decodes."""

from __future__ import annotations

import json
from typing import Any

import comfy.latent_formats
import latent_preview
import numpy as np
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image

from animatediff_native.demo import autoencoder, preview_colours, shapes
from animatediff_native.demo.companion import companion


def drawn(colour: str, look: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the latents (1, 4, 12, 12) of a drawn star, and a mask (12, 12) of the latent pixels inside of it."""
    scene = shapes.random_scene(1, torch.Generator().manual_seed(3))
    scene.shape[:] = shapes.SHAPES.index("star")
    scene.colour[:] = list(shapes.COLOURS).index(colour)
    inside = torch.nn.functional.max_pool2d(shapes.signed_distance(scene)[None], autoencoder.PATCH)[0, 0] < 0
    return autoencoder.encode(shapes.draw(scene, look), *autoencoder.projection()), inside


def preview(latents: torch.Tensor, latent_format: Any, monkeypatch) -> torch.Tensor:
    """Return the picture (12, 12, 3) in [0, 1] that ComfyUI's quick preview makes of latents."""
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    previewer: Any = latent_preview.get_previewer(torch.device("cpu"), latent_format)
    picture = previewer.decode_latent_to_preview(latents)
    assert isinstance(picture, Image.Image)
    return torch.from_numpy(np.asarray(picture) / 255)


def nearest_colour(pixel: torch.Tensor) -> str:
    """Return the name of the shapes' colour that differs from grey in the direction of `pixel`'s."""
    palette = torch.tensor(list(shapes.COLOURS.values()), dtype=pixel.dtype)
    chroma = palette - palette.mean(1, keepdim=True)
    return list(shapes.COLOURS)[int(torch.cosine_similarity(chroma, (pixel - pixel.mean())[None]).argmax())]


@pytest.mark.parametrize("colour", shapes.COLOURS)
def test_a_star_is_previewed_in_its_colour(colour, monkeypatch):
    latents, inside = drawn(colour, "paper")
    assert nearest_colour(preview(latents, companion().MiniatureLatents(), monkeypatch)[inside].mean(0)) == colour


def test_stable_diffusions_colours_would_be_wrong(monkeypatch):
    """A red star would be blue: so the test above can fail."""
    latents, inside = drawn("red", "paper")
    assert nearest_colour(preview(latents, comfy.latent_formats.SD15(), monkeypatch)[inside].mean(0)) != "red"


def test_paper_is_light_and_night_is_dark(monkeypatch):
    for look, low, high in (("paper", 0.75, 1.0), ("neon", 0.0, 0.3)):
        latents, _ = drawn("red", look)
        corner = preview(latents, companion().MiniatureLatents(), monkeypatch)[0, 0]
        assert ((corner >= low) & (corner <= high)).all()


@pytest.mark.one_version
def test_the_shipped_colours_are_those_of_the_fit():
    shipped, fitted = json.loads(preview_colours.FILE.read_text(encoding="utf-8")), preview_colours.fit()
    for name in ("factors", "bias"):
        np.testing.assert_allclose(shipped[name], fitted[name], atol=2e-3)


def test_latents_are_scaled_as_in_stable_diffusion():
    latents = torch.randn(2, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    ours, theirs = companion().MiniatureLatents(), comfy.latent_formats.SD15()
    assert torch.equal(ours.process_in(latents), theirs.process_in(latents))
    assert torch.equal(ours.process_out(latents), theirs.process_out(latents))


def test_comfyui_gives_the_checkpoint_these_colours():
    from animatediff_native.demo.evaluate import Miniature
    from animatediff_native.demo.train import MODELS

    with torch.inference_mode():
        latent_format = Miniature(MODELS).base.model.latent_format
    assert type(latent_format) is companion().MiniatureLatents
