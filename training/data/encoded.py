"""Clips that are already encoded: cached in files, or latents of a graph."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, cycle, islice

import torch
from torch import Tensor

from .cache import CachedClip
from .items import Item, Prompt, draws


@dataclass(frozen=True)
class MemoryClip:
    """Latents (F, c, h, w) in memory, which have a single version."""

    frames: Tensor
    words: Prompt
    versions = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.frames.shape)

    def latents(self, version: int, frames: slice) -> Tensor:
        return self.frames[frames]

    def prompt(self) -> Prompt:
        return self.words


Clip = MemoryClip | CachedClip


class EncodedClips:
    """Items of `frames` frames, every `stride`-th of a clip from a random one on.

    An epoch shows every clip once, in an order of its own. The `batch` items that go through the UNet at once need one
    size: where clips differ in size, those of each size are shuffled among themselves, and some are shown again to
    fill the last call. Clips that are too short are left out and counted in `too_short`; ValueError if none is left.
    """

    def __init__(self, clips: Sequence[Clip], frames: int, stride: int = 1, batch: int = 1, seed: int = 0):
        self.stride, self.seed = stride, seed
        self.span = (frames - 1) * stride + 1
        self.clips = [clip for clip in clips if clip.shape[0] >= self.span]
        self.too_short = len(clips) - len(self.clips)
        needed = f"the {self.span} frames that {frames} frames with a stride of {stride} span"
        needed = needed if stride > 1 else f"the {frames} frames that are needed"
        if not self.clips:
            longest = max((clip.shape[0] for clip in clips), default=0)
            raise ValueError(
                f"No clip is long enough: the longest of {len(clips)} has {longest} frames, fewer than {needed}; "
                "use longer clips, or lower 'frames' or 'stride'."
            )
        if self.too_short:
            logging.warning(f"Training: {self.too_short} of {len(clips)} clips are shorter than {needed}: left out.")
        sizes: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, clip in enumerate(self.clips):
            sizes[clip.shape[1:]].append(index)
        self.buckets = list(sizes.values())
        self.together = batch if len(self.buckets) > 1 else 1
        """Items of one size that follow each other; 1 where all clips have one size, since no call is to be filled."""
        self.epoch_items = sum(-(-len(bucket) // self.together) * self.together for bucket in self.buckets)

    def stream(self, first: int, process: int = 0, processes: int = 1) -> Iterator[Item]:
        """Yield this process's share of the items; see `Data`.

        The processes take turns, each with the items of one call of the UNet, so that the calls are those of one
        process.
        """
        order, order_epoch = [], None
        calls = count(first + process * self.together, processes * self.together)
        for number in chain.from_iterable(range(call, call + self.together) for call in calls):
            epoch, place = divmod(number, self.epoch_items)
            if epoch != order_epoch:
                order, order_epoch = self._order(epoch), epoch
            yield self._item(number, self.clips[order[place]])

    def identities(self) -> dict[str, str]:
        return {clip.name: clip.identity for clip in self.clips if isinstance(clip, CachedClip)}

    def _order(self, epoch: int) -> list[int]:
        """Return the indices of an epoch's clips, in groups of `together` of one size."""
        random, calls = draws(self.seed, "epoch", epoch), []
        for bucket in self.buckets:
            endless = cycle(random.sample(bucket, len(bucket)))
            calls += [list(islice(endless, self.together)) for _ in range(0, len(bucket), self.together)]
        random.shuffle(calls)
        return [index for call in calls for index in call]

    def _item(self, number: int, clip: Clip) -> Item:
        random = draws(self.seed, "item", number)
        start = random.randrange(clip.shape[0] - self.span + 1)
        frames = slice(start, start + self.span, self.stride)
        latents = clip.latents(random.randrange(clip.versions), frames)
        return Item(number, latents.to(torch.float32, copy=True), clip.prompt())
