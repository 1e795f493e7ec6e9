"""The data of a training, as the training sees it. An item's randomness comes from the seed and its number alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from torch import Tensor

from ...sampling.timeline import cut


class Prompt(NamedTuple):
    """An encoded prompt."""

    context: Tensor
    """(tokens, features)."""
    pooled: Tensor | None = None
    """(p,), for models that have it (SDXL)."""


class Item(NamedTuple):
    """A clip of a training."""

    number: int
    """Place among all items of the training, from 0."""
    latents: Tensor
    """(f, c, h, w), scaled as the UNet takes them, in float32."""
    prompt: Prompt


class Data(Protocol):
    """A source of items."""

    def stream(self, first: int, process: int = 0, processes: int = 1) -> Iterator[Item]:
        """Yield the share of one of several processes in the items from number `first` on, without an end.

        The same number always gives the same item: a resumed training sees the data that it would have seen, and
        several processes see together what one would.
        """
        ...

    def identities(self) -> dict[str, str]:
        """Return texts that change with the clips, by their names."""
        ...


def draws(seed: int, *purpose: object) -> Random:
    """Return random numbers for one purpose, such as `draws(seed, "item", 7)`; the same on every machine."""
    return Random(" ".join(map(str, (seed, *purpose))))


def check_clips(file: Path, before: dict[str, str], now: dict[str, str], *, may_change: bool) -> None:
    """Log the clips that are not those of a state, if there are any. ValueError unless they may change."""
    if not before or not now or before == now:
        return
    names = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name in now if before.get(name, now[name]) != now[name]],
    }
    changes = "; ".join(f"{len(names[how])} {how}: {cut(', '.join(names[how]))}" for how in names if names[how])
    if not may_change:
        raise ValueError(
            f"The clips are not those of {file} ({changes}): restore them, or set data.may_change = true to resume "
            "with these."
        )
    logging.warning(f"Training: the clips are not those of {file} ({changes}), and it resumes with these.")
