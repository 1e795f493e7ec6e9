"""A conversion under way: the workflow as it was, as it becomes, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .graph import GAP, TITLE, Graph, Link, Node, Output, position, width_and_height
from .old_nodes import is_old, name_of, row_of
from .plain import plain

ROUTES = ("Reroute", "PrimitiveNode")
MUTED, BYPASSED = 2, 4
OFF = "it is switched off, and left out."


class Conversion:
    """Old nodes are read from `old`, which stays as it was, and changed in `new`.

    A link into an old node is followed by `source`, `place`, `carry` or `pass_on`; one that is not gets reported.
    """

    def __init__(self, workflow: dict[str, Any]):
        workflow = plain(workflow)
        self.old, self.new = Graph(workflow), Graph(workflow)
        self.placed: dict[Any, Node] = {}
        self.said: dict[Any, list[str]] = {}
        self.read: set[Any] = set()
        self.followed: set[tuple[Any, str]] = set()

    # Reading old nodes

    def of_type(self, *names: str) -> list[Node]:
        return [node for node in self.old.nodes.values() if name_of(node["type"]) in names]

    def values(self, node: Node) -> dict[str, Any]:
        """Return the values of an old node's widgets by name."""
        self.read.add(node["id"])
        return row_of(node["type"]).values(node.get("widgets_values"))

    def source(self, node: Node, name: str) -> Output | None:
        """Return what leads into an old node's input."""
        return self.old.source(node, self._socket(node, name))

    def chain(self, node: Node, name: str, inputs: Mapping[str, str]) -> list[Node]:
        """Return the old nodes behind an input that are chained, nearest first.

        `inputs` says by which input a node of each type leads on; the chain ends at a node of another type.
        """
        nodes, source = [], self.source(node, name)
        while source is not None and source.node["type"] in inputs:
            nodes.append(source.node)
            source = self.source(source.node, inputs[source.node["type"]])
        if source is not None:
            self.say(node, f"{name}, from {self.described(source.node)}, is left out.")
        return nodes

    def follow(self, node: Node, *names: str) -> None:
        """Take links as followed that need no report, since another sentence speaks of them."""
        self.read.add(node["id"])
        self.followed |= {(node["id"], name) for name in names}

    def working(self, node: Node, name: str) -> Output | None:
        """Return what leads into an old node's input, unless that is switched off."""
        source = self.source(node, name)
        if source is None or not is_off(source.node, node):
            return source
        self.say(source.node, OFF)
        return None

    def _socket(self, node: Node, name: str) -> str:
        """Return the name that an input has in this version of a node, whose link is followed from now on."""
        self.follow(node, name)
        entry = row_of(node["type"]).input(name)
        sockets = {socket["name"] for socket in node.get("inputs") or []}
        return entry.formerly if entry and entry.formerly in sockets else name

    # Reporting

    def described(self, node: Node) -> str:
        """Return the name of an old node that is left out, with its values and those of the nodes that set it up."""
        behind = [link.source.node for link in self.old.walk(node, onward=False) if is_old(link.source.node["type"])]
        nodes = {node["id"]: node} | {entry["id"]: entry for entry in behind}
        return ", ".join(
            called(entry) + with_values(entry) for entry in nodes.values() if entry is node or with_values(entry)
        )

    def say(self, node: Node, sentence: str) -> None:
        sentences = self.said.setdefault(node["id"], [])
        if sentence not in sentences:
            sentences.append(sentence)

    def report(self) -> list[str]:
        return [
            f"{called(node)}: {sentence}"
            for node in self.old.nodes.values()
            for sentence in self.said.get(node["id"], ())
        ]

    def report_links(self) -> None:
        """Say of each link into a converted node that leads nowhere now."""
        for node in (self.old.nodes[id] for id in self.read):
            if OFF in self.said.get(node["id"], ()):
                continue
            for socket in node.get("inputs") or []:
                entry = row_of(node["type"]).input(socket["name"])
                name = entry.name if entry else socket["name"]
                source = self.old.source(node, socket["name"])
                if source is None or (node["id"], name) in self.followed:
                    continue
                if entry and entry.is_widget and not entry.unused:
                    self.say(node, f"{name} is connected, and keeps the value that it shows instead.")
                else:
                    instead = f": {entry.instead}" if entry and entry.instead else ""
                    self.say(node, f"{name}, from {self.described(source.node)}, is left out{instead}.")

    # Placing new nodes

    def place(
        self,
        node: Node,
        kind: str,
        values: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        outputs: Sequence[int | None] = (),
    ) -> Node:
        """Put a node of type `kind` where the old one was; one that is used a second time gets a copy below.

        `inputs` says from which old input each new one has its link, or its value unless `values` holds it. See
        `Graph.become` for `outputs`.
        """
        inputs, old_values = inputs or {}, self.values(node)
        values = {new: old_values[old] for new, old in inputs.items() if old in old_values} | dict(values)
        sockets = {new: self._socket(node, old) for new, old in inputs.items()}
        first = self.placed.get(node["id"])
        if first is None:
            self._say_cut(node, outputs)
            self.placed[node["id"]] = self.new.become(self.new.nodes[node["id"]], kind, values, sockets, outputs)
            return self.placed[node["id"]]
        again = self.new.add(kind, values, below(first), node)
        for name in inputs:
            if (link := self.new.link_into(first, name)) is not None:
                self.new.connect(link.source, again, name)
        return again

    def _say_cut(self, node: Node, outputs: Sequence[int | None]) -> None:
        """Say of outputs that the new node lacks that they are cut, unless all that they led to is rewritten too."""
        new = self.new.nodes[node["id"]]
        for index, socket in enumerate(new.get("outputs") or []):
            targets = [link.target["type"] for link in self.new.links_from(new, index)]
            if index not in outputs and any(not is_old(type) and type not in ROUTES for type in targets):
                self.say(node, f"its output {socket['name']} has no counterpart; what it led to is not connected.")

    def beside(self, node: Node, kind: str, values: Mapping[str, Any], left: bool = False) -> Node:
        """Add a node below an old one, or to the left of it."""
        x, y = position(node)
        return self.new.add(kind, values, (x - 300 - GAP, y) if left else below(node), node)

    def link(self, node: Node, name: str) -> Link | None:
        """Return the link into an old node's input, as it is in the new workflow."""
        new = self.new.nodes.get(node["id"])
        return self.new.link_into(new, self._socket(node, name)) if new is not None else None

    def carry(self, node: Node, name: str, target: Node, new_name: str) -> None:
        """Lead the link into an old node's input into a new node's."""
        if (link := self.link(node, name)) is not None:
            self.new.connect(link.source, target, new_name)

    def pass_on(self, node: Node, output: int, name: str) -> None:
        """Let what an output led to begin where the input of that name does: the old node handed it on."""
        link = self.link(node, name)
        self.new.redirect(self.new.links_from(self.new.nodes[node["id"]], output), link.source if link else None)

    def take_off(self, node: Node, output: int) -> list[Link]:
        """Return what an old node's output led to, taken off the new workflow."""
        links = self.new.links_from(self.new.nodes[node["id"]], output)
        self.new.redirect(links, None)
        return links

    def put_back(self, links: list[Link], source: Output | None) -> None:
        """Let links that were taken off begin at `source`; with None they stay off."""
        if source is not None:
            self.new.links += links
            self.new.redirect(links, source)


def is_off(node: Node, like: Node) -> bool:
    """Return whether a node is muted or bypassed where the one that it leads to is not."""
    return node["mode"] in (MUTED, BYPASSED) and like["mode"] not in (MUTED, BYPASSED)


def pass_through(nodes: Sequence[Node], like: Node) -> None:
    """Bypass muted nodes, which stood beside the model's path and now stand in it."""
    for node in nodes:
        node["mode"] = BYPASSED if is_off(node, like) else node["mode"]


def called(node: Node) -> str:
    return f"{node['type']} (node {node['id']})"


def with_values(node: Node) -> str:
    saved = node.get("widgets_values") or []
    values = [value for value in (saved.values() if isinstance(saved, dict) else saved) if value not in (None, "")]
    return f" with {', '.join(str(value)[:80] for value in values)}" if values else ""


def below(node: Node) -> tuple[float, float]:
    x, y = position(node)
    return x, y + width_and_height(node["size"])[1] + GAP + TITLE


def first_output(node: Node) -> Output:
    return Output(node, node["outputs"][0])


def within(low: float, value: Any, high: float) -> Any:
    return max(low, min(value, high))
