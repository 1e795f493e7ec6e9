"""Finds the clips of a folder: videos, image sequences and stills, with their captions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .captions import find_captions
from .options import DataOptions
from .videos import PICTURES, VIDEOS, Media, Pictures, Video


@dataclass(frozen=True)
class Source:
    name: str
    """Path relative to the folder."""
    media: Media
    files: tuple[Path, ...]
    caption: str


def find_sources(options: DataOptions) -> list[Source]:
    """The clips of `options.folder` and its subfolders, sorted by name; what begins with a dot is left alone.

    A subfolder in which all pictures have the same name but for the number at its end is an image sequence; other
    pictures are stills. ValueError if there are none, or captions are missing.
    """
    folder = options.folder
    if folder is None or not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: correct 'folder'.")
    found = dict(sorted(_find(folder)))
    if not found:
        kinds = ", ".join(sorted(VIDEOS | PICTURES))
        raise ValueError(f"{folder} holds no clips: put videos or pictures into it ({kinds}).")
    captions = find_captions(folder, list(found), options.captions, options.caption)
    return [Source(name, *clip, captions[name]) for name, clip in found.items()]


def _find(folder: Path) -> Iterator[tuple[str, tuple[Media, tuple[Path, ...]]]]:
    pictures: dict[Path, list[Path]] = defaultdict(list)
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not file.is_file():
            continue
        if file.suffix.lower() in VIDEOS:
            yield name.as_posix(), (Video(file), (file,))
        elif file.suffix.lower() in PICTURES:
            pictures[file.parent].append(file)
    for parent, files in pictures.items():
        if parent != folder and _is_sequence(files):
            frames = tuple(sorted(files, key=_number))
            yield parent.relative_to(folder).as_posix(), (Pictures(frames), frames)
        else:
            yield from ((file.relative_to(folder).as_posix(), (Pictures((file,)), (file,))) for file in files)


def _number(picture: Path) -> int:
    """The one at the end of a picture's name, or -1."""
    digits = re.search(r"[0-9]+$", picture.stem)
    return int(digits[0]) if digits else -1


def _is_sequence(pictures: list[Path]) -> bool:
    prefixes = {picture.stem.rstrip("0123456789") for picture in pictures}
    return len(pictures) > 1 and len(prefixes) == 1 and min(map(_number, pictures)) >= 0
