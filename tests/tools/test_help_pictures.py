"""The pictures of the help pages are what their script draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from animatediff_native.motion_models.schedules import BETA_SCHEDULES
from animatediff_native.tools.build.help_pictures import PICTURE, PICTURES, WIDTH, attention, share_of_noise

FILES = sorted(PICTURES.iterdir())


def test_there_is_a_file_for_each_and_no_other():
    assert [file.name for file in FILES] == sorted(f"{name}.png" for name in PICTURE)


@pytest.mark.parametrize("name", PICTURE)
def test_the_shipped_picture_is_what_is_drawn_now(name):
    """But for the edges of letters and lines, which differ from version to version of Pillow. Otherwise:
    python tools/dev.py run -- python -m animatediff_native.tools.build.help_pictures"""
    with Image.open(PICTURES / f"{name}.png") as file:
        shipped = file.convert("RGB")
    drawn = PICTURE[name]()
    assert shipped.size == drawn.size
    assert drawn.width == WIDTH
    coarse = [np.asarray(picture.reduce(4), dtype=int) for picture in (shipped, drawn)]
    assert np.abs(coarse[0] - coarse[1]).max() < 30


def test_pictures_are_small():
    sizes = [file.stat().st_size for file in FILES]
    assert max(sizes) < 25_000
    assert sum(sizes) < 150_000


def test_a_larger_motion_scale_is_sharper():
    loose, usual, sharp = (attention(16, scale) for scale in (0.5, 1.0, 2.0))
    for weights in (loose, usual, sharp):
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(16))
        assert (weights.argmax(dim=1) == torch.arange(16)).all()
    assert (loose.diagonal() < usual.diagonal()).all()
    assert (usual.diagonal() < sharp.diagonal()).all()


def test_noise_is_that_of_the_papers_schedules():
    """AnimateDiff's betas are spaced evenly from 0.00085 to 0.012, those of Stable Diffusion by their roots."""
    evenly = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    by_root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    for name, betas in (("AnimateDiff SD1.5", evenly), ("Stable Diffusion", by_root)):
        wanted = (1 - (1 - betas).cumprod(0)).sqrt()
        torch.testing.assert_close(share_of_noise(BETA_SCHEDULES[name]).double(), wanted, rtol=1e-4, atol=1e-5)
