"""Finds the clips of a folder: videos, animations, image sequences and stills, with their captions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import digits

from ...evaluation.media import ANIMATED, PICTURES, VIDEOS, Media, Pictures, by_number, media_from
from .captions import find_captions
from .options import DataOptions


@dataclass(frozen=True)
class Source:
    """A clip that was found, with its caption."""

    name: str
    """Path relative to the folder."""
    media: Media
    files: tuple[Path, ...]
    caption: str


def find_sources(options: DataOptions) -> list[Source]:
    """Return the clips of `options.folder` and its subfolders, sorted by name; names that begin with a dot are skipped.

    A subfolder whose pictures all have one name but for the number at its end is an image sequence; other pictures
    are stills. ValueError if there are none, or if captions are missing.
    """
    folder = options.folder
    if folder is None or not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: correct 'folder'.")
    clips = dict(sorted(_find(folder)))
    if not clips:
        kinds = ", ".join(sorted({*VIDEOS, *ANIMATED, *PICTURES}))
        raise ValueError(f"{folder} holds no clips: put videos or pictures into it ({kinds}).")
    captions = find_captions(folder, list(clips), table=options.captions, default=options.caption)
    return [Source(name, media, files, caption=captions[name]) for name, (media, files) in clips.items()]


def _find(folder: Path) -> Iterator[tuple[str, tuple[Media, tuple[Path, ...]]]]:
    pictures: dict[Path, list[Path]] = defaultdict(list)
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not file.is_file():
            continue
        suffix = file.suffix.lower()
        if suffix in PICTURES:
            pictures[file.parent].append(file)
        elif media := media_from(suffix, file):
            yield name.as_posix(), (media, (file,))
    for parent, files in pictures.items():
        if parent != folder and _is_sequence(files):
            frames = tuple(sorted(files, key=by_number))
            yield parent.relative_to(folder).as_posix(), (Pictures(frames), frames)
        else:
            for file in files:
                if media := media_from(file.suffix.lower(), file):
                    yield file.relative_to(folder).as_posix(), (media, (file,))


def _is_sequence(pictures: list[Path]) -> bool:
    stems = {picture.stem for picture in pictures}
    prefixes = {stem.rstrip(digits) for stem in stems}
    return len(pictures) > 1 and len(prefixes) == 1 and prefixes.isdisjoint(stems)
