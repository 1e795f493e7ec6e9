"""Reads the samples of WebDataset shards: tar files in which the files of a sample follow each other by name."""

from __future__ import annotations

import json
import logging
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .videos import UnusableClip


@dataclass(frozen=True)
class Sample:
    name: str
    files: dict[str, bytes]
    """Contents by a name that ends as the file's does."""

    def caption(self, default: str | None) -> str:
        """That of .txt, or "caption" or "text" of .json, or `default`."""
        found: Any = None
        try:
            if "file.txt" in self.files:
                found = self.files["file.txt"].decode().strip()
            elif "file.json" in self.files:
                fields = json.loads(self.files["file.json"])
                found = fields.get("caption", fields.get("text"))
        except (ValueError, AttributeError) as error:
            raise UnusableClip(f"its caption is unreadable ({error})") from error
        found = default if found is None else found
        if not isinstance(found, str):
            raise UnusableClip("it has no caption")
        return found


def is_address(shard: str) -> bool:
    """Whether webdataset takes it by its scheme, such as "pipe:" or "https:". A single letter is a drive of Windows."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", shard) is not None


def expand(pattern: str) -> list[str]:
    """The shards of a pattern such as "clips-{0000..0099}.tar". ValueError if a file is not there."""
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError("'shards' needs the package webdataset: pip install .[training]") from error
    shards = expand_urls(pattern)
    missing = [shard for shard in shards if not is_address(shard) and not Path(shard).is_file()]
    if missing or not shards:
        raise ValueError(f"There is no file {(missing or [pattern])[0]}: correct 'shards'.")
    return shards


def read_samples(shard: str, contents: bool = True) -> Iterator[Sample]:
    """In their order. Without `contents` the files are empty, and of a local shard only the headers are read."""
    from webdataset.tariterators import group_by_keys

    for sample in group_by_keys(_files(shard, contents), handler=lambda _error: True):
        files = {f"file.{suffix}": data for suffix, data in sample.items() if not suffix.startswith("__")}
        yield Sample(f"{shard}/{sample['__key__']}", files)


def _files(shard: str, contents: bool) -> Iterator[dict[str, Any]]:
    """As webdataset hands them on. What comes after damage is left out, whether contents are read or not."""
    try:
        with _open(shard) as tar:
            for member in tar:
                if member.isfile() and not Path(member.name).name.startswith("__"):
                    data = _read(tar, member) if contents else b""
                    yield {"fname": member.name, "data": data, "__url__": shard}
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        logging.warning(f"Training: the shard {shard} is damaged, and what follows is left out ({error}).")


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Nothing of a file that breaks off, which makes the sample unusable; then the next header cannot be read."""
    try:
        stream = tar.extractfile(member)
        return stream.read() if stream else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        return b""


@contextmanager
def _open(shard: str) -> Iterator[tarfile.TarFile]:
    from webdataset.gopen import gopen

    if Path(shard).is_file():
        with tarfile.open(shard) as tar:
            yield tar
    else:
        stream: Any = gopen(shard)
        with stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
            yield tar
