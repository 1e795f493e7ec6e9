"""What a training asks of its data. All that is random about an item comes from the seed and the item's number."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple, Protocol

from torch import Tensor


class Prompt(NamedTuple):
    context: Tensor
    """(tokens, features)."""
    pooled: Tensor | None = None
    """(p,), of models that have it (SDXL)."""


class Item(NamedTuple):
    number: int
    """Counts the items of a training from 0."""
    latents: Tensor
    """(f, c, h, w), scaled as the UNet takes them, in float32."""
    prompt: Prompt


class Data(Protocol):
    def stream(self, first: int, process: int = 0, processes: int = 1) -> Iterator[Item]:
        """The share that one of several processes has of the items from number `first` on, without an end.

        The same number always gives the same item: a training that was stopped goes on with the data that it would
        have seen, and several processes see together what one would.
        """
        ...


def draws(seed: int, *what: object) -> Random:
    """Random numbers for one purpose, such as `draws(seed, "item", 7)`; the same on every machine."""
    return Random(" ".join(map(str, (seed, *what))))
