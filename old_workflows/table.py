"""Rows of the table of old nodes: inputs, versions of their saved values, outputs. Needs no ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


def without(names: Sequence[str], *gone: str) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)


@dataclass(frozen=True)
class Input:
    """An input of an old node; one with a default is a widget."""

    name: str
    type: str
    default: Any = None
    tooltip: str = ""
    optional: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Limits and choices, by the names that ComfyUI gives them."""
    folder: str = ""
    """The folder below models/ whose files are the choices."""
    instead: str = ""
    """Advice for an input that is not carried over."""
    unused: bool = False
    """The widget has no counterpart in the stand-in node."""
    formerly: str = ""
    """The input's name in older versions."""

    @property
    def is_widget(self) -> bool:
        return self.default is not None

    def accepts(self, value: Any) -> bool:
        """Return whether a saved value has the widget's type.

        When a pack inserted a widget, the page gave the values after it to the wrong ones.
        """
        if self.default is None or isinstance(self.default, str):
            pattern = self.settings.get("pattern", "")
            return self.default is None or (isinstance(value, str) and re.match(pattern, value) is not None)
        if isinstance(self.default, bool):
            return isinstance(value, bool) or value in self.settings.get("options", ())
        return isinstance(value, (int, float)) and not isinstance(value, bool)


TYPES = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}


def widgets(**defaults: Any) -> tuple[Input, ...]:
    """Return the widgets of a node that only the converter reads: a default tells the type."""
    return tuple(Input(name, TYPES[type(default)], default) for name, default in defaults.items())


def unused(**defaults: Any) -> tuple[Input, ...]:
    return tuple(replace(entry, unused=True) for entry in widgets(**defaults))


def names(entries: Sequence[Input]) -> tuple[str, ...]:
    return tuple(entry.name for entry in entries)


class OldOutput(NamedTuple):
    type: str
    tooltip: str
    name: str | None = None


class StandIn(NamedTuple):
    """The hidden node of this pack that takes an old node's place: its title, what does the same in new graphs, and
    its outputs."""

    title: str
    today: str
    outputs: tuple[OldOutput, ...]


class Becomes(NamedTuple):
    """The node that an old one becomes; without `new`, the old one only handed something on."""

    new: str = ""
    inputs: str = ""
    """Old inputs that it takes over, with their new names in front ("amount=multiply_by image")."""
    outputs: Sequence[int | str] = (0,)
    """What gives each old output now: an output of the new node, or what leads into an old input."""
    values: Mapping[str, Any] = {}


@dataclass(frozen=True)
class OldNode:
    """One node of an old pack."""

    inputs: tuple[Input, ...] = ()
    """In its order, which is that of the values in a workflow."""
    versions: tuple[tuple[str, ...], ...] = ()
    """Names of the saved values in each version of the node, if they have changed."""
    becomes: Becomes | None = None
    stand_in: StandIn | None = None
    replaced_by: str = ""
    """The node that the page replaces it with, where that is not a stand-in of its own."""
    missing: Mapping[str, Any] = field(default_factory=dict)
    """Values for widgets that older workflows lack, where the replacing node has another default."""

    def input(self, name: str) -> Input | None:
        """Return the input of that name, today's or a former one."""
        return next((entry for entry in self.inputs if name and name in (entry.name, entry.formerly)), None)

    @property
    def widgets(self) -> list[Input]:
        return [entry for entry in self.inputs if entry.is_widget]

    @property
    def carried(self) -> list[Input]:
        """Return the inputs that a replacing node has too."""
        return [entry for entry in self.inputs if not entry.unused]

    def values(self, saved: Any) -> dict[str, Any]:
        """Return the widgets' values by name, from what a workflow of any version holds.

        A value that is missing, or not of its widget's type, is the default. Values that the node is not known to have
        stay.
        """
        if isinstance(saved, Sequence):
            saved = dict(zip(self.version(saved), saved, strict=False))
        entries = {entry.name: entry for entry in self.widgets}
        values = {entry.name: self.missing.get(entry.name, entry.default) for entry in self.widgets}
        for name, value in (saved or {}).items():
            entry = self.input(name)
            name = entry.name if entry else name
            if name not in entries or entries[name].accepts(value):
                values[name] = value
        return values

    def version(self, saved: Sequence[Any]) -> Sequence[str]:
        """Return the names of saved values: those of the version that they fit best by types and number."""
        entries = {entry.name: entry for entry in self.widgets}

        def misfits(names: Sequence[str]) -> tuple[int, int]:
            pairs = zip(names, saved, strict=False)
            return sum(not entries[name].accepts(value) for name, value in pairs), abs(len(names) - len(saved))

        return min(self.versions or (tuple(entries),), key=misfits)


def same(new: str, inputs: str, outputs: Any = (0,), values: Mapping[str, Any] = {}, **defaults: Any) -> OldNode:
    """Return the row of an old node that becomes a new one; widgets that this takes over are named in `inputs`."""
    carried = [entry.rpartition("=")[2] for entry in inputs.split()]
    entries = [replace(entry, unused=entry.name not in carried) for entry in widgets(**defaults)]
    return OldNode(tuple(entries), becomes=Becomes(new, inputs, outputs, values))
