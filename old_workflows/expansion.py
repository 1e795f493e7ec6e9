"""A stand-in node's place in a running workflow: the graph of new nodes that the converter writes for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from .conversion import Conversion
from .convert import RULES
from .graph import Graph, Node, Output
from .node_types import NODE_TYPES
from .old_nodes import OLD_NODES

GIVEN = "given"  # a node for a value that is there already


class Settings(NamedTuple):
    """What a stand-in node that only sets something gives to the one that applies it: its own inputs."""

    old_id: str
    inputs: Mapping[str, Any]


class Expansion(NamedTuple):
    nodes: dict[str, dict[str, Any]]
    """As ComfyUI's API takes them."""
    outputs: list[Any]
    """Links to them, or values that are there already."""


def converted(settings: Settings) -> tuple[Conversion, Node]:
    """Return an old node that applies something, and its conversion. Log what that leaves out."""
    graph = Graph({"nodes": [], "links": []})
    old = old_node(graph, settings, {})
    c = Conversion(graph)
    c.convert(old, RULES[settings.old_id])
    for node, sentences in c.said.items():
        for sentence in sentences:
            logging.warning(f"AnimateDiff, {node.type}: {sentence}")
    return c, old


def expansion(settings: Settings, prefix: str) -> Expansion:
    """Return what becomes of an old node that applies something, with ids that begin with `prefix`."""
    c, old = converted(settings)

    def value(link: Output) -> Any:
        return link.node.values["value"] if link.node.type == GIVEN else [f"{prefix}{link.node.id}", link.index]

    nodes = {
        f"{prefix}{node.id}": {
            "class_type": node.type,
            "inputs": {**NODE_TYPES[node.type].widgets, **node.values}
            | {name: value(link) for name, link in node.links.items()},
        }
        for node in c.graph.nodes.values()
        if node.is_new
    }
    return Expansion(nodes, [value(output) for output in c.outputs[old] if output is not None])


def old_node(graph: Graph, settings: Settings, known: dict[int, Node]) -> Node:
    """Add an old node to a graph, with what leads into it. Settings that several nodes share become one."""
    if id(settings) in known:
        return known[id(settings)]
    row = OLD_NODES[settings.old_id]
    outputs = [output._asdict() for output in row.stand_in.outputs] if row.stand_in else []
    values, links = {}, {}
    for name, value in settings.inputs.items():
        entry = row.input(name)
        if isinstance(value, Settings):
            links[name] = Output(old_node(graph, value, known))
        elif entry is not None and entry.is_widget and not isinstance(value, (list, tuple)):
            values[name] = value
        elif value is not None:
            links[name] = Output(added(graph, GIVEN, {"value": value}, [{"type": "*"}]))
    known[id(settings)] = node = added(graph, settings.old_id, values, outputs)
    node.links = links
    return node


def added(graph: Graph, type: str, values: dict[str, Any], outputs: list[dict[str, Any]]) -> Node:
    graph.last_node += 1
    node = Node({"id": graph.last_node, "type": type, "widgets_values": values, "outputs": outputs})
    graph.nodes[node.id] = node
    return node
