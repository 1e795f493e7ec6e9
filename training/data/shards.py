"""WebDataset shards, for corpora that outgrow a disk: decoded in the background, encoded while training."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, count, islice
from pathlib import Path

from torch import Tensor

from .background import in_background
from .encoding import EncodeFrames, random_clip
from .items import Item, Prompt, draws
from .options import DataOptions
from .tars import Sample, expand, read_samples
from .videos import UnusableClip, media

MAX_FAILURES = 1000
"""Samples in a row that may be unusable before the training is given up."""


class Shards:
    """Items of tar files, of which each epoch has its own order; within a file they are as they were written.

    A sample is a video or picture and a caption: .txt, or .json with a "caption" or "text". For a sample that is
    `unusable` the next one that is not is given, so that an item's number is its place in the shards, and samples that
    are passed over, because they are another process's or were seen before, need not be decoded.
    """

    def __init__(
        self,
        options: DataOptions,
        encode_frames: EncodeFrames,
        encode_text: Callable[[str], Prompt],
        seed: int = 0,
        workers: int = min(4, os.cpu_count() or 1),
    ):
        self.options, self.encode_frames, self.encode_text = options, encode_frames, encode_text
        self.seed, self.workers = seed, workers
        self.shards = expand(options.shards)
        self.unusable: dict[str, str] = {}
        """Reasons by the names of samples."""
        self._sizes: dict[str, int] = {}

    def stream(self, first: int, process: int = 0, processes: int = 1) -> Iterator[Item]:
        for number, pixels, caption in in_background(self._decoded(first + process, processes), self.workers):
            yield Item(number, self.encode_frames(pixels).float(), self.encode_text(caption))

    def _decoded(self, first: int, step: int) -> Generator[tuple[int, Tensor, str], None, None]:
        """Item numbers, pixels (f, h, w, 3) and captions, by several threads but in their order."""
        samples = islice(self._samples(first), 0, None, step)
        pool, ahead = ThreadPoolExecutor(self.workers), deque[Future]()
        try:
            while True:
                for number, sample in islice(samples, 2 * self.workers - len(ahead)):
                    ahead.append(pool.submit(self._decode, number, sample))
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, number: int, sample: Sample) -> tuple[int, Tensor, str]:
        for _, candidate in islice(chain([(number, sample)], self._samples(number + 1)), MAX_FAILURES):
            try:
                return number, *self._read(candidate, number)
            except UnusableClip as error:
                if candidate.name not in self.unusable:
                    self.unusable[candidate.name] = str(error)
                    logging.warning(f"Training: {candidate.name} is left out ({len(self.unusable)} so far): {error}.")
        why = self.unusable[sample.name]  # of several threads any may have been the first to find one
        raise ValueError(
            f"{MAX_FAILURES} samples in a row of {self.options.shards} cannot be used; {sample.name}: {why}."
        )

    def _read(self, sample: Sample, number: int) -> tuple[Tensor, str]:
        caption = sample.caption(self.options.caption)
        clip = next(filter(None, (media(Path(name).suffix.lower(), data) for name, data in sample.files.items())), None)
        if clip is None:
            raise UnusableClip(f"it has no video or picture, but {', '.join(sample.files)}")
        return random_clip(clip, self.options, draws(self.seed, "item", number)), caption

    def _samples(self, first: int) -> Iterator[tuple[int, Sample]]:
        """Places from `first` on in the endless order of shards, with the samples there."""
        place = 0
        for epoch in count():
            start = place
            for shard in draws(self.seed, "epoch", epoch).sample(self.shards, len(self.shards)):
                if place < first and place + self._size(shard) <= first:
                    place += self._size(shard)
                    continue
                for sample in read_samples(shard):
                    if place >= first:
                        yield place, sample
                    place += 1
            if place == start:
                raise ValueError(f"{self.options.shards} holds no samples: correct 'shards'.")

    def _size(self, shard: str) -> int:
        if shard not in self._sizes:
            self._sizes[shard] = sum(1 for _ in read_samples(shard, contents=False))
        return self._sizes[shard]
