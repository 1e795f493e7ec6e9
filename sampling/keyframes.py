"""Pictures that a clip passes through: which frame each belongs to, and its pixels and latents in the clip's size.

Plain PyTorch; a VAE comes in as ComfyUI's object.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .timeline import POSITION, Place, Position, cut, read_position, skip

CROP, PAD = "crop", "pad"

POSITION_ALONE = re.compile(rf"({POSITION})(?=[\s,;:]|\Z)")
SEPARATORS = re.compile(r"[\s,;:]*(?:--[^\n]*[\s,;:]*)*")


@dataclass(frozen=True)
class Keyframes:
    """Pictures and the frames that they belong to. `frames_of` gives those frames once the clip's length is known."""

    images: Tensor
    """(n, h, w, 3), from 0 to 1."""
    positions: tuple[Position, ...] = ()
    """One for each picture; none at all spreads the pictures evenly."""
    vae: Any = None
    """ComfyUI's VAE, for models that want latents."""
    resize: str = CROP
    """How pictures of another shape than the clip's fit in: CROP cuts off what overhangs, PAD repeats the edges."""
    node: str | None = None
    """Id of the node, which shows the pictures with their frames."""

    def __post_init__(self):
        if self.positions and len(self.positions) != len(self.images):
            raise ValueError(
                f"There are {len(self.images)} keyframe images but {len(self.positions)} frame numbers: write one "
                "number for each image, or none to spread them evenly."
            )

    def frames_of(self, clip: int) -> tuple[int, ...]:
        """Return the frame of each picture in a clip of so many frames. ValueError if they do not fit in."""
        n = len(self.images)
        if n > clip:
            raise ValueError(f"There are {n} keyframe images for a clip of {clip} frames: use at most one per frame.")
        if not self.positions:
            return tuple(i * (clip - 1) // max(n - 1, 1) for i in range(n))
        frames = tuple(math.floor(position.frame(clip) + Fraction(1, 2)) for position in self.positions)
        for i, frame in enumerate(frames):
            if not 0 <= frame < clip:
                raise ValueError(
                    f"Keyframe image {i + 1} belongs to frame {self.positions[i].number}, outside the clip of {clip} "
                    f"frames: write a number from 0 to {clip - 1}, or -1 for the last frame."
                )
            if frame in frames[:i]:
                raise ValueError(
                    f"Keyframe images {frames.index(frame) + 1} and {i + 1} both belong to frame {frame} of {clip}: "
                    "give each its own frame."
                )
        return frames

    def resized(self, height: int, width: int) -> Tensor:
        """Return the pictures in this size, (n, height, width, 3)."""
        images = self.images[..., :3].expand(-1, -1, -1, 3).movedim(-1, 1).float()  # grey ones have one channel
        h, w = images.shape[-2:]
        if self.resize == CROP:
            scale = min(h / height, w / width)
            rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
            top, left = (h - rows) // 2, (w - columns) // 2
            images, size = images[..., top : top + rows, left : left + columns], (height, width)
        else:
            scale = min(height / h, width / w)
            size = max(round(h * scale), 1), max(round(w * scale), 1)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        edges = (left, width - size[1] - left, top, height - size[0] - top)
        return F.pad(images, edges, mode="replicate").movedim(1, -1)

    def latents(self, height: int, width: int) -> Tensor:
        """Return the pictures' latents in this latent size, (n, c, height, width), as the VAE gives them.

        ValueError without a VAE.
        """
        if self.vae is None:
            raise ValueError("These keyframes are wanted as latents: connect the checkpoint's VAE to Keyframe Images.")
        scale = self.vae.spacial_compression_encode()
        return self.vae.encode(self.resized(height * scale, width * scale))


class KeyframeImages(Tensor):
    """The pictures of keyframes as a plain ComfyUI image batch that still knows its `keyframes`.

    So ComfyUI's own Apply ControlNet, which moves the channels to the front, hands them on to a ControlNet of ours.
    """

    keyframes: Keyframes

    # Every other operation gives a plain tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def of(cls, keyframes: Keyframes, images: Tensor) -> KeyframeImages:
        carrier = images.as_subclass(cls)
        carrier.keyframes = keyframes
        return carrier

    def movedim(self, *args: Any, **kwargs: Any) -> KeyframeImages:
        return self.of(self.keyframes, super().movedim(*args, **kwargs))


def keyframes_of_hint(hint: Tensor, vae: Any = None) -> Keyframes:
    """Return the keyframes in what Apply ControlNet hands on, (n, c, h, w); plain pictures are spread evenly.

    `vae` is used where the keyframes bring none.
    """
    if isinstance(hint, KeyframeImages):
        return hint.keyframes if hint.keyframes.vae is not None else replace(hint.keyframes, vae=vae)
    return Keyframes(hint.movedim(1, -1), vae=vae)


def parse_positions(text: str) -> tuple[Position, ...]:
    """Return the positions in a text such as "0, 50%, -1", in the order of the text.

    They are those of the timeline grammar, with blanks, commas, semicolons or colons between them. ValueError names
    line and column.
    """
    positions: list[Position] = []
    at = skip(SEPARATORS, text, 0)
    while at < len(text):
        match = POSITION_ALONE.match(text, at)
        if match is None:
            written = re.split(r"[\s,;:]", text[at:], maxsplit=1)[0]
            raise Place(text, at).error(
                f'"{cut(written)}" is not a frame: write frames such as 12, parts such as 0.5 or 50%, or -1 for the '
                "last frame."
            )
        positions.append(read_position(match, 1, parts_only=False))
        at = skip(SEPARATORS, text, match.end())
    return tuple(positions)
