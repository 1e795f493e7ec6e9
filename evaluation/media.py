"""Frames of videos, animated pictures and still pictures, one at a time. Needs no ComfyUI.

A frame is uint8, (height, width, 3), and upright: a phone that was held sideways is turned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from torch import Tensor

VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpeg", ".mpg")
ANIMATED = (".gif", ".webp", ".apng")
LONGEST_HOLD = 256  # frames that one held frame counts as at most, however long it is shown
MOST_PIXELS = 8192 * 8192  # of a video's frame, of which a training holds dozens
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class UnusableClip(Exception):
    """A clip that cannot be read, with the reason."""


@dataclass(frozen=True)
class Video:
    """A video, decoded with PyAV; `file` is a path or the contents."""

    file: Path | bytes

    def count(self) -> int:
        """Return the number of frames without decoding them."""
        with self._stream() as (container, stream):
            return sum(packet.size > 0 for packet in container.demux(stream))

    def frames(self, wanted: range | None = None) -> Iterator[Tensor]:
        """Yield all frames, or those of the `wanted` numbers. UnusableClip if decoding fails."""
        with self._stream() as (container, stream):
            stream.thread_type = "AUTO"
            for frame in _chosen(container.decode(stream), wanted):
                picture = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
                yield torch.from_numpy(np.ascontiguousarray(picture))

    @contextmanager
    def _stream(self):
        try:
            with av.open(_readable(self.file), metadata_errors="replace") as container:
                if not container.streams.video:
                    raise UnusableClip("there is no video in the file")
                stream = container.streams.video[0]
                if stream.width * stream.height > MOST_PIXELS:
                    raise UnusableClip(f"its frames of {stream.width} × {stream.height} pixels are too large")
                yield container, stream
        except (av.FFmpegError, OSError) as error:
            raise UnusableClip(f"the video is unreadable ({error.strerror or error})") from error


@dataclass(frozen=True)
class Animation:
    """An animated picture, or a still in such a format; `file` is a path or the contents.

    Encoders merge equal frames, so a frame that is held counts as often as it outlasts the shortest one, and at most
    `LONGEST_HOLD` times. A GIF whose frames were all equal is left with one frame that has a duration: it counts as
    two, which stand for a still clip.
    """

    file: Path | bytes

    def count(self) -> int:
        """Return the number of frames, held ones as often as they are shown."""
        with _opened(self.file) as image:
            return sum(_repeats(image))

    def frames(self, wanted: range | None = None) -> Iterator[Tensor]:
        """Yield all frames, or those of the `wanted` numbers. UnusableClip if decoding fails."""
        with _opened(self.file) as image:
            shown = zip(ImageSequence.Iterator(image), _repeats(image), strict=True)
            yield from _chosen((pixels for frame, times in shown for pixels in repeat(_pixels(frame), times)), wanted)


@dataclass(frozen=True)
class Pictures:
    """A still, or the frames of an image sequence; each of `files` is a path or the contents."""

    files: tuple[Path | bytes, ...]

    def count(self) -> int:
        """Return the number of frames."""
        return len(self.files)

    def frames(self, wanted: range | None = None) -> Iterator[Tensor]:
        """Yield all frames, or those of the `wanted` numbers. UnusableClip names the picture that is unreadable."""
        for number, file in _chosen(enumerate(self.files, 1), wanted):
            with _opened(file, f"picture {number}") as image:
                yield _pixels(image)


Media = Video | Animation | Pictures


def media_from(suffix: str, file: Path | bytes) -> Media | None:
    """Return the reader of a file by its suffix (".mp4"), None if it is neither a video nor a picture."""
    if suffix in VIDEOS:
        return Video(file)
    if suffix in ANIMATED:
        return Animation(file)
    return Pictures((file,)) if suffix in PICTURES else None


def _chosen(frames: Iterable[Any], wanted: range | None) -> Iterator[Any]:
    """Return the frames of the wanted numbers, or all; none behind the last of them is asked for."""
    return iter(frames) if wanted is None else islice(frames, wanted.start, wanted.stop, wanted.step)


def by_number(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


@contextmanager
def _opened(file: Path | bytes, name: str = "the picture") -> Iterator[Image.Image]:
    try:
        with Image.open(_readable(file)) as image:
            yield image
    except Exception as error:  # Pillow raises a dozen kinds for a broken file
        raise UnusableClip(f"{name} is unreadable ({error})") from error


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB")))


def _repeats(image: Image.Image) -> list[int]:
    """Return how often each frame of an animated picture counts."""
    durations = [_duration(frame) for frame in ImageSequence.Iterator(image)]
    shortest = durations[0] / 2 if len(durations) == 1 else min(filter(None, durations), default=0)
    return [min(round(duration / shortest), LONGEST_HOLD) if duration else 1 for duration in durations]


def _duration(frame: Image.Image) -> float:
    """Return milliseconds, 0 if they are unknown."""
    frame.load()  # before which Pillow does not know it of WebP
    return frame.info.get("duration") or 0


def _readable(file: Path | bytes) -> str | BytesIO:
    return BytesIO(file) if isinstance(file, bytes) else str(file)
