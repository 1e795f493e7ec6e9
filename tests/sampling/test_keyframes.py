"""Keyframes: the frames of pictures, and their pixels and latents in the clip's size."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from animatediff_native.sampling.keyframe_picture import CAPTION, GAP, draw_keyframes
from animatediff_native.sampling.keyframes import (
    CROP,
    PAD,
    KeyframeImages,
    Keyframes,
    keyframes_of_hint,
    parse_positions,
)
from animatediff_native.sampling.window_picture import WIDTH


def pictures(n: int, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.rand(n, height, width, 3, generator=torch.Generator().manual_seed(n))


def keyframes(text: str, n: int) -> Keyframes:
    return Keyframes(pictures(n), parse_positions(text))


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("0", (0,)),
        ("0, -1", (0, 15)),
        ("0: 8: -1", (0, 8, 15)),
        ("15\n3;7 -- the middle", (15, 3, 7)),
        ("50%", (8,)),
        ("0.0 1.0", (0, 15)),
        ("-16,-15", (0, 1)),
    ],
)
def test_each_picture_belongs_to_the_frame_that_is_written(text, frames):
    assert keyframes(text, len(frames)).frames_of(16) == frames


@pytest.mark.parametrize(
    ("n", "clip", "frames"), [(1, 16, (0,)), (2, 16, (0, 15)), (3, 16, (0, 7, 15)), (4, 4, (0, 1, 2, 3)), (1, 1, (0,))]
)
def test_pictures_without_frames_are_spread_evenly(n, clip, frames):
    assert keyframes("", n).frames_of(clip) == frames


@pytest.mark.parametrize(
    ("text", "n", "sentence"),
    [
        ("0, 16", 2, "Keyframe image 2 belongs to frame 16, outside the clip of 16 frames"),
        ("-17", 1, "belongs to frame -17, outside"),
        ("0, 15, -1", 3, "Keyframe images 2 and 3 both belong to frame 15 of 16"),
        ("", 17, "There are 17 keyframe images for a clip of 16 frames"),
    ],
)
def test_frames_that_do_not_fit_the_clip_are_refused(text, n, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        keyframes(text, n).frames_of(16)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0, first", 'Line 1, column 4: "first" is not a frame'),
        ("0\n0-3", 'Line 2, column 1: "0-3" is not a frame'),
        ("150%", 'Line 1, column 1: "150%" lies outside the clip'),
        ("0-", 'Line 1, column 1: "0-" is not a frame'),
    ],
)
def test_a_mistake_is_named_with_its_place(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_positions(text)


def test_numbers_and_pictures_are_as_many():
    with pytest.raises(ValueError, match="There are 2 keyframe images but 3 frame numbers"):
        keyframes("0, 3, 6", 2)


def test_crop_keeps_the_middle_and_pad_keeps_everything():
    images = torch.zeros(1, 8, 16, 3)
    images[:, :, 4:12] = 1.0  # the middle square is white
    images[:, 0, :, 0] = 0.5  # and its first row not quite
    cropped = Keyframes(images).resized(8, 8)
    assert torch.equal(cropped, images[:, :, 4:12])
    padded = Keyframes(images, resize=PAD).resized(16, 16)
    assert torch.equal(padded[:, 4:12], images)
    assert torch.equal(padded[:, :4], images[:, :1].expand(1, 4, 16, 3))
    assert torch.equal(padded[:, 12:], images[:, -1:].expand(1, 4, 16, 3))


@pytest.mark.parametrize("resize", ["crop", "pad"])
@pytest.mark.parametrize("size", [(8, 8), (24, 8), (8, 32), (1, 40), (17, 31)])
def test_pictures_of_any_shape_get_the_size_of_the_clip(resize, size):
    images = torch.full((2, 20, 12, 4), 0.25)  # with an alpha channel
    assert torch.allclose(Keyframes(images, resize=resize).resized(*size), torch.full((2, *size, 3), 0.25), atol=1e-6)


def test_latents_are_those_of_the_resized_pictures():
    vae: Any = SimpleNamespace(encode=lambda pixels: pixels.movedim(-1, 1), spacial_compression_encode=lambda: 8)
    source = Keyframes(pictures(2, 24, 40), vae=vae)
    assert torch.equal(source.latents(2, 3), source.resized(16, 24).movedim(-1, 1))
    with pytest.raises(ValueError, match="connect the checkpoint's VAE to Keyframe Images"):
        Keyframes(pictures(1)).latents(2, 3)


def test_apply_controlnet_hands_the_keyframes_on():
    source = Keyframes(pictures(2), parse_positions("3, 5"))
    images = KeyframeImages.of(source, source.images)
    hint = images.movedim(-1, 1)  # as Apply ControlNet does
    received = keyframes_of_hint(hint, "a VAE")
    assert received.images is source.images and received.positions == source.positions and received.vae == "a VAE"
    assert keyframes_of_hint(KeyframeImages.of(received, hint), "another").vae == "a VAE"
    assert type(images * 1.0) is torch.Tensor and torch.equal(images * 1.0, source.images)


def test_a_plain_hint_is_spread_evenly():
    plain = keyframes_of_hint(pictures(3).movedim(-1, 1), "a VAE")
    assert torch.equal(plain.images, pictures(3)) and plain.frames_of(16) == (0, 7, 15) and plain.vae == "a VAE"


def test_the_picture_shows_every_keyframe_in_the_order_of_frames():
    colours = torch.eye(3).view(3, 1, 1, 3).expand(3, 8, 8, 3)  # red, green, blue
    sheet = draw_keyframes(colours, (15, 0, 7))
    width = (WIDTH - GAP) // 3 - GAP
    assert sheet.size == (WIDTH, GAP + width + CAPTION)
    middles = [sheet.getpixel((GAP + i * (width + GAP) + width // 2, GAP + width // 2)) for i in range(3)]
    assert middles == [(0, 255, 0), (0, 0, 255), (255, 0, 0)]


@pytest.mark.parametrize("resize", [CROP, PAD])
def test_grey_pictures_of_one_channel_are_those_of_three(resize):
    grey = torch.rand(2, 6, 9, 1, generator=torch.Generator().manual_seed(4))
    one, three = (Keyframes(images, resize=resize).resized(8, 8) for images in (grey, grey.expand(-1, -1, -1, 3)))
    assert torch.equal(one, three)
    assert draw_keyframes(grey, (0, 3)).tobytes() == draw_keyframes(grey.expand(-1, -1, -1, 3), (0, 3)).tobytes()
