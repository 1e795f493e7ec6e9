"""Finds the clips of a folder: videos, animations, image sequences and stills, with their captions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import digits

from ...evaluation.media import (
    ANIMATED,
    PICTURES,
    TEXTS,
    VIDEOS,
    Media,
    Pictures,
    by_number,
    media_from,
    name_gaps,
    name_unread,
)
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

    def identity(self) -> str:
        """Return a text that changes with the files and the caption."""
        sizes = [file.stat().st_size for file in self.files]
        return sha256(str((sizes, self.caption)).encode()).hexdigest()[:16]


def find_sources(options: DataOptions) -> list[Source]:
    """Return the clips of `options.folder` and its subfolders, sorted by name; names that begin with a dot are skipped.

    A subfolder whose pictures all have one name but for the number at its end, and no captions of their own, is an
    image sequence; other pictures are stills. ValueError if there are none, or if captions are missing.
    """
    folder = options.folder
    if folder is None or not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: correct 'folder'.")
    clips = dict(sorted(_find(options, folder)))
    if not clips:
        kinds = ", ".join(sorted({*VIDEOS, *ANIMATED, *PICTURES}))
        raise ValueError(f"{folder} holds no clips: put videos or pictures into it ({kinds}).")
    captions = find_captions(folder, list(clips), table=options.captions, default=options.caption)
    return [Source(name, media, files, caption=captions[name]) for name, (media, files) in clips.items()]


def _find(options: DataOptions, folder: Path) -> Iterator[tuple[str, tuple[Media, tuple[Path, ...]]]]:
    pictures: dict[Path, list[Path]] = defaultdict(list)
    unread = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not file.is_file():
            continue
        media = media_from(file.suffix.lower(), file)
        if isinstance(media, Pictures):
            pictures[file.parent].append(file)
        elif media:
            yield name.as_posix(), (media, (file,))
        elif file.suffix.lower() not in TEXTS:
            unread.append(name.as_posix())
    for parent, files in pictures.items():
        if parent != folder and _is_sequence(parent, files, options):
            frames = tuple(sorted(files, key=by_number))
            name_gaps(parent.relative_to(folder).as_posix(), frames)
            yield parent.relative_to(folder).as_posix(), (Pictures(frames), frames)
        else:
            yield from ((file.relative_to(folder).as_posix(), (Pictures((file,)), (file,))) for file in files)
    name_unread(unread)


def _is_sequence(folder: Path, pictures: list[Path], options: DataOptions) -> bool:
    """Return whether a subfolder's pictures are the frames of one clip.

    Cameras number photos too, which with a camera movement are stills unless the subfolder has a caption.
    """
    stems = {picture.stem for picture in pictures}
    prefixes = {stem.rstrip(digits) for stem in stems}
    numbered = len(pictures) > 1 and len(prefixes) == 1 and prefixes.isdisjoint(stems)
    own_captions = any(picture.with_suffix(".txt").is_file() for picture in pictures)
    one_caption = folder.with_name(f"{folder.name}.txt").is_file()
    return numbered and not own_captions and (one_caption or not options.camera_motion)
