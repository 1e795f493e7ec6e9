"""Prompts as ComfyUI's API takes them, turned into a workflow and back. Needs no ComfyUI."""

from __future__ import annotations

from typing import Any

from .graph import BYPASSED, MUTED, Graph, Node, Output
from .node_types import NODE_TYPES, SOCKETS

COLUMN, ROW = 340, 320  # pixels from node to node
PAGE = ("control_after_generate",)  # widgets of the page alone


def is_prompt(workflow: Any) -> bool:
    nodes = workflow.values() if isinstance(workflow, dict) else ()
    return bool(nodes) and all(isinstance(node, dict) and "class_type" in node for node in nodes)


def from_prompt(prompt: dict[str, Any]) -> dict[str, Any]:
    """Return a prompt as a workflow, with values by name. An output has the type that the inputs' names tell."""
    ids = {key: int(key) if key.isdigit() else key for key in prompt}
    nodes: dict[str, dict[str, Any]] = {}
    for index, (key, entry) in enumerate(prompt.items()):
        values = {name: value for name, value in entry.get("inputs", {}).items() if not is_link(value, prompt)}
        nodes[key] = {
            "id": ids[key],
            "type": entry["class_type"],
            "inputs": [],
            "outputs": [],
            "widgets_values": values,
        }
        nodes[key] |= {"pos": [index % 6 * COLUMN, index // 6 * ROW]} | entry.get("_meta", {})
    links = []
    for key, entry in prompt.items():
        for name, value in entry.get("inputs", {}).items():
            if is_link(value, prompt):
                source, output = value
                kind, outputs = SOCKETS.get(name, "*").partition(",")[0], nodes[source]["outputs"]
                outputs += [{"name": "*", "type": "*", "links": []} for _ in range(output + 1 - len(outputs))]
                if outputs[output]["type"] == "*":
                    outputs[output] |= {"name": kind, "type": kind}
                nodes[key]["inputs"].append({"name": name, "type": kind, "link": len(links) + 1})
                links.append([len(links) + 1, ids[source], output, ids[key], len(nodes[key]["inputs"]) - 1, kind])
    return {"nodes": list(nodes.values()), "links": links}


def is_link(value: Any, prompt: dict[str, Any]) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in prompt and isinstance(value[1], int)


def to_prompt(graph: Graph) -> dict[str, Any]:
    """Return a graph that came from a prompt as one again. Of bypassed nodes, what enters first passes."""
    prompt = {}
    for node in graph.nodes.values():
        if node.mode in (MUTED, BYPASSED):
            continue
        values = {**NODE_TYPES[node.type].widgets, **node.values} if node.is_new else node.page["widgets_values"]
        links = {name: passed for name, link in node.links.items() if (passed := passing(graph, link)) is not None}
        inputs = values | {name: [str(link.node.id), link.index] for name, link in links.items()}
        inputs = {name: value for name, value in inputs.items() if name not in PAGE}
        prompt[str(node.id)] = {"class_type": node.type, "inputs": inputs}
        if title := node.page.get("title"):
            prompt[str(node.id)]["_meta"] = {"title": title}
    return prompt


def passing(graph: Graph, link: Output | None) -> Output | None:
    """Return what a link begins at once bypassed nodes hand on what they get."""
    for _ in graph.nodes:
        if link is None or link.node.mode not in (MUTED, BYPASSED):
            break
        node: Node = link.node
        kind = link.type
        link = next((entering for entering in node.links.values() if entering.type == kind), None)
    return link
