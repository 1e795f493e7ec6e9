"""Reads WebDataset shards: the names of a pattern, and the files of the samples in a tar."""

from __future__ import annotations

import logging
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ...evaluation.media import Media, media_from
from ...sampling.timeline import cut
from .options import check_address, is_address

LARGEST = 1 << 30
"""Bytes of a file in a shard, and of all that is read of a sample, which is in memory at once."""
CAPTIONS = ("txt", "json")
MOST_SHARDS = 1_000_000
DEEPEST = 1_000_000
"""Largest product of a pattern's length and the depth of its braces."""


def expand(pattern: str) -> list[str]:
    """Return the shards of a pattern such as "clips-{0000..0099}.tar". ValueError if a file does not exist."""
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError("'shards' needs the package webdataset: pip install .[training]") from error
    try:
        # A name of more than 200 characters counts as several: all are in memory at once.
        count = sum(count_names(part) * max(200, len(part)) for part in pattern.split("::")) // 200
        shards = expand_urls(pattern) if count <= MOST_SHARDS else []
    except (AssertionError, RecursionError, ValueError) as error:
        reason = "braces, numbers or variables are wrong"
        raise ValueError(f"'shards' is {cut(pattern)}, in which {reason}: correct it.") from error
    if count > MOST_SHARDS:
        raise ValueError(f"'shards' is a pattern of more than {MOST_SHARDS} files: correct its numbers.")
    missing = [shard for shard in shards if not is_address(shard) and not os.path.isfile(shard)]
    if missing or not shards:
        raise ValueError(f"There is no file {printable((missing or [pattern])[0])}: correct 'shards'.")
    return shards


def count_names(pattern: str) -> int:
    """Return at least the number of names of a pattern with braces, without making them.

    ValueError if the braces are so deep that webdataset, which reads all again at each depth, would take seconds.
    """
    sums, products = [0], [1]  # of the braces that are open: finished alternatives, and the present one
    for part in re.findall(r"\\.|\{-?\w+\.\.-?\w+|[{},]", pattern, re.DOTALL):
        if len(sums) * len(pattern) > DEEPEST:
            raise ValueError("its braces are too deep")
        if part == "," and len(sums) > 1:
            sums[-1], products[-1] = sums[-1] + products[-1], 1
        elif part == "}" and len(sums) > 1:
            inner = sums.pop() + products.pop()
            products[-1] = min(products[-1] * inner, MOST_SHARDS + 1)
        elif part[0] == "{":
            sums.append(0)
            products.append(range_length(*part[1:].split("..")) if len(part) > 1 else 1)
    return products[0]


def range_length(first: str, last: str) -> int:
    """Return the number of names of a range such as 0..99, and at least that of a..f."""
    numbers = [int(end[:99]) for end in (first, last) if re.fullmatch(r"-?\d+", end)]
    return abs(numbers[0] - numbers[1]) + 1 if len(numbers) == 2 else 52


def read_samples(shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield names and files (contents by suffix) of a shard's samples; what follows damage is left out."""
    with _open(shard) as stream:
        for key, files in groupby(_files(shard, stream), key=lambda file: file.key):
            contents: dict[str, bytes] = {}
            for file in files:
                if file.suffix in contents:
                    logging.warning(f"Training: a second {printable(file.name)} in the shard {shard} is left out.")
                contents.setdefault(file.suffix, file.contents)
            yield f"{shard}/{printable(key)}", contents


class File(NamedTuple):
    """A file of a sample in a shard."""

    name: str
    key: str
    """The sample: the name up to the first dot behind the folders."""
    suffix: str
    contents: bytes
    """Nothing of a file that no training reads."""


def _files(shard: str, stream: Any) -> Iterator[File]:
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as tar:
            key, total = "", 0
            for entry in tar:
                folder, slash, name = entry.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                suffix, before, key = suffix.lower(), key, f"{folder}{slash}{stem}"
                total = (total if key == before else 0) + (entry.size if is_read(suffix) else 0)
                if entry.issparse() or max(entry.size, total) > LARGEST:
                    raise tarfile.TarError(f"{entry.name} is sparse, or larger than {LARGEST >> 20} MB with its sample")
                if entry.isreg() and stem and dot and not entry.name.startswith("__") and not suffix.startswith("__"):
                    contents = tar.extractfile(entry) if is_read(suffix) else None
                    yield File(entry.name, key, suffix=suffix, contents=contents.read() if contents else b"")
                tar.members = []  # type: ignore[assignment] - which would grow with the shard
    except Exception as error:  # tarfile, zlib and lzma raise a dozen kinds for a broken file
        reason = printable(str(error))
        logging.warning(f"Training: the shard {shard} is damaged, and what follows is left out ({reason}).")


def is_read(suffix: str) -> bool:
    """Return whether a training reads files of a suffix, without its first dot."""
    return suffix in CAPTIONS or media_of(suffix, b"") is not None


def media_of(suffix: str, contents: bytes) -> Media | None:
    """Return the reader of a file with a suffix, such as "mp4" or "left.mp4"."""
    return media_from(Path(f"_.{suffix}").suffix, contents)


def printable(name: str) -> str:
    """Return a name from a shard for one line of the log."""
    return "".join(character if character.isprintable() else "?" for character in name[:200])


@contextmanager
def _open(shard: str) -> Iterator[Any]:
    """Open a file, or an address that webdataset reads without a shell. OSError if the address is not read to its end,
    after which a resumed training would see other samples."""
    if not is_address(shard):
        with open(shard, "rb") as stream:
            yield stream
        return
    from webdataset.gopen import gopen

    check_address(shard)
    try:
        with gopen(shard) as stream:
            yield stream
    except OSError as error:
        raise OSError(f"The shard {shard} cannot be read: check the address, and resume later.") from error
