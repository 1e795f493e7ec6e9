"""Clips from files: videos, animated pictures, and folders of numbered pictures. Needs no ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")
ANIMATED = (".gif", ".webp", ".apng")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def find_clips(folder: Path) -> list[Path]:
    """Videos and animated pictures of a folder, and its subfolders of pictures, in the order of their names.

    ValueError if there is none, or no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}.")
    found = [path for path in folder.iterdir() if path.suffix.lower() in VIDEOS + ANIMATED or any(pictures_of(path))]
    if not found:
        raise ValueError(
            f"{folder} holds no clip: put videos ({', '.join(VIDEOS + ANIMATED)}) or folders of pictures into it."
        )
    return sorted(found, key=by_number)


def pictures_of(folder: Path) -> list[Path]:
    """Its pictures in the order of the numbers in their names; none if it is no folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in PICTURES), key=by_number)


def by_number(path: Path) -> list[tuple[int, str]]:
    """frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def read_clip(path: Path, most: int) -> Tensor:
    """The first `most` frames, (f, h, w, 3) in [0, 1], 8 bits each.

    ValueError for what cannot be read, and for pictures that differ in size.
    """
    try:
        frames = list(islice(read_frames(path), most))
    except Exception as error:  # Pillow and PyAV have a dozen kinds of it for a file that is broken
        raise ValueError(f"{path.name} cannot be read ({error}).") from error
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        said = " and ".join(f"{w} × {h}" for h, w in sorted(sizes)[:2])
        raise ValueError(f"{path.name} has frames of {said} pixels: make them all one size.")
    if not frames:
        raise ValueError(f"{path.name} has no frames.")
    return torch.from_numpy(np.stack(frames)).float() / 255


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """(h, w, 3) bytes."""
    if path.is_dir():
        yield from (read_picture(picture) for picture in pictures_of(path))
    elif path.suffix.lower() in ANIMATED:
        with Image.open(path) as picture:
            yield from read_animation(picture)
    else:
        with av.open(str(path)) as video:
            for frame in video.decode(video=0):
                yield np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))  # a phone held sideways


def read_animation(picture: Image.Image) -> Iterator[np.ndarray]:
    """(h, w, 3) bytes. A frame that is held counts as often as it outlasts the shortest: encoders merge equal frames.

    Where all were equal, a GIF is left with one frame that is shown for a time: two then stand for the still clip.
    """
    times = [shown_for(frame) for frame in ImageSequence.Iterator(picture)]
    shortest = times[0] / 2 if len(times) == 1 else min(filter(None, times), default=0)
    for frame, time in zip(ImageSequence.Iterator(picture), times, strict=True):
        yield from repeat(np.array(frame.convert("RGB")), round(time / shortest) if time else 1)


def shown_for(frame: Image.Image) -> float:
    """Milliseconds; 0 if it is not known."""
    frame.load()  # before which Pillow does not know it of WebP
    return frame.info.get("duration") or 0


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def read_references(folder: Path) -> list[Tensor]:
    """The pictures of a folder, (1, h, w, 3) each, of any sizes. ValueError if there is none."""
    pictures = pictures_of(folder)
    if not pictures:
        raise ValueError(f"{folder} holds no reference picture: put some ({', '.join(PICTURES)}) into it.")
    return [torch.from_numpy(read_picture(path)).float()[None] / 255 for path in pictures]
