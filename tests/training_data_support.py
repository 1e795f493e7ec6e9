"""Real videos, pictures and encoders that show which frame is which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from animatediff_native.training.data import Data, Item, Prompt

WIDTH, HEIGHT = 64, 48


def counter(frames: int, first: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Tensor:
    """(frames, height, width, 3) uint8; frame i is evenly grey, of the value 2 * (first + i)."""
    values = torch.arange(first, first + frames) * 2
    return values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, height, width, 3).contiguous()


def write_video(
    file: Path, frames: Tensor, codec: str = "ffv1", *, rate: int = 8, times: Sequence[int] = (), shape: int = 1
) -> Path:
    """Without loss, by ffv1 into .mkv, or by another codec; `times` are in units of 1 / rate, `shape` is a pixel's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(shape)
        for frame, time in zip(frames, times or count(), strict=False):
            picture = av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file


def write_pictures(folder: Path, frames: Iterable[Tensor], names: str = "{:04}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame.numpy()).save(folder / names.format(number))


def encode_frames(pixels: Tensor) -> Tensor:
    """Means of 8 x 8 pixels, as values of 0 to 255."""
    return F.avg_pool2d(pixels.permute(0, 3, 1, 2), 8) * 255


def encode_text(text: str) -> Prompt:
    """A token for each character."""
    return Prompt(torch.tensor([float(ord(letter)) for letter in text]).view(-1, 1))


def decode_text(prompt: Prompt) -> str:
    return "".join(chr(int(letter)) for letter in prompt.context.flatten())


def counted(latents: Tensor) -> list[int]:
    """The numbers of the frames of `counter` in latents (f, c, h, w)."""
    return [round(value / 2) for value in latents.mean((1, 2, 3)).tolist()]


def take(data: Data, items: int, first: int = 0, process: int = 0, processes: int = 1) -> list[Item]:
    return list(islice(data.stream(first, process, processes), items))


def same(one: Iterable[Item], other: Iterable[Item]) -> bool:
    return all(
        a.number == b.number and torch.equal(a.latents, b.latents) and torch.equal(a.prompt.context, b.prompt.context)
        for a, b in zip(one, other, strict=True)
    )
