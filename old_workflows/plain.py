"""Wires without lines, drawn as plain links: Set and Get, Anything Everywhere, Reroutes. Needs no ComfyUI."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Node, Output

SET, GET = "SetNode", "GetNode"
EVERYWHERE = ("Anything Everywhere", "Anything Everywhere?", "Anything Everywhere3", "Prompts Everywhere")


def plain(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow in which every output that enters an input does so by a link."""
    graph = Graph(workflow)
    for node in graph.nodes.values():
        if node["type"] == "Reroute (rgthree)":
            node["type"] = "Reroute"
    link_everywhere(graph)
    link_set_and_get(graph)
    return graph.saved()


def link_everywhere(graph: Graph) -> None:
    """Connect what Anything Everywhere did, as that pack lists it in the workflow."""
    wires = (graph.workflow.get("extra") or {}).get("ue_links") or []
    for wire in wires:
        source, target = (graph.nodes.get(number(wire[end])) for end in ("upstream", "downstream"))
        if source is None or target is None:
            continue
        outputs, inputs = source["outputs"][wire["upstream_slot"] :], target["inputs"][wire["downstream_slot"] :]
        if outputs and inputs and graph.link_into(target, inputs[0]["name"]) is None:
            graph.connect(Output(source, outputs[0]), target, inputs[0]["name"])
    if wires:
        remove(graph, [node for node in graph.nodes.values() if node["type"] in EVERYWHERE])


def link_set_and_get(graph: Graph) -> None:
    names = {label(node): node for node in graph.nodes.values() if node["type"] == SET}
    for node in [node for node in graph.nodes.values() if node["type"] in (SET, GET)]:
        setter = names.get(label(node))
        link = next((link for link in graph.links if link.target is setter), None)
        for _ in names:  # what was set may come from a Get
            if link is None or link.source.node["type"] != GET:
                break
            before = names.get(label(link.source.node))
            link = next((link for link in graph.links if link.target is before), None)
        if link is not None:
            graph.redirect(graph.links_from(node), link.source)
    remove(
        graph,
        [
            node
            for node in graph.nodes.values()
            if node["type"] in (SET, GET) and label(node) in names and not graph.links_from(node)
        ],
    )


def label(node: Node) -> Any:
    return next(iter(node.get("widgets_values") or []), None)


def remove(graph: Graph, nodes: list[Node]) -> None:
    for node in nodes:
        graph.remove(node)


def number(id: Any) -> Any:
    return int(id) if isinstance(id, str) and id.isdigit() else id
