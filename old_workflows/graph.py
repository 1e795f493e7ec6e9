"""A workflow as ComfyUI's page saves it, held so that nodes and links can be changed. Needs no ComfyUI.

Nodes stay the page's own dictionaries. A link knows the sockets that it joins and not their numbers, so that sockets
can come and go; `Graph.saved` counts them again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .node_types import NODE_TYPES, input_entry, output_entry, properties

Node = dict[str, Any]
Socket = dict[str, Any]
Point = tuple[float, float]
TITLE, GAP = 30, 40  # pixels of the page: a node's title bar, and what is left free between two nodes
PACK_MARKS = ("🎭", "🎥", "🛂", "📅")  # in the names that the old packs gave their nodes


class Output(NamedTuple):
    """The beginning of a link."""

    node: Node
    socket: Socket


@dataclass(eq=False)
class Link:
    id: int
    source: Output
    target: Node
    input: Socket
    type: str


class Graph:
    """A copy of `workflow`. ValueError, in one sentence, if it is not one that the page has saved."""

    def __init__(self, workflow: dict[str, Any]):
        check(workflow)
        self.workflow = copy.deepcopy(workflow)
        self.nodes: dict[Any, Node] = {node["id"]: node for node in self.workflow["nodes"]}
        for node in self.nodes.values():
            fill_in(node)
        self.links = [
            link for entry in self.workflow["links"] if entry and (link := self._link(*fields(entry))) is not None
        ]
        state = self.workflow.get("state", {})
        numbers = [key for key in self.nodes if isinstance(key, int)]
        self.last_node = max([0, *numbers, *filled(self.workflow.get("last_node_id"), state.get("lastNodeId"))])
        numbers = [link.id for link in self.links]
        self.last_link = max([0, *numbers, *filled(self.workflow.get("last_link_id"), state.get("lastLinkId"))])

    def _link(self, id: int, source: Any, output: int, target: Any, input: int, type: str) -> Link | None:
        """Return the link, or None for one that leads nowhere, as old files have."""
        if source not in self.nodes or target not in self.nodes:
            return None
        outputs, inputs = self.nodes[source]["outputs"], self.nodes[target]["inputs"]
        socket = socket_of(inputs, input, id)
        if output >= len(outputs) or socket is None:
            return None
        return Link(id, Output(self.nodes[source], outputs[output]), self.nodes[target], socket, type)

    # Reading

    def link_into(self, node: Node, name: str) -> Link | None:
        return next((link for link in self.links if link.target is node and link.input["name"] == name), None)

    def source(self, node: Node, name: str) -> Output | None:
        """Return what leads into an input, before any Reroutes on the way."""
        link = self.link_into(node, name)
        for _ in self.links:  # no way is longer, unless it leads round in a circle
            if link is None or link.source.node["type"] != "Reroute":
                return link.source if link is not None else None
            link = next((entry for entry in self.links if entry.target is link.source.node), None)
        return None

    def walk(self, start: Node, onward: bool, types: Sequence[str] = ()) -> Iterator[Link]:
        """Yield the links behind or before a node, nearest first, all or those of some types. Each node is visited
        once."""
        waiting, seen = [start], {start["id"]}
        while waiting:
            node = waiting.pop(0)
            links = self.links_from(node) if onward else [link for link in self.links if link.target is node]
            for link in links:
                if types and link.type not in types:
                    continue
                yield link
                following = link.target if onward else link.source.node
                if following["id"] not in seen:
                    seen.add(following["id"])
                    waiting.append(following)

    def links_from(self, node: Node, output: int | None = None) -> list[Link]:
        """Return the links of one output, or of all."""
        sockets = node.get("outputs") or []
        wanted = sockets if output is None else sockets[output : output + 1]
        return [link for link in self.links if any(link.source.socket is socket for socket in wanted)]

    # Changing

    def connect(self, source: Output, target: Node, name: str) -> None:
        """Lead an output into an input, in place of the link that it has."""
        socket = self._input(target, name)
        self.links = [link for link in self.links if link.input is not socket]
        self.last_link += 1
        link = Link(self.last_link, source, target, socket, source.socket["type"])
        name_primitive(link)
        self.links.append(link)

    def redirect(self, links: Sequence[Link], source: Output | None) -> None:
        """Let links begin elsewhere; with None they are cut."""
        for link in links:
            if source is None:
                self.links.remove(link)
            else:
                link.source, link.type = source, source.socket["type"]

    def add(self, kind: str, values: Mapping[str, Any], at: Point, like: Node) -> Node:
        """Add a node near `at`, where there is room, switched on or off as `like` is."""
        self.last_node += 1
        size = list(NODE_TYPES[kind].size)
        node = {"id": self.last_node, "type": kind, "pos": [0, 0], "size": size, "flags": {}, "order": 0}
        node |= {"mode": like.get("mode", 0), "inputs": [], "outputs": []}
        self._fill(node, kind, values)
        node["pos"] = list(self.free_place(at, size))
        self.nodes[node["id"]] = node
        return node

    def become(
        self, node: Node, kind: str, values: Mapping[str, Any], inputs: Mapping[str, str], outputs: Sequence[int | None]
    ) -> Node:
        """Make a node one of another type, in its place and with its title and colours.

        `inputs` says which old input each new one takes its link from, and `outputs` which old output each new one's
        links; the other links are cut.
        """
        into = {link.input["name"]: link for link in self.links if link.target is node}
        moved = {new: into[old] for new, old in inputs.items() if old in into}
        self.links = [link for link in self.links if link.target is not node or link in moved.values()]
        leaving = [self.links_from(node, index) for index in range(len(node.get("outputs") or []))]
        size = width_and_height(node["size"])
        node["size"] = [max(pair) for pair in zip(size, NODE_TYPES[kind].size, strict=True)]
        if any(mark in (node.get("title") or "") for mark in PACK_MARKS):
            del node["title"]
        self._fill(node, kind, values)
        for name, link in moved.items():
            link.input = self._input(node, name)
            name_primitive(link)
        for old, links in enumerate(leaving):
            self.redirect(links, Output(node, node["outputs"][outputs.index(old)]) if old in outputs else None)
        return node

    def _input(self, node: Node, name: str) -> Socket:
        """Return the input of that name; a widget gets a socket."""
        inputs = node.setdefault("inputs", [])
        socket = next((entry for entry in inputs if entry["name"] == name), None)
        if socket is None:
            socket = input_entry(node["type"], name)
            inputs.append(socket)
        return socket

    def _fill(self, node: Node, kind: str, values: Mapping[str, Any]) -> None:
        new = NODE_TYPES[kind]
        node["type"] = kind
        node["properties"] = properties(kind)
        node["inputs"] = [input_entry(kind, name) for name in new.sockets]
        node["outputs"] = [output_entry(name, type) for name, type in new.outputs.items()]
        node["widgets_values"] = [*(values.get(name, default) for name, default in new.widgets.items()), *new.extra]

    def remove(self, node: Node) -> None:
        gone = self.links_from(node)
        self.links = [link for link in self.links if link.target is not node and link not in gone]
        del self.nodes[node["id"]]

    def free_place(self, at: Point, size: Sequence[float]) -> Point:
        """Return `at`, or the next place below it where a node of that size hides no other."""
        x, y = at
        while True:
            hidden = [node for node in self.nodes.values() if overlap(node, x, y, *size)]
            if not hidden:
                return x, y
            y = max(position(node)[1] + width_and_height(node["size"])[1] for node in hidden) + GAP + TITLE

    def saved(self) -> dict[str, Any]:
        """Return the workflow as the page saves it, in the form that it had."""
        for node in self.nodes.values():
            for index, socket in enumerate(node.get("inputs") or []):
                socket["link"] = next((link.id for link in self.links if link.input is socket), None)
                if "slot_index" in socket:
                    socket["slot_index"] = index
            for socket in node.get("outputs") or []:
                leaving = [link.id for link in self.links if link.source.socket is socket]
                socket["links"] = leaving or (None if socket.get("links") is None else [])
        self.workflow["nodes"] = list(self.nodes.values())
        objects = any(isinstance(entry, dict) for entry in self.workflow["links"])
        entries = [numbered(link) for link in self.links]
        self.workflow["links"] = [dict(zip(FIELDS, entry, strict=True)) for entry in entries] if objects else entries
        self._count()
        return self.workflow

    def _count(self) -> None:
        if "state" in self.workflow:
            self.workflow["state"] |= {"lastNodeId": self.last_node, "lastLinkId": self.last_link}
        if "state" not in self.workflow or "last_node_id" in self.workflow:
            self.workflow |= {"last_node_id": self.last_node, "last_link_id": self.last_link}
        links = {link.id for link in self.links}
        for owner in (self.workflow, self.workflow.get("extra") or {}):  # points that a link goes through on the page
            for point in owner.get("reroutes") or []:
                point["linkIds"] = [link for link in point.get("linkIds") or [] if link in links]
            if "linkExtensions" in owner:
                owner["linkExtensions"] = [entry for entry in owner["linkExtensions"] if entry["id"] in links]


FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def fill_in(node: Node) -> None:
    """Add what the page would to a node that something else has written."""
    usual = {"pos": [0, 0], "size": [220, 80], "mode": 0, "inputs": [], "outputs": []}
    node |= {key: value for key, value in usual.items() if node.get(key) is None}


def socket_of(inputs: Sequence[Socket], number: int, link: int) -> Socket | None:
    """Return the input that names the link, as the page has it: once a pack has inserted an input, the number is that
    of another. An input that names none is not connected, whichever links old files still list."""
    named = next((socket for socket in inputs if socket.get("link") == link), None)
    return named or next((socket for socket in inputs[number : number + 1] if "link" not in socket), None)


def fields(entry: Any) -> list[Any]:
    """Return the fields of a link, which is a list in a workflow of version 0.4 and an object in newer ones."""
    return [entry[name] for name in FIELDS] if isinstance(entry, dict) else list(entry[:6])


def numbered(link: Link) -> list[Any]:
    output = index_of(link.source.node["outputs"], link.source.socket)
    return [link.id, link.source.node["id"], output, link.target["id"], index_of(link.target["inputs"], link.input),
            link.type]  # fmt: skip


def index_of(sockets: Sequence[Socket], wanted: Socket) -> int:
    return next(index for index, socket in enumerate(sockets) if socket is wanted)


def set_value(node: Node, name: str, value: Any) -> None:
    """Set a widget of a new node."""
    node["widgets_values"][list(NODE_TYPES[node["type"]].widgets).index(name)] = value


def value_of(node: Node, name: str) -> Any:
    """Return the value of a new node's widget."""
    return node["widgets_values"][list(NODE_TYPES[node["type"]].widgets).index(name)]


def name_primitive(link: Link) -> None:
    """Tell a Primitive which widget it stands for."""
    if link.source.node["type"] == "PrimitiveNode" and "widget" in link.source.socket:
        link.source.socket["widget"] = {"name": link.input["name"]}


def filled(*values: Any) -> list[int]:
    return [value for value in values if isinstance(value, int)]


def position(node: Node) -> Point:
    return width_and_height(node["pos"])


def width_and_height(pair: Any) -> Point:
    """Return a pair that the page has saved as a list, or as an object with the keys 0 and 1."""
    return (pair["0"], pair["1"]) if isinstance(pair, dict) else (pair[0], pair[1])


def overlap(node: Node, x: float, y: float, width: float, height: float) -> bool:
    left, top = position(node)
    wide, high = width_and_height(node["size"])
    return left < x + width and x < left + wide and top - TITLE < y + height and y - TITLE < top + high


def check(workflow: Any) -> None:
    content = workflow if isinstance(workflow, dict) else {}
    if isinstance(content.get("nodes"), list) and isinstance(content.get("links"), list):
        return
    raise ValueError("This is not a workflow as ComfyUI's page saves it: it has no nodes and links.")
