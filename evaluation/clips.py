"""Finds and reads the clips that are scored: videos, animated pictures, folders of pictures. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from .media import (
    ANIMATED,
    PICTURES,
    TEXTS,
    VIDEOS,
    Media,
    Pictures,
    UnusableClip,
    by_number,
    media_from,
    name_gaps,
)


def find_clips(folder: Path) -> list[Path]:
    """Return the videos and animated pictures of a folder, and its subfolders of pictures, sorted by name.

    ValueError if there are none, or if the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: give the folder of the clips.")
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    clips = [path for path in paths if pictures_of(path) or not isinstance(media_of(path), Pictures | None)]
    if not clips:
        raise ValueError(
            f"{folder} holds no clip: put videos ({', '.join(VIDEOS + ANIMATED)}) or folders of pictures into it."
        )
    return sorted(clips, key=by_number)


def left_out(folder: Path, clips: Sequence[Path]) -> dict[str, str]:
    """Return why each other entry of a folder is no clip, but texts and hidden files, by its name."""
    names = (path.name for path in sorted({*folder.iterdir()} - {*clips}) if path.suffix.lower() not in TEXTS)
    reason = "is left out: it is no video, no animation and no folder of pictures."
    return {name: f"{name} {reason}" for name in names if not name.startswith(".")}


def pictures_of(folder: Path) -> list[Path]:
    """Return a folder's pictures in the order of the numbers in their names, none if it is not a folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if isinstance(media_of(path), Pictures)), key=by_number)


def media_of(path: Path) -> Media | None:
    """Return the reader of a file, None if it is neither a video nor a picture."""
    return media_from(path.suffix.lower(), path) if path.is_file() else None


def read_clip(path: Path, most: int) -> Tensor:
    """Return the first `most` frames at once, (f, h, w, 3); see `stream_clip`."""
    return torch.stack(list(stream_clip(path, most)))


def stream_clip(path: Path, most: int) -> Iterator[Tensor]:
    """Yield the first `most` frames, (h, w, 3) in [0, 1] in steps of 1 / 255.

    ValueError for a clip that cannot be read, and for pictures that differ in size.
    """
    media = Pictures(tuple(pictures_of(path))) if path.is_dir() else media_of(path)
    if isinstance(media, Pictures):
        name_gaps(path.name, [file for file in media.files if isinstance(file, Path)])
    first = None
    for frame in read_frames(path, media, most) if media else ():
        first = frame if first is None else first
        sizes = sorted({(picture.shape[1], picture.shape[0]) for picture in (first, frame)})
        if len(sizes) > 1:
            examples = " and ".join(f"{width} × {height}" for width, height in sizes)
            raise ValueError(f"{path.name} has frames of {examples} pixels: make them all one size.")
        yield frame.float() / 255
    if first is None:
        raise ValueError(f"{path.name} has no frames.")


def read_references(folder: Path) -> list[Tensor]:
    """Return the pictures of a folder, (1, h, w, 3) each, of any sizes. ValueError if there are none."""
    pictures = pictures_of(folder)
    if not pictures:
        raise ValueError(f"{folder} holds no reference picture: put some ({', '.join(PICTURES)}) into it.")
    return [frame.float()[None] / 255 for frame in read_frames(folder, Pictures(tuple(pictures)))]


def read_frames(path: Path, media: Media, most: int | None = None) -> Iterator[Tensor]:
    """Yield the first `most` frames, or all. ValueError names the file or folder that is unreadable."""
    try:
        yield from islice(media.frames(), most)
    except UnusableClip as error:
        raise ValueError(f"{path.name} cannot be read: {error}.") from error
