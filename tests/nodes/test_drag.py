"""Drag Cut-out and Follow Rough Clip as nodes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from node_support import FRAMES, NEGATIVE, POSITIVE, core_nodes, error, run
from picture_support import vae

SIDE = 64


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 8:24, 8:24] = 1.0
    return mask


@pytest.fixture
def rough(adn, picture, mask) -> tuple[torch.Tensor, torch.Tensor]:
    return run(adn["ADN_DragCutout"], image=picture, mask=mask, path="0: 25% 25%; -1: 75% 75%", frames=FRAMES)


def sampled(model: Any, latent: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    settings = {"seed": 3, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"} | options
    inputs = {"positive": POSITIVE, "negative": NEGATIVE, "latent_image": latent}
    return run(core_nodes.KSampler, model=model, **inputs, **settings)["samples"]


def test_a_dragged_cut_out_stays_where_it_was_dragged_to(adn, animated, rough):
    """With no noise inside; the clip is otherwise sampled, and at full noise nothing of it is held."""
    images, masks = rough
    assert images.shape == (FRAMES, SIDE, SIDE, 3) and masks.shape == (FRAMES, SIDE, SIDE)
    followed, latent = run(
        adn["ADN_FollowRoughClip"], model=animated, images=images, masks=masks, vae=vae(), inside=0.0, outside=1.0
    )
    assert torch.equal(latent["samples"], vae().encode(images))
    clip = sampled(followed, latent)
    inside = (latent["noise_mask"] < 1e-3).expand_as(clip)
    assert inside[0, 0, 1:3, 1:3].all() and inside[-1, 0, 5:7, 5:7].all() and not inside[-1, 0, :4].any()
    assert torch.allclose(clip[inside], latent["samples"][inside], atol=1e-4)
    assert error(clip[~inside], latent["samples"][~inside]) > 0.1
    followed, latent = run(
        adn["ADN_FollowRoughClip"], model=animated, images=images, masks=masks, vae=vae(), inside=1.0, outside=1.0
    )
    assert torch.equal(sampled(followed, latent), sampled(animated, {"samples": latent["samples"]}))


def test_levels_mean_the_same_whatever_the_samplers_denoise(adn, animated, rough):
    """Below the outer level, so that only steps are left out that keep the clip everywhere."""
    images, masks = rough
    followed, latent = run(
        adn["ADN_FollowRoughClip"], model=animated, images=images, masks=masks, vae=vae(), inside=0.4, outside=0.5
    )
    whole = sampled(followed, latent, steps=8, scheduler="normal")
    later = sampled(followed, latent, steps=4, denoise=0.5, scheduler="normal")
    assert (whole - later).norm() / whole.norm() < 0.01
    assert (whole - latent["samples"]).norm() / whole.norm() > 0.05


def test_frames_that_the_vae_crops_keep_their_masks_in_place(adn, animated):
    masks = torch.zeros(1, 70, 70)
    masks[:, 19:27, 35:43] = 1.0  # the VAE cuts off 3 pixels on each side
    images = torch.rand(3, 70, 70, 3)
    _, latent = run(adn["ADN_FollowRoughClip"], model=animated, images=images, masks=masks, vae=vae())
    expected = torch.full((8, 8), 0.8)
    expected[2, 4] = 0.6
    assert torch.allclose(latent["noise_mask"], expected.expand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": torch.rand(2, SIDE, SIDE, 3)}, "takes one picture and one mask, not 2 and 1"),
        ({"mask": torch.ones(3, SIDE, SIDE)}, "takes one picture and one mask, not 1 and 3"),
        ({"mask": torch.zeros(64, 64)}, "The mask is empty: draw it"),
        ({"mask": torch.ones(1, 32, 16)}, "The mask is 16 x 32 pixels, but its picture 64 x 64"),
        ({"image": torch.full((1, SIDE, SIDE, 3), math.nan)}, "NaN or infinite"),
        ({"mask": torch.full((1, SIDE, SIDE), math.inf)}, "NaN or infinite"),
        ({"path": "0: somewhere"}, 'Line 1, column 4: "somewhere" is not a place'),
        ({"frames": 4097}, "frames is 4097, but goes from 1 to 4096"),
        (
            {"image": torch.zeros(1, 1, 1, 3).expand(1, 8192, 8192, 3), "mask": torch.ones(1, 1, 1), "frames": 9},
            "9 frames of 8192 x 8192 pixels are too large",
        ),
    ],
)
def test_mistakes_in_drag_cut_out(adn, picture, mask, changes, sentence):
    with pytest.raises(ValueError, match=sentence) as raised:
        run(adn["ADN_DragCutout"], **{"image": picture, "mask": mask} | changes)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"masks": torch.ones(2, SIDE, SIDE)}, f"2 masks for {FRAMES} frames: give one, or one for every frame"),
        ({"masks": torch.zeros(1, SIDE, SIDE)}, "The mask is empty"),
        ({"masks": torch.ones(1, 8, 8)}, "The mask is 8 x 8 pixels, but its picture 64 x 64"),
        ({"inside": 0.9, "outside": 0.5}, "inside is 0.9 but outside only 0.5: set outside to at least as much"),
        ({"inside": math.nan}, "inside is nan"),
        ({"images": torch.rand(0, SIDE, SIDE, 3)}, "The rough clip has no frames"),
        ({"vae": None}, "This checkpoint has no VAE: connect Load VAE"),
        ({"images": torch.rand(FRAMES, 4, 9, 3), "masks": torch.ones(1, 4, 9)}, "The clip is only 9 x 4 pixels"),
    ],
)
def test_mistakes_in_follow_rough_clip(adn, model, rough, changes, sentence):
    images, masks = rough
    with pytest.raises(ValueError, match=sentence) as raised:
        run(adn["ADN_FollowRoughClip"], **{"model": model, "images": images, "masks": masks, "vae": vae()} | changes)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
