"""Windows that attend to the first one: ContextRef. Needs no ComfyUI.

In the first steps, which decide the look of a clip, self-attentions of the UNet see in every later window also what
they saw in the first, frame by frame. This is ContextRef of ComfyUI-AnimateDiff-Evolved with its default settings, a
form of reference-only control; the negative prompt sees its own window alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .calls import KEY

END = 0.25  # of the sampling
NEGATIVE = 1  # as ComfyUI numbers the prompts of a call
Layer = tuple[Tensor, Tensor, Tensor]  # what a self-attention takes: queries, keys and values before projection


class FirstWindow:
    """Shows the keys and values of the first window of a step, before their projections, to the others."""

    def __init__(self, strength: float):
        self.strength = strength
        self.features: dict[Any, tuple[Tensor, Tensor]] = {}

    def patches(self, options: dict[str, Any], first: bool) -> dict[str, Any]:
        """Return the patches of a call's transformer_options with one that keeps the first window's features or shows
        them to the others."""
        patches, replaced = options.get("patches", {}), options.get("patches_replace", {}).get("attn1", {})

        def patch(x: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> Layer:
            tiled = len(x) != len(context)  # HyperTile cuts the queries alone
            if tiled or is_replaced(options, replaced):
                return x, context, value
            return (self.keep if first else self.extend)(x, context, value, options)

        return {"patches": {**patches, "attn1_patch": [*patches.get("attn1_patch", []), patch]}}

    def keep(self, x: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> Layer:
        """Keep the first window's features, and show them to other windows in the same call."""
        length = options[KEY].length
        for prompt, rows in shown_prompts(len(x), options):
            part = slice(rows.start, rows.start + length)
            first = context[part].clone()
            self.features[layer_key(prompt, options)] = first, first if value is context else value[part].clone()
        return self.extend(x, context, value, options) if options[KEY].windows > 1 else (x, context, value)

    def extend(self, x: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> Layer:
        """Add the first window's features to the keys and values of a call."""
        more = self.extended_by_first(context, 0, options)
        return x, more, more if value is context else self.extended_by_first(value, 1, options)

    def extended_by_first(self, own: Tensor, which: int, options: dict[str, Any]) -> Tensor:
        """Return keys or values (b, n, c) with as many of the first window after them: (b, 2 n, c).

        The negative prompt gets its own again, which changes nothing in a softmax.
        """
        more = own.clone()
        for prompt, rows in shown_prompts(len(own), options):
            first = self.features.get(layer_key(prompt, options), (own, own))[which]
            if first.shape[1:] == own.shape[1:] and len(first) == options[KEY].length:
                shown = first.to(own.device).repeat(options[KEY].windows, 1, 1)
                more[rows] = torch.lerp(own[rows], shown, self.strength)
        return torch.cat((own, more), dim=1)


def shown_prompts(rows: int, options: dict[str, Any]) -> Iterator[tuple[Any, slice]]:
    """Yield the name and the rows of each prompt of a call but the negative ones."""
    kinds, names = options["cond_or_uncond"], options["uuids"]
    rows_per_prompt = rows // len(kinds)
    for number, (kind, name) in enumerate(zip(kinds, names, strict=True)):
        if kind != NEGATIVE:
            yield options[KEY].prompts.get(name, name), slice(number * rows_per_prompt, (number + 1) * rows_per_prompt)


def layer_key(prompt: Any, options: dict[str, Any]) -> tuple[Any, ...]:
    return prompt, options["block"], options["block_index"]


def is_replaced(options: dict[str, Any], replaced: dict[Any, Any]) -> bool:
    """Return whether a node has replaced this self-attention, which might not work with more keys than queries."""
    return options["block"] in replaced or (*options["block"], options["block_index"]) in replaced
