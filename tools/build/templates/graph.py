"""A small notation for graphs: nodes in columns from left to right, linked by their outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Model(NamedTuple):
    """A model file: its name, the address that ComfyUI's page offers for download, and the folder it belongs in."""

    name: str
    url: str
    directory: str


class Output(NamedTuple):
    key: str
    output: str


@dataclass
class Node:
    """A node with the values of its widgets, the outputs linked to its inputs, and the models that its widgets name."""

    key: str
    type: str
    column: int
    title: str | None = None
    widgets: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Output] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)

    def __getitem__(self, output: str) -> Output:
        return Output(self.key, output)


class Graph:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, column: int, type: str, title: str | None = None, **inputs: Any) -> Node:
        """Add a node below the others in its column. Inputs that are outputs of other nodes become links."""
        node = Node(f"{len(self.nodes) + 1}", type, column, title)
        for name, value in inputs.items():
            if isinstance(value, Output):
                node.links[name] = value
            elif isinstance(value, Model):
                node.widgets[name] = value.name
                node.models.append(value)
            else:
                node.widgets[name] = value
        self.nodes.append(node)
        return node

    def note(self, title: str, *paragraphs: str) -> None:
        self.add(0, "MarkdownNote", title, text="\n\n".join([f"## {title}", *paragraphs]))
