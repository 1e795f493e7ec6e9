"""Check the numbers that nodes are given. ComfyUI checks only those that are typed in, and lets NaN through."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.latest import io

LARGEST = 1_000_000


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Return the node class with a check of its inputs before it is executed."""
    execute: Any = node.execute

    @functools.wraps(execute.__func__)  # its signature has the defaults
    def execute_checked(cls: Any, *args: Any, **inputs: Any) -> io.NodeOutput:
        check_numbers(checking.GET_SCHEMA(), inputs)
        return execute.__func__(cls, *args, **inputs)

    namespace = {"__module__": node.__module__, "__doc__": node.__doc__, "execute": classmethod(execute_checked)}
    checking = type(node.__name__, (node,), namespace)
    return checking


def check_numbers(schema: io.Schema, inputs: Mapping[str, Any]) -> None:
    """Raise ValueError if a whole number lies outside the limits of its input, or another is NaN or beyond all use."""
    whole = {entry.id: entry for entry in schema.inputs if isinstance(entry, io.Int.Input) and entry.max is not None}
    for name, value in inputs.items():
        low, high = (whole[name].min, whole[name].max) if name in whole else (-LARGEST, LARGEST)
        for number in numbers(value):
            if not low <= number <= high:  # nor is NaN
                shown = number if isinstance(number, float) or abs(number) < 10**20 else "a number of many digits"
                raise ValueError(f"{name} is {shown}, but goes from {low} to {high}.")


def numbers(value: Any) -> Iterator[int | float]:
    """Yield the numbers of an input: none, itself, or those of a list."""
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, (int, float)):
        yield value
