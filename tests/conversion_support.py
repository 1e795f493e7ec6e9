"""What the tests of conversion ask of a workflow: which nodes it has, what they hold, and what leads to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from animatediff_native.old_workflows.convert import convert
from animatediff_native.old_workflows.node_types import NODE_TYPES

CORPUS = Path(__file__).resolve().parent / "old_workflows" / "corpus"
every_workflow = pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.glob("*.json")))


def read(name: str) -> dict[str, Any]:
    return json.loads((CORPUS / f"{name}.json").read_text(encoding="utf-8"))


def nodes_of(workflow: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"] in types]


def widgets(node: dict[str, Any]) -> dict[str, Any]:
    """Of a new node, by name."""
    return dict(zip(NODE_TYPES[node["type"]].widgets, node["widgets_values"], strict=False))


def links_of(workflow: dict[str, Any]) -> dict[int, list[Any]]:
    return {link[0]: link for link in (list(e.values()) if isinstance(e, dict) else e for e in workflow["links"])}


def sources(workflow: dict[str, Any], node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name of an input -> the node that it comes from."""
    nodes, links = {entry["id"]: entry for entry in workflow["nodes"]}, links_of(workflow)
    connected = [socket for socket in node.get("inputs") or [] if socket["link"] is not None]
    return {socket["name"]: nodes[links[socket["link"]][1]] for socket in connected}


def sampled_through(workflow: dict[str, Any], sampler: int = 0) -> list[dict[str, Any]]:
    """The nodes that the model goes through, from the checkpoint to a sampler."""
    node = nodes_of(workflow, "KSampler")[sampler]
    row: list[dict[str, Any]] = []
    while "model" in (inputs := sources(workflow, node)):
        node = inputs["model"]
        row.insert(0, node)
    return row[1:]


class Drawing:
    """A workflow of one loader and sampler, in which nodes are added and wired."""

    def __init__(self, name: str = "text_to_video_gen1"):
        self.workflow = read(name)

    def node(self, type: str) -> dict[str, Any]:
        return nodes_of(self.workflow, type)[0]

    def add(self, type: str, values: Any, inputs: str = "", outputs: str = "") -> dict[str, Any]:
        id = max(node["id"] for node in self.workflow["nodes"]) + 1
        node = {"id": id, "type": type, "pos": [id * 400, 3000], "size": [300, 80], "widgets_values": values}
        node["inputs"] = [{"name": name, "type": name.upper(), "link": None} for name in inputs.split()]
        node["outputs"] = [{"name": name, "type": name, "links": []} for name in outputs.split()]
        self.workflow["nodes"].append(node)
        return node

    def wire(self, source: dict[str, Any], output: int, target: dict[str, Any], name: str) -> None:
        id = max(link[0] for link in self.workflow["links"]) + 1
        socket = next((entry for entry in target["inputs"] if entry["name"] == name), None)
        if socket is None:
            socket = {"name": name, "type": source["outputs"][output]["type"], "link": None}
            target["inputs"].append(socket)
        links, kind = self.workflow["links"], source["outputs"][output]["type"]
        links[:] = [link for link in links if link[0] != socket["link"]]
        socket["link"] = id
        source["outputs"][output]["links"] = [*(source["outputs"][output].get("links") or []), id]
        links.append([id, source["id"], output, target["id"], target["inputs"].index(socket), kind])

    def convert(self) -> tuple[dict[str, Any], list[str]]:
        return convert(self.workflow)
