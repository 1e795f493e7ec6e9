"""A conversion under way: the workflow as it was, as it becomes, and what was lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .graph import GAP, TITLE, Graph, Node, Output, position, width_and_height
from .old_nodes import is_old, name_of, widget_values

ROUTES = ("Reroute", "PrimitiveNode")
MUTED, BYPASSED = 2, 4
OFF = "it is switched off, and left out."


class Conversion:
    """Old nodes are read from `old`, which stays as it was, and changed in `new`."""

    def __init__(self, workflow: dict[str, Any]):
        self.old, self.new = Graph(workflow), Graph(workflow)
        self.lost: list[str] = []
        self.placed: dict[Any, Node] = {}

    def of_type(self, *names: str) -> list[Node]:
        return [node for node in self.old.nodes.values() if name_of(node["type"]) in names]

    def say(self, node: Node, sentence: str) -> None:
        line = f"{called(node)}: {sentence}"
        if line not in self.lost:
            self.lost.append(line)

    def read(self, node: Node, fixed: Collection[str] = ()) -> dict[str, Any]:
        """The node's widgets. It is said of those in `fixed` that they do not follow what they are connected to."""
        for name in fixed:
            if self.old.link_into(node, name) is not None:
                self.say(node, f"{name} is connected, and keeps the value that it shows instead.")
        return widget_values(node)

    def working(self, node: Node, name: str) -> Output | None:
        """What an input gets, unless that is switched off."""
        source = self.old.source(node, name)
        if source is None or not is_off(source.node, node):
            return source
        self.say(source.node, OFF)
        return None

    def leave_out(self, node: Node, *known: str) -> None:
        """Say of each connected input but the known ones that it is left out."""
        for socket in node.get("inputs") or []:
            source = self.old.source(node, socket["name"])
            if source is not None and socket["name"] not in known:
                self.say(node, f"{socket['name']}, from {called(source.node)}, is left out.")

    def place(
        self,
        node: Node,
        kind: str,
        values: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        outputs: Sequence[int | None] = (),
    ) -> Node:
        """A node of type `kind` where the old one was; one that is used a second time gets a copy below. See
        `Graph.become`."""
        inputs = inputs or {}
        first = self.placed.get(node["id"])
        if first is None:
            self._say_cut(node, outputs)
            self.placed[node["id"]] = self.new.become(self.new.nodes[node["id"]], kind, values, inputs, outputs)
            return self.placed[node["id"]]
        again = self.new.add(kind, values, below(first), node)
        for name in inputs:
            if (link := self.new.link_into(first, name)) is not None:
                self.new.connect(link.source, again, name)
        return again

    def _say_cut(self, node: Node, kept: Sequence[int | None]) -> None:
        """Of outputs that the new node lacks, unless all that they led to is rewritten with it."""
        new = self.new.nodes[node["id"]]
        for index, socket in enumerate(new.get("outputs") or []):
            targets = [link.target["type"] for link in self.new.links_from(new, index)]
            if index not in kept and any(not is_old(type) and type not in ROUTES for type in targets):
                self.say(node, f"its output {socket['name']} has no counterpart; what it led to is not connected.")

    def beside(self, node: Node, kind: str, values: Mapping[str, Any], left: bool = False) -> Node:
        """A new node below an old one, or to the left of it."""
        x, y = position(node)
        return self.new.add(kind, values, (x - 300 - GAP, y) if left else below(node), node)

    def carry(self, node: Node, name: str, target: Node, new_name: str) -> None:
        """Lead the link into an old node's input into a new node's."""
        if node["id"] in self.new.nodes and (link := self.new.link_into(self.new.nodes[node["id"]], name)) is not None:
            self.new.connect(link.source, target, new_name)

    def pass_on(self, node: Node, output: int, name: str) -> None:
        """Let what an output led to begin where the input of that name does: the old node handed it on."""
        new = self.new.nodes[node["id"]]
        link = self.new.link_into(new, name)
        self.new.redirect(self.new.links_from(new, output), link.source if link else None)


def is_off(node: Node, like: Node) -> bool:
    """Whether a node is muted or bypassed where the one that it leads to is not."""
    return node["mode"] in (MUTED, BYPASSED) and like["mode"] not in (MUTED, BYPASSED)


def pass_through(nodes: Sequence[Node], like: Node) -> None:
    """Bypass what was muted: it stood beside the model's way, and now stands in it."""
    for node in nodes:
        node["mode"] = BYPASSED if is_off(node, like) else node["mode"]


def called(node: Node) -> str:
    return f"{node['type']} (node {node['id']})"


def below(node: Node) -> tuple[float, float]:
    x, y = position(node)
    return x, y + width_and_height(node["size"])[1] + GAP + TITLE


def first_output(node: Node) -> Output:
    return Output(node, node["outputs"][0])


def within(low: float, value: Any, high: float) -> Any:
    return max(low, min(value, high))
