"""The data of a training, as the training sees it. An item's randomness comes from the seed and its number alone."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple, Protocol

from torch import Tensor


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
