"""Frames of videos, animated pictures and still pictures, one at a time. Needs no ComfyUI.

A frame is uint8, (height, width, 3), and upright: a phone that was held sideways is turned.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise, repeat
from operator import sub
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from torch import Tensor

from ..sampling.timeline import cut

VIDEOS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".webm",
    ".mkv",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".vob",
    ".flv",
    ".wmv",
)
ANIMATED = (".gif", ".apng", ".webp", ".png", ".avif")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff")
TEXTS = (".txt", ".csv", ".json", ".jsonl")
"""Suffixes. A file that may be an animation or a picture is what its contents are; texts are captions and scores."""
LONGEST_HOLD = 256  # frames that one held frame counts as at most, however long it is shown
LONGEST_SHOWN = 10.0  # seconds that one frame lasts at most, which bounds what a wrong time stamp adds
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF 6.0, section 8
MOST_PIXELS = 8192 * 8192  # of a video's frame, of which a training holds dozens


class UnusableClip(Exception):
    """A clip that cannot be read, with the reason."""


class Media(Protocol):
    """Frames in time; they are numbered as they are shown."""

    def times(self) -> list[float]:
        """Return the seconds at which each frame is shown, and at last those at which the last one ends."""
        ...

    def frames(self, wanted: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Yield all frames, or those of the `wanted` numbers. UnusableClip says what is unreadable."""
        ...

    def count(self) -> int:
        """Return the number of frames."""
        return len(self.times()) - 1

    def description(self) -> str:
        """Return length, rate and size in words."""
        times = np.array(self.times())
        height, width = next(iter(self.frames([0]))).shape[:2]
        steps = np.diff(times)
        about = "about " if steps.max() > 1.5 * steps.min() else ""
        return f"{times[-1]:.2f} s, {about}{len(steps) / times[-1]:.4g} frames per second, {width} × {height}"


@dataclass(frozen=True)
class Video(Media):
    """A video, decoded with PyAV; `file` is a path or the contents."""

    file: Path | bytes

    def times(self) -> list[float]:
        # Decoded, since edit lists and discarded packets hide frames, and the container's own counts are often wrong.
        with self._stream() as (container, stream):
            shown = [frame.time for frame in container.decode(stream)]
            usual = float(1 / (stream.average_rate or 25))
        if None in shown:
            return [usual * number for number in range(len(shown) + 1)]
        steps = np.diff(shown)
        usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else usual
        steps = np.where(steps > 0, steps, usual).clip(max=LONGEST_SHOWN)
        return np.cumsum([0.0, *steps, usual])[0 if shown else 1 :].tolist()

    def frames(self, wanted: Sequence[int] | None = None) -> Iterator[Tensor]:
        with self._stream() as (container, stream):
            shape = float(stream.sample_aspect_ratio or 1)
            for frame in _chosen(container.decode(stream), wanted):
                size = {} if shape == 1 else {"width": round(frame.width * shape), "height": frame.height}
                picture = np.rot90(frame.to_ndarray(format="rgb24", **size), k=round(frame.rotation / 90))
                yield torch.from_numpy(np.ascontiguousarray(picture))

    @contextmanager
    def _stream(self):
        try:
            with av.open(_readable(self.file), metadata_errors="replace") as container:
                if not len(container.streams):
                    raise ValueError("it breaks off or is no video")
                stream = container.streams.best("video")  # which the cover picture of a file is not
                if stream is None:
                    raise UnusableClip("there is no video in the file")
                width = round(stream.width * float(stream.sample_aspect_ratio or 1))
                if width * stream.height > MOST_PIXELS:
                    raise UnusableClip(f"its frames of {width} × {stream.height} pixels are too large")
                stream.thread_type = "AUTO"
                yield container, stream
        except UnusableClip:
            raise
        except Exception as error:  # PyAV raises a dozen kinds for a broken file
            raise UnusableClip(f"the video is unreadable ({getattr(error, 'strerror', None) or error})") from error


@dataclass(frozen=True)
class Animation(Media):
    """An animated picture, or a still in such a format; `file` is a path or the contents.

    Encoders merge equal frames, so a frame that is held counts as often as it outlasts the shortest one, and at most
    `LONGEST_HOLD` times. A GIF whose frames were all equal is left with one frame that has a duration: it counts as
    two, which stand for a still clip.
    """

    file: Path | bytes

    def times(self) -> list[float]:
        with _opened(self.file) as image:
            durations = [_duration(frame) or 100 for frame in ImageSequence.Iterator(image)]
            shown = zip(durations, _repeats(image), strict=True)
            steps = [min(duration / 1000, LONGEST_SHOWN) / times for duration, times in shown for _ in range(times)]
        return np.cumsum([0.0, *steps]).tolist()

    def frames(self, wanted: Sequence[int] | None = None) -> Iterator[Tensor]:
        with _opened(self.file) as image:
            shown = zip(ImageSequence.Iterator(image), _repeats(image), strict=True)
            yield from _chosen((pixels for frame, times in shown for pixels in repeat(_pixels(frame), times)), wanted)


@dataclass(frozen=True)
class Pictures(Media):
    """A still, or the frames of an image sequence; each of `files` is a path or the contents."""

    files: tuple[Path | bytes, ...]

    def times(self) -> list[float]:
        # Numbers instead of seconds, which pictures do not know.
        return list(map(float, range(len(self.files) + 1)))

    def description(self) -> str:
        height, width = next(iter(self.frames([0]))).shape[:2]
        return f"{len(self.files)} picture{'s' * (len(self.files) > 1)}, {width} × {height}"

    def frames(self, wanted: Sequence[int] | None = None) -> Iterator[Tensor]:
        for number, file in _chosen(enumerate(self.files, 1), wanted):
            with _opened(file, f"picture {number}") as image:
                yield _pixels(image)


def media_from(suffix: str, file: Path | bytes) -> Media | None:
    """Return the reader of a file by its suffix (".mp4"), None if it is neither a video nor a picture."""
    if suffix in VIDEOS:
        return Video(file)
    if suffix in ANIMATED and (suffix not in PICTURES or _is_animated(file)):
        return Animation(file)
    return Pictures((file,)) if suffix in PICTURES else None


def frame_numbers(media: Media, rate: float | None = None) -> Sequence[int]:
    """Return the numbers of all frames, or those of the frames that are shown every 1 / `rate` seconds.

    Pictures know no time, and all of them are taken. UnusableClip if the media cannot be decoded.
    """
    times = np.array(media.times())
    if rate is None or isinstance(media, Pictures) or len(times) < 2:
        return range(len(times) - 1)
    # Part of a frame's time, but of a tick's where frames are held; half of it could be either neighbour.
    nearly = 0.45 * min(float(np.median(np.diff(times))), 1 / rate)
    ticks = np.arange(int((times[-1] - nearly) * rate) + 1) / rate
    return (np.searchsorted(times[:-1], ticks + nearly, side="right") - 1).tolist()


def _is_animated(file: Path | bytes) -> bool:
    try:
        with Image.open(_readable(file)) as image:
            return getattr(image, "is_animated", False)
    except Exception:  # as a picture it is unreadable too, and says why
        return False


def _chosen(frames: Iterable[Any], wanted: Sequence[int] | None) -> Iterator[Any]:
    """Yield the frames of the wanted numbers, which rise, or all; none behind the last of them is asked for."""
    if wanted is None:
        yield from frames
    elif wanted:
        times = Counter(wanted)
        for number, frame in zip(range(wanted[-1] + 1), frames, strict=False):
            yield from repeat(frame, times[number])


def by_number(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def name_gaps(name: str, pictures: Sequence[Path]) -> None:
    """Log where the numbers of a sequence of pictures leave some out."""
    numbers = [int(match[0]) for picture in pictures if (match := re.search(r"(?<!\d)\d+$", picture.stem))]
    step = min(map(sub, numbers[1:], numbers), default=1)
    gaps = [f"{one} and {other}" for one, other in pairwise(numbers) if other - one > step]
    if gaps:
        logging.warning(f"{name} has no pictures between {cut(', '.join(gaps))}, which are taken for neighbours.")


def name_unread(names: Sequence[str]) -> None:
    """Log the files that are not read."""
    if names:
        logging.warning(f"Left out, since they are not clips ({len(names)}): {cut(', '.join(names))}.")


@contextmanager
def _opened(file: Path | bytes, name: str = "the picture") -> Iterator[Image.Image]:
    try:
        with Image.open(_readable(file)) as image:
            yield image
    except Exception as error:  # Pillow raises a dozen kinds for a broken file
        raise UnusableClip(f"{name} is unreadable ({error})") from error


def _pixels(image: Image.Image) -> Tensor:
    """Return (h, w, 3) as a viewer shows a picture: transparent places are white."""
    if image.mode in ("I", "F"):
        raise ValueError("nothing says which of its 32-bit numbers is white: save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = _from_16_bits(image)
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return torch.from_numpy(np.array(image.convert("RGB")))


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Return a grey picture with 8 bits, which Pillow would not scale."""
    tags: Any = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    values = np.asarray(image, np.float64) / white
    values = 1 - values if tags.get(PHOTOMETRIC, 1) == 0 else values
    eight = Image.fromarray((255 * values).round().clip(0, 255).astype(np.uint8))
    eight.info = image.info
    return eight


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
