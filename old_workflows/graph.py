"""A workflow as ComfyUI's page saves it, as nodes whose inputs say by name where they come from. Needs no ComfyUI."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .node_types import NODE_TYPES, input_entry, output_entry, properties
from .old_nodes import name_of, row_of

Socket = dict[str, Any]
Point = tuple[float, float]
TITLE, GAP = 30, 40  # pixels of the page: a node's title bar, and what is left free between two nodes
MUTED, BYPASSED = 2, 4
SET, GET, REROUTE, PRIMITIVE = "SetNode", "GetNode", "Reroute", "PrimitiveNode"
EVERYWHERE = ("Anything Everywhere", "Anything Everywhere?", "Anything Everywhere3", "Prompts Everywhere")
FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


class Output(NamedTuple):
    """The beginning of a link."""

    node: Node
    index: int = 0
    link: int | None = None
    """The number of the link that an input has from here, if the page has given it one."""
    link_type: str = ""

    @property
    def type(self) -> str:
        return self.node.outputs[self.index]["type"]


@dataclass(eq=False)
class Node:
    page: dict[str, Any]
    """The node as the page saves it."""
    links: dict[str, Output] = field(default_factory=dict)
    """What leads into its inputs, by their names."""
    is_new: bool = False
    is_read: bool = False
    followed: set[str] = field(default_factory=set)
    """Inputs whose links need no report."""

    def __post_init__(self):
        usual = {"pos": [0, 0], "size": [220, 80], "mode": 0, "inputs": [], "outputs": []}
        self.page |= {key: value for key, value in usual.items() if self.page.get(key) is None}
        self.id, self.mode, self.outputs = self.page["id"], self.page["mode"], self.page["outputs"]
        self.type: str = REROUTE if self.page["type"] == "Reroute (rgthree)" else self.page["type"]
        self.kind = name_of(self.type)

    @cached_property
    def values(self) -> dict[str, Any]:
        """Return the widgets' values by name, of an old node or one whose widgets are known."""
        self.is_read, saved = True, self.page.get("widgets_values")
        if self.type not in NODE_TYPES:
            return row_of(self.type).values(saved)
        return saved if isinstance(saved, dict) else dict(zip(NODE_TYPES[self.type].widgets, saved or (), strict=False))

    def __getitem__(self, name: str) -> Output | None:
        """Return what leads into an old node's input, whose link is followed from now on."""
        self.follow(name)
        former = getattr(row_of(self.type).input(name), "formerly", "")
        return self.links.get(name) or self.links.get(former)

    def source(self, name: str) -> Output | None:
        """Return what leads into an old node's input, before any Reroutes on the way."""
        source = self[name]
        for _ in range(1000):  # unless it leads round in a circle
            if source is None or source.node.type != REROUTE:
                return source
            source = next(iter(source.node.links.values()), None)
        return None

    def set(self, values: Mapping[str, Any]) -> Node:
        """Set values of a new node by name. A node or an output is connected, and None leaves things as they are."""
        for name, value in values.items():
            if isinstance(value, (Node, Output)):
                self.links[name] = value if isinstance(value, Output) else Output(value)
            elif value is not None:
                self.values[name] = value
        return self

    def follow(self, *names: str) -> None:
        self.is_read = True
        self.followed |= set(names)

    def is_off(self, like: Node) -> bool:
        """Return whether the node is muted or bypassed where the one that it leads to is not."""
        return self.mode in (MUTED, BYPASSED) and like.mode not in (MUTED, BYPASSED)


class Graph:
    """The nodes of a copy of `workflow`, by id, and links in place of wires that the page does not draw.

    ValueError, in one sentence, if it is not a workflow that the page has saved.
    """

    def __init__(self, workflow: Any):
        content = workflow if isinstance(workflow, dict) else {}
        if not isinstance(content.get("nodes"), list) or not isinstance(content.get("links"), list):
            raise ValueError("This is not a workflow as ComfyUI's page saves it: it has no nodes and links.")
        self.workflow = copy.deepcopy(content)
        self.nodes = {page["id"]: Node(page) for page in self.workflow["nodes"]}
        for entry in filter(None, self.workflow["links"]):
            self._link(*fields(entry))
        links = [link.link for node in self.nodes.values() for link in node.links.values()]
        self._link_everywhere()
        self._link_set_and_get()
        state = self.workflow.get("state", {})
        self.last_node = largest([*self.nodes, self.workflow.get("last_node_id"), state.get("lastNodeId")])
        last = (self.workflow.get("last_link_id"), state.get("lastLinkId"))
        self.last_link = largest([*links, *last])

    def _link(self, id: int, source: Any, output: int, target: Any, input: int, type: str) -> None:
        """Add a link, but for one that leads nowhere, as old files have."""
        if source in self.nodes and target in self.nodes and output < len(self.nodes[source].outputs):
            names = dict(names_of(self.nodes[target].page["inputs"]))
            # A pack that inserted an input left the numbers behind; an input that names no link has none.
            named = [name for name, socket in names.items() if socket.get("link") == id]
            at_number = [name for name, socket in list(names.items())[input : input + 1] if "link" not in socket]
            for name in (named or at_number)[:1]:
                self.nodes[target].links.setdefault(name, Output(self.nodes[source], output, id, type))

    def _link_everywhere(self) -> None:
        """Connect what Anything Everywhere did, as that pack lists it in the workflow."""
        wires = (self.workflow.get("extra") or {}).get("ue_links") or []
        for wire in wires:
            source, target = (self.nodes.get(number(wire[end])) for end in ("upstream", "downstream"))
            if source is not None and target is not None and wire["upstream_slot"] < len(source.outputs):
                for name, _ in names_of(target.page["inputs"])[wire["downstream_slot"] :][:1]:
                    target.links.setdefault(name, Output(source, wire["upstream_slot"]))
        if wires:
            self.nodes = {id: node for id, node in self.nodes.items() if node.type not in EVERYWHERE}

    def _link_set_and_get(self) -> None:
        setters = {label(node): node for node in self.nodes.values() if node.type == SET}

        def straight(link: Output) -> Output:
            for _ in range(len(setters) + 1):  # what was set may come from a Get
                setter = setters.get(label(link.node)) if link.node.type in (SET, GET) else None
                if setter is None or not setter.links:
                    break
                source = next(iter(setter.links.values()))
                link = Output(source.node, source.index, link.link)
            return link

        for node in self.nodes.values():
            node.links = {name: straight(link) for name, link in node.links.items()}
        used = {link.node for node in self.nodes.values() for link in node.links.values()}
        gone = [node.id for node in self.nodes.values() if node.type in (SET, GET) and label(node) in setters]
        self.nodes = {id: node for id, node in self.nodes.items() if id not in gone or node in used}

    def new_node(self, kind: str, at: Point | None, like: Node) -> Node:
        """Return a node near `at`, where there is room, or without `at` in the place of `like`, with its title and
        colours. It is switched on or off as `like` is."""
        size, page = list(NODE_TYPES[kind].size), {"flags": {}, "order": 0}
        if at is None:
            page, size = dict(like.page), [max(pair) for pair in zip(pair_of(like.page["size"]), size, strict=True)]
            if any(mark in (page.get("title") or "") for mark in PACK_MARKS):
                del page["title"]
        else:
            self.last_node += 1
            page |= {"id": self.last_node, "pos": list(self.free_place(at, size))}
        outputs = [output_entry(name, type) for name, type in NODE_TYPES[kind].outputs.items()]
        page |= {"type": kind, "size": size, "outputs": outputs, "properties": properties(kind), "mode": like.mode}
        node = Node(page, is_new=True)
        node.values = {}
        self.nodes[node.id] = node
        return node

    def free_place(self, at: Point, size: Sequence[float]) -> Point:
        """Return `at`, or the next place below it where a node of that size hides no other."""
        x, y = at
        while hidden := [node for node in self.nodes.values() if overlap(node, x, y, *size)]:
            y = max(position(node)[1] + pair_of(node.page["size"])[1] for node in hidden) + GAP + TITLE
        return x, y

    def saved(self) -> dict[str, Any]:
        """Return the workflow as the page saves it, in the form that it had."""
        links = sorted(self._saved_links())
        leaving = defaultdict(list)
        for id, source, output, *_ in links:
            leaving[source, output].append(id)
        for node in self.nodes.values():
            for index, socket in enumerate(node.outputs):
                socket["links"] = leaving[node.id, index] or (None if socket.get("links") is None else [])
        objects = any(isinstance(entry, dict) for entry in self.workflow["links"])
        self.workflow["links"] = [dict(zip(FIELDS, link, strict=True)) for link in links] if objects else links
        self.workflow["nodes"] = [node.page for node in self.nodes.values()]
        if "state" in self.workflow:
            self.workflow["state"] |= {"lastNodeId": self.last_node, "lastLinkId": self.last_link}
        if "state" not in self.workflow or "last_node_id" in self.workflow:
            self.workflow |= {"last_node_id": self.last_node, "last_link_id": self.last_link}
        ids = {link[0] for link in links}
        for owner in (self.workflow, self.workflow.get("extra") or {}):  # points that a link goes through on the page
            for point in owner.get("reroutes") or []:
                point["linkIds"] = [link for link in point.get("linkIds") or [] if link in ids]
            if "linkExtensions" in owner:
                owner["linkExtensions"] = [entry for entry in owner["linkExtensions"] if entry["id"] in ids]
        return self.workflow

    def _saved_links(self) -> Iterator[list[Any]]:
        """Yield the links, and write their numbers into the inputs."""
        used = set()
        for node in self.nodes.values():
            node.page |= {"type": node.type, "mode": node.mode}
            if node.is_new:
                node.page |= page_form(node)
            for index, (name, socket) in enumerate(names_of(node.page["inputs"])):
                socket["link"] = None
                if (link := node.links.get(name)) is None:
                    continue
                if link.link is None or link.link in used:
                    self.last_link += 1
                    link = Output(link.node, link.index, self.last_link)
                used.add(link.link)
                socket["link"] = link.link
                source = link.node.outputs[link.index]
                if node.is_new and link.node.type == PRIMITIVE and "widget" in source:
                    source["widget"] = {"name": name}  # the one that it stands for
                yield [link.link, link.node.id, link.index, node.id, index, link.link_type or link.type]


PACK_MARKS = ("🎭", "🎥", "🛂", "📅")  # in the names that the old packs gave their nodes


def page_form(node: Node) -> dict[str, Any]:
    """Return inputs and values of a new node as the page saves them."""
    kind = NODE_TYPES[node.type]
    names = [*kind.sockets, *(name for name in node.links if name not in kind.sockets)]
    values = {**kind.widgets, **node.values}  # with those that only some choices bring
    return {
        "inputs": [input_entry(node.type, name) for name in names],
        "widgets_values": [*values.values(), *kind.extra],
    }


def names_of(sockets: Sequence[Socket]) -> list[tuple[str, Socket]]:
    """Return sockets with their names, of which only one is the same: the first, or the first that is connected."""
    first: dict[str, int] = {}
    for index, socket in enumerate(sockets):
        at = first.setdefault(socket["name"], index)
        if sockets[at].get("link") is None and socket.get("link") is not None:
            first[socket["name"]] = index
    names = [socket["name"] for socket in sockets]
    return [(name if first[name] == index else f"{name} {index}", sockets[index]) for index, name in enumerate(names)]


def fields(entry: Any) -> list[Any]:
    """Return the fields of a link, which is a list in a workflow of version 0.4 and an object in newer ones."""
    return [entry[name] for name in FIELDS] if isinstance(entry, dict) else list(entry[:6])


def label(node: Node) -> Any:
    return next(iter(node.page.get("widgets_values") or []), None)


def number(id: Any) -> Any:
    return int(id) if isinstance(id, str) and id.isdigit() else id


def largest(values: Iterable[Any]) -> int:
    return max([0, *(value for value in values if isinstance(value, int))])


def position(node: Node) -> Point:
    return pair_of(node.page["pos"])


def pair_of(pair: Any) -> Point:
    """Return a pair that the page has saved as a list, or as an object with the keys 0 and 1."""
    return (pair["0"], pair["1"]) if isinstance(pair, dict) else (pair[0], pair[1])


def overlap(node: Node, x: float, y: float, width: float, height: float) -> bool:
    left, top = position(node)
    wide, high = pair_of(node.page["size"])
    return left < x + width and x < left + wide and top - TITLE < y + height and y - TITLE < top + high
