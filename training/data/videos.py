"""Decodes frames: videos with PyAV, image sequences and stills with Pillow. A frame is uint8, (height, width, 3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

VIDEOS = frozenset({".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class UnusableClip(Exception):
    """A clip that cannot be trained on, and why: it is left out and counted."""


@dataclass(frozen=True)
class Video:
    file: Path | bytes

    def count(self) -> int:
        """The number of frames, without decoding them."""
        with _video_stream(self.file) as (container, stream):
            return sum(packet.size > 0 for packet in container.demux(stream))

    def frames(self, wanted: range | None = None) -> Iterator[Tensor]:
        """All frames or those of the `wanted` numbers, one at a time; upright, if a phone was held sideways."""
        with _video_stream(self.file) as (container, stream):
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if wanted and number > wanted[-1]:
                    break
                if wanted is None or number in wanted:
                    picture = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
                    yield torch.from_numpy(np.ascontiguousarray(picture))


@dataclass(frozen=True)
class Pictures:
    """A still, or the frames of an image sequence."""

    files: tuple[Path | bytes, ...]

    def count(self) -> int:
        return len(self.files)

    def frames(self, wanted: range | None = None) -> Iterator[Tensor]:
        from PIL import Image, ImageOps

        for number, file in enumerate(self.files):
            if wanted is not None and number not in wanted:
                continue
            try:
                with Image.open(_readable(file)) as image:
                    yield torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB")))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise UnusableClip(f"picture {number + 1} is unreadable ({error})") from error


Media = Video | Pictures


def media(suffix: str, data: bytes) -> Media | None:
    """A file's contents, if its suffix (".mp4") is a video's or a picture's."""
    if suffix in VIDEOS:
        return Video(data)
    return Pictures((data,)) if suffix in PICTURES else None


@contextmanager
def _video_stream(file: Path | bytes):
    import av

    try:
        with av.open(_readable(file)) as container:
            if not container.streams.video:
                raise UnusableClip("there is no video in the file")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        raise UnusableClip(f"the video is unreadable ({error.strerror or error})") from error


def _readable(file: Path | bytes) -> str | BytesIO:
    return BytesIO(file) if isinstance(file, bytes) else str(file)
