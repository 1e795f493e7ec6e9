"""Prompts as ComfyUI's API takes them, turned into a graph and back. Needs no ComfyUI."""

from __future__ import annotations

from typing import Any

from .node_types import NODE_TYPES, SOCKETS

COLUMN, ROW = 340, 320  # pixels from node to node
CODEC = ("codec.encoding", "codec.encoding.crf")  # widgets that Save Video has with one codec
PAGE = ("control_after_generate",)  # widgets of the page alone
MUTED, BYPASSED = 2, 4


def is_prompt(workflow: Any) -> bool:
    nodes = workflow.values() if isinstance(workflow, dict) else ()
    return bool(nodes) and all(isinstance(node, dict) and "class_type" in node for node in nodes)


def from_prompt(prompt: dict[str, Any]) -> dict[str, Any]:
    """Return a prompt as a workflow, with values by name. An output has the type that the inputs' names tell."""
    ids = {key: int(key) if key.isdigit() else key for key in prompt}
    nodes, links = {}, []
    for index, (key, entry) in enumerate(prompt.items()):
        values = {name: value for name, value in entry.get("inputs", {}).items() if not is_link(value, prompt)}
        nodes[key] = {
            "id": ids[key],
            "type": entry["class_type"],
            "pos": [index % 6 * COLUMN, index // 6 * ROW],
            "inputs": [],
            "outputs": [],
            "widgets_values": values,
        }
        if title := entry.get("_meta", {}).get("title"):
            nodes[key]["title"] = title
    for key, entry in prompt.items():
        for name, value in entry.get("inputs", {}).items():
            if not is_link(value, prompt):
                continue
            source, output = value
            kind, outputs = SOCKETS.get(name, "*").partition(",")[0], nodes[source]["outputs"]
            outputs += [{"name": "*", "type": "*", "links": []} for _ in range(output + 1 - len(outputs))]
            if outputs[output]["type"] == "*":
                outputs[output] |= {"name": kind, "type": kind}
            nodes[key]["inputs"].append({"name": name, "type": kind, "link": len(links) + 1})
            links.append([len(links) + 1, ids[source], output, ids[key], len(nodes[key]["inputs"]) - 1, kind])
    return {"nodes": list(nodes.values()), "links": links, "version": 0.4}


def is_link(value: Any, prompt: dict[str, Any]) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in prompt and isinstance(value[1], int)


def to_prompt(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow that came from a prompt as one again. Of bypassed nodes, what enters first passes."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}

    def source(link: Any) -> list[Any] | None:
        for _ in nodes:
            if link is None or nodes[link[1]].get("mode") not in (MUTED, BYPASSED):
                break
            passing = [links[socket["link"]] for socket in nodes[link[1]]["inputs"] if socket["link"] is not None]
            link = next((entry for entry in passing if entry[5] == link[5]), None)
        return [str(link[1]), link[2]] if link is not None else None

    prompt = {}
    for id, node in nodes.items():
        if node.get("mode") in (MUTED, BYPASSED):
            continue
        inputs, saved = {}, node["widgets_values"]
        if isinstance(saved, list):
            names = (*NODE_TYPES[node["type"]].widgets, *(CODEC if node["type"] == "SaveVideo" else ()))
            saved = dict(zip(names, saved, strict=False))
        inputs |= saved
        inputs |= {
            socket["name"]: entering
            for socket in node["inputs"]
            if (entering := source(links.get(socket["link"]))) is not None
        }
        kept = {name: value for name, value in inputs.items() if name not in PAGE}
        prompt[str(id)] = {"class_type": node["type"], "inputs": kept}
        if title := node.get("title"):
            prompt[str(id)]["_meta"] = {"title": title}
    return prompt
