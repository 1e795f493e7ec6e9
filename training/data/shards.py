"""WebDataset shards, for corpora that outgrow a disk: decoded by other processes, encoded while training."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...evaluation.media import UnusableClip, media_from
from .encoding import Encoders, random_clip
from .items import Item, draws
from .options import DataOptions, check_address, is_address

LARGEST_FILE = 1 << 30
"""Bytes of a file in a shard, which is read at once."""
MOST_SHARDS = 1_000_000
MAX_FAILURES = 1000
"""Samples in a row that may be unusable before the training is given up."""


class Sample(NamedTuple):
    """Files that follow each other in a shard under one name."""

    turn: int
    """Counts the shards that were shown from the first on, over all epochs."""
    index: int
    """Place in the shard."""
    name: str
    files: dict[str, bytes]
    """Contents by suffix, without the dot."""

    def caption(self, default: str | None) -> str:
        """Return the text of .txt, or "caption" or "text" of .json, or `default`. UnusableClip if there is none."""
        caption: Any = None
        try:
            if "txt" in self.files:
                caption = self.files["txt"].decode().strip()
            elif "json" in self.files:
                fields = json.loads(self.files["json"])
                caption = fields.get("caption", fields.get("text"))
        except (ValueError, AttributeError) as error:
            raise UnusableClip(f"its caption is unreadable ({error})") from error
        caption = default if caption is None else caption
        if not isinstance(caption, str):
            raise UnusableClip("it has no caption")
        return caption


@dataclass(frozen=True)
class ShardOrder:
    """The endless order of samples: each epoch shuffles the shards, and a shard keeps the order of its file."""

    shards: Sequence[str]
    seed: int

    def samples(self, turn: int = 0, skipped: int = 0) -> Iterator[Sample]:
        """Yield the samples from a turn on, of which the first `skipped` are left out.

        ValueError if an epoch has none.
        """
        shown = turn
        for current in count(turn):
            for index, (name, files) in enumerate(read_samples(self._shard(current))):
                shown = current
                if current > turn or index >= skipped:
                    yield Sample(current, index, name=name, files=files)
            if current - shown >= 2 * len(self.shards):
                raise ValueError(f"{self.shards[0]} holds no samples: correct 'shards'.")

    def samples_from(self, first: int) -> Iterator[Sample]:
        """Yield the samples from number `first` on, for which the shards before are read and counted."""
        sizes: dict[str, int] = {}
        for turn in count():
            if first == 0 or (turn >= len(self.shards) and not any(sizes.values())):
                return self.samples(turn)
            shard = self._shard(turn)
            if shard not in sizes:
                sizes[shard] = sum(1 for _ in read_samples(shard))
            if first < sizes[shard]:
                return self.samples(turn, first)
            first -= sizes[shard]
        raise AssertionError("count() has no end")

    def _shard(self, turn: int) -> str:
        epoch, place = divmod(turn, len(self.shards))
        return draws(self.seed, "epoch", epoch).sample(self.shards, len(self.shards))[place]


class Decoded(NamedTuple):
    """A sample, or for an unusable one the next that is usable."""

    number: int
    pixels: Tensor
    """(f, h, w, 3) in [0, 1]."""
    caption: str
    unusable: dict[str, str]
    """Reasons by the names of samples."""


@dataclass(frozen=True)
class DecodedSamples(IterableDataset[Decoded | Exception]):
    """One process's share of the decoded samples, and at last the error that ends them.

    The workers of a DataLoader take turns, and each reads all shards, but decodes its own samples alone.
    """

    options: DataOptions
    order: ShardOrder
    first: int
    process: int
    processes: int

    def __iter__(self) -> Iterator[Decoded | Exception]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        try:
            samples = enumerate(self.order.samples_from(self.first), self.first)
            for numbered in islice(samples, self.process + worker * self.processes, None, workers * self.processes):
                yield self._decode(*numbered)
        except (ValueError, OSError) as error:  # as an item: a DataLoader would make a traceback of its sentence
            yield error

    def _decode(self, number: int, sample: Sample) -> Decoded:
        unusable: dict[str, str] = {}
        candidates = chain([sample], self.order.samples(sample.turn, sample.index + 1))
        for candidate in islice(candidates, MAX_FAILURES):
            try:
                return Decoded(number, *self._read(candidate, number), unusable)
            except UnusableClip as error:
                unusable[candidate.name] = str(error)
        raise ValueError(
            f"{MAX_FAILURES} samples in a row of {self.options.shards} cannot be used; {sample.name}: "
            f"{unusable[sample.name]}."
        )

    def _read(self, sample: Sample, number: int) -> tuple[Tensor, str]:
        caption = sample.caption(self.options.caption)
        readers = (media_from(Path(f"_.{suffix}").suffix, contents) for suffix, contents in sample.files.items())
        media = next(filter(None, readers), None)
        if media is None:
            raise UnusableClip(f"it has no video or picture, but {', '.join(f'.{suffix}' for suffix in sample.files)}")
        return random_clip(media, self.options, draws(self.order.seed, "item", number)), caption


class Shards:
    """Items of tar files.

    A sample is a video or picture and a caption: .txt, or .json with a "caption" or "text". The next usable sample
    takes the place of an `unusable` one, so that an item's number is its place in the shards, and samples of another
    process, or that were seen before, need not be decoded.
    """

    def __init__(
        self, options: DataOptions, encoders: Encoders, seed: int = 0, *, workers: int = min(4, os.cpu_count() or 1)
    ):
        self.options, self.encoders = options, encoders
        self.order = ShardOrder(expand(options.shards), seed)
        # Each worker reads all shards, and what comes from an address should come once.
        self.workers = min(workers, 1) if any(map(is_address, self.order.shards)) else workers
        self.unusable: dict[str, str] = {}
        """Reasons by the names of samples."""

    def stream(self, first: int, process: int = 0, processes: int = 1) -> Iterator[Item]:
        """Yield this process's share of the items; see `Data`."""
        samples = DecodedSamples(self.options, self.order, first=first, process=process, processes=processes)
        loader = DataLoader(
            samples,
            batch_size=None,
            num_workers=self.workers,
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),  # the loader draws a number, which must not be from PyTorch's own
        )
        for decoded in loader:
            if isinstance(decoded, Exception):
                raise decoded
            self._note(decoded.unusable)
            latents = self.encoders.encode_frames(decoded.pixels).float()
            yield Item(decoded.number, latents, self.encoders.encode_text(decoded.caption))

    def _note(self, unusable: dict[str, str]) -> None:
        for name, reason in unusable.items():
            if name not in self.unusable:
                self.unusable[name] = reason
                logging.warning(f"Training: {name} is left out ({len(self.unusable)} so far): {reason}.")


def ignore_interrupts(_worker: int) -> None:
    """Leave Ctrl-C to the process that trains, which finishes its step before it stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def expand(pattern: str) -> list[str]:
    """Return the shards of a pattern such as "clips-{0000..0099}.tar". ValueError if a file does not exist."""
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ValueError("'shards' needs the package webdataset: pip install .[training]") from error
    ranges = re.findall(r"\{(\d{1,99})\.\.(\d{1,99})", pattern)
    if math.prod(abs(int(last) - int(first)) + 1 for first, last in ranges) > MOST_SHARDS:
        raise ValueError(f"'shards' is a pattern of more than {MOST_SHARDS} files: correct its numbers.")
    shards = expand_urls(pattern)
    missing = [shard for shard in shards if not is_address(shard) and not Path(shard).is_file()]
    if missing or not shards:
        raise ValueError(f"There is no file {(missing or [pattern])[0]}: correct 'shards'.")
    return shards


def read_samples(shard: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield names and files (contents by suffix) of a shard's samples; what follows damage is left out."""
    from webdataset.tariterators import group_by_keys

    with _open(shard) as stream:
        for sample in group_by_keys(_files(shard, stream), handler=lambda _error: True):
            contents = {suffix: data for suffix, data in sample.items() if not suffix.startswith("__")}
            yield f"{shard}/{sample['__key__']}", contents


def _files(shard: str, stream: Any) -> Iterator[dict[str, Any]]:
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as tar:
            for entry in tar:
                if entry.issparse() or entry.size > LARGEST_FILE:
                    raise tarfile.TarError(f"{entry.name} is sparse, or larger than {LARGEST_FILE >> 20} MB")
                contents = tar.extractfile(entry) if entry.isreg() and not entry.name.startswith("__") else None
                if contents is not None:
                    yield {"fname": entry.name, "data": contents.read(), "__url__": shard}
                tar.members = []  # type: ignore[assignment] - which would grow with the shard
    except Exception as error:  # tarfile, zlib and lzma raise a dozen kinds for a broken file
        logging.warning(f"Training: the shard {shard} is damaged, and what follows is left out ({error}).")


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
