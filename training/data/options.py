"""Options for the data of a training run: the [data] table of a config file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...sampling.timeline import cut
from .camera import Movement
from .transforms import Size, nearest_bucket

SCHEMES = ("file", "http", "https")
"""Addresses of shards that are read. Others of webdataset's, such as "pipe:", run programs."""


def is_address(shard: str) -> bool:
    """Return whether a shard begins with a scheme, such as "https:"; a single letter is a drive of Windows."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", shard) is not None


def check_address(shard: str) -> None:
    """Raise ValueError for an address that would run a program."""
    if is_address(shard) and shard.partition(":")[0].lower() not in SCHEMES:
        raise ValueError(
            f"'shards' holds the address {cut(shard)}, which would run a program: use files, or addresses of "
            f"{', '.join(SCHEMES)}."
        )


@dataclass(frozen=True)
class DataOptions:
    """[data] of a configuration. ValueError names the key that is wrong."""

    __pydantic_config__ = {"extra": "forbid"}
    folder: Path | None = None
    """Folder of videos, image sequences (subfolders of numbered pictures) and stills, with their captions."""
    shards: str = ""
    """WebDataset shards instead of a folder, such as "clips-{0000..0099}.tar", decoded and encoded while training.

    They are files, or addresses of SCHEMES; "::" separates several.
    """
    caption: str | None = None
    """Caption of clips that have none of their own."""
    captions: Path | None = None
    """A .csv or .jsonl file of captions. Default: captions.csv, captions.jsonl or metadata.jsonl in the folder."""
    frames: int = 16
    """Frames of a clip in training; 1 trains on single frames."""
    stride: int = 4
    """Use every n-th frame of the video."""
    size: int = 256
    """Pixels of each side, or with buckets of the square that has about the same area."""
    buckets: bool = False
    """Train each clip in the shape that is nearest to its own, instead of a square."""
    crop: Literal["centre", "random"] = "centre"
    """Part to keep of clips that are too wide or too high."""
    flip: bool = False
    """Show clips mirrored as well. Leave it off where left and right matter."""
    camera_motion: Literal["", Movement] = ""
    """A camera movement to make from stills or clips, such as "zoom in" or "pan left"."""
    amount: float = 0.25
    """Size of the camera movement, between 0 and 1: a share of the picture, or for "roll" of a right angle."""
    variants: int = 8
    """Clips to make of each still or clip with a camera movement, each of another part of it."""
    cache: Path | None = None
    """Folder for encoded clips. Default: .encoded in the folder of the clips."""

    def __post_init__(self):
        if (self.folder is None) != bool(self.shards):
            raise ValueError("Data needs either 'folder' or 'shards': set one of the two.")
        for shard in self.shards.split("::"):
            check_address(shard)
        if self.size % 8:
            raise ValueError(f"'size' is {self.size}, but must be a multiple of 8: use {-(-self.size // 8) * 8}.")
        if self.shards and self.buckets:
            raise ValueError("'buckets' needs all clips at once: use it with 'folder', or leave it out with 'shards'.")
        if self.camera_motion and not 0 < self.amount < 1:
            raise ValueError(f"'amount' is {self.amount}, but must be above 0 and below 1.")
        if self.camera_motion and self.frames == 1:
            raise ValueError("'frames' is 1, in which no 'camera_motion' can be seen: use 2 or more, such as 16.")

    @property
    def span(self) -> int:
        """Return the number of frames of a video from a clip's first to its last."""
        return (self.frames - 1) * self.stride + 1

    def size_for(self, frame: Size) -> Size:
        """Return height and width in training of frames of this height and width."""
        return nearest_bucket(frame, self.size) if self.buckets else (self.size, self.size)
