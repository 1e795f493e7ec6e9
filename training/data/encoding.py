"""Encodes the frames of clips into latents as a training takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

from ...evaluation.media import Media, UnusableClip, frame_numbers
from .camera import camera_path, closest, film
from .items import Prompt
from .options import DataOptions
from .transforms import Size, fit, flip

EncodeFrames = Callable[[Tensor], Tensor]
"""Maps (n, h, w, 3) in [0, 1] to (n, c, h / 8, w / 8), scaled as the UNet takes them."""


class Encoders(NamedTuple):
    """The image model's encoders, and fingerprints of them, such as hashes of the weights."""

    encode_frames: EncodeFrames
    encode_text: Callable[[str], Prompt]
    vae: str
    """A change of it encodes all clips anew."""
    text_encoder: str
    """A change of it encodes all prompts anew."""


CHUNK = 16
"""Frames that are decoded and encoded at once, which bounds the memory that a long video needs."""


def encode_all(media: Media, options: DataOptions, encode_frames: EncodeFrames, random: Random) -> list[Tensor]:
    """Return the frames as fp16 latents (F, c, h, w), and with `options.flip` those of the mirror image too.

    They are all frames, of which a stride is taken later, or those at the options' rate.
    """
    place, numbers = _place(options, random), frame_numbers(media, options.rate) if options.rate else None
    fitted = (fit(frame, options.size_for(_size(frame)), place) for frame in _of_one_size(media.frames(numbers)))
    versions: list[list[Tensor]] = [[], []] if options.flip else [[]]
    while chunk := list(islice(fitted, CHUNK)):
        frames = torch.stack(chunk)
        for version, pixels in zip(versions, (frames, flip(frames)), strict=False):
            version.append(_to_half(encode_frames(pixels)))
    if not versions[0]:
        raise UnusableClip("it has no frames")
    return [torch.cat(version) for version in versions]


def encode_variants(media: Media, options: DataOptions, encode_frames: EncodeFrames, random: Random) -> list[Tensor]:
    """Return `options.variants` clips with the camera movement, as fp16 latents (frames, c, h, w)."""
    clips = (random_clip(media, options, random) for _ in range(options.variants))
    return [_to_half(encode_frames(clip)) for clip in clips]


def random_clip(media: Media, options: DataOptions, random: Random) -> Tensor:
    """Return (frames, h, w, 3) in [0, 1] from a random frame on, mirrored at random, with the camera movement if any.

    With a camera movement a single picture is a clip whose frames are all alike.
    """
    numbers = frame_numbers(media, options.rate)
    still = bool(options.camera_motion) and media.count() == 1
    frames = list(media.frames([0])) * options.frames if still else _excerpt(media, numbers, options, random=random)
    if options.flip and random.random() < 0.5:
        frames = [flip(frame) for frame in frames]
    size, place = options.size_for(_size(frames[0])), _place(options, random)
    if options.camera_motion:
        return _filmed(frames, options, size, place=place, part=random.uniform(0.75, 1))
    return torch.stack([fit(frame, size, place) for frame in frames])


def _excerpt(media: Media, numbers: Sequence[int], options: DataOptions, random: Random) -> list[Tensor]:
    if len(numbers) < options.span:
        rate = f" at {options.rate:g} per second" if options.rate else ""
        raise UnusableClip(f"it has {len(numbers)} frames{rate}, and {options.span} are needed")
    start = random.randrange(len(numbers) - options.span + 1)
    return list(_of_one_size(media.frames(numbers[start : start + options.span : options.every])))


def _filmed(frames: list[Tensor], options: DataOptions, size: Size, place: tuple[float, float], part: float) -> Tensor:
    path = camera_path(options.camera_motion, len(frames), options.amount, shape=size[1] / size[0])
    canvas = round(size[0] / closest(path)), round(size[1] / closest(path))
    fitted = (fit(frame, canvas, place=place, part=part) for frame in frames)
    return torch.stack([film(frame, view, size) for frame, view in zip(fitted, path, strict=True)])


def _place(options: DataOptions, random: Random) -> tuple[float, float]:
    """Return the place of the crop, in which the variants of a camera movement differ."""
    anywhere = random.random(), random.random()
    return anywhere if options.crop == "random" or options.camera_motion else (0.5, 0.5)


def _size(frame: Tensor) -> Size:
    return frame.shape[0], frame.shape[1]


def _of_one_size(frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield the same frames. UnusableClip for one whose size is not that of the first."""
    first = None
    for frame in frames:
        first = first or frame.shape
        if frame.shape != first:
            raise UnusableClip("its frames differ in size")
        yield frame


def _to_half(latents: Tensor) -> Tensor:
    return latents.to("cpu", torch.float16).contiguous()
