"""WebDataset shards, for corpora that outgrow a disk: decoded by other processes, encoded while training."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...evaluation.media import UnusableClip
from .encoding import Encoders, random_clip
from .items import Item, draws
from .options import DataOptions, is_address
from .shard_files import expand, media_of, read_samples

LONGEST_CAPTION = 10_000
"""Characters, of each 300 of which a text encoder makes 77 tokens."""
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
        except (ValueError, AttributeError, RecursionError) as error:
            raise UnusableClip(f"its caption is unreadable ({error})") from error
        caption = default if caption is None else caption
        if not isinstance(caption, str):
            raise UnusableClip("it has no caption")
        if len(caption) > LONGEST_CAPTION:
            raise UnusableClip(f"its caption is longer than {LONGEST_CAPTION} characters")
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
        readers = (media_of(suffix, contents) for suffix, contents in sample.files.items())
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

    def identities(self) -> dict[str, str]:
        return {shard: "" if is_address(shard) else str(os.path.getsize(shard)) for shard in self.order.shards}

    def _note(self, unusable: dict[str, str]) -> None:
        for name, reason in unusable.items():
            if name not in self.unusable:
                self.unusable[name] = reason
                logging.warning(f"Training: {name} is left out ({len(self.unusable)} so far): {reason}.")


def ignore_interrupts(_worker: int) -> None:
    """Leave Ctrl-C to the process that trains, which finishes its step before it stops."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
