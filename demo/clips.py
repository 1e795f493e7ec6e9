"""Writes clips of the miniature's shapes as video files with captions, like a user's training data."""

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from . import shapes

FRAMES = 16
UP = -math.pi / 2


def write_clips(folder: Path, count: int, direction: float | None = None, look: str = "paper", seed: int = 0) -> Path:
    """Write `count` videos, each with its caption in a text file of the same name, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        scene = shapes.random_clip(1, FRAMES, generator, direction)
        write_video(shapes.draw(scene, look), folder / f"{number:03}.mp4")
        (folder / f"{number:03}.txt").write_text(shapes.captions(scene)[0], encoding="utf-8")
    return folder


def write_video(pictures: Tensor, file: Path, rate: int = 8) -> None:
    """Write pictures (f, 3, h, w) in [0, 1] as an H.264 video."""
    frames = (pictures.clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy()
    with av.open(str(file), "w") as video:
        stream: Any = video.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        video.mux(stream.encode())
