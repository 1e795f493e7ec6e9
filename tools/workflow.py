"""Workflows as ComfyUI's editor saves them, turned into prompts as its API takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"  # whose first entry is its default
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "CURVE", DYNAMIC_COMBO}
NOTES = {"Note", "MarkdownNote"}
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}
ALWAYS, MUTED, BYPASSED = 0, 2, 4


def workflow_to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """Turn a workflow as ComfyUI's editor saves it into a prompt as its API takes it.

    The editor saves the values of a node's widgets as a list without names, in the order of its inputs; `object_info`
    (GET /object_info) gives the names. ValueError names a node that this ComfyUI does not have.
    """
    if workflow.get("definitions", {}).get("subgraphs"):
        raise ValueError("Workflows with subgraphs are not supported here: unpack them in ComfyUI and save again.")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}  # [id, from node, its output, to node, its input, type]
    prompt = {}
    for node in workflow["nodes"]:
        if node.get("mode", ALWAYS) in (MUTED, BYPASSED) or node["type"] in NOTES | {"Reroute", "PrimitiveNode"}:
            continue
        if node["type"] not in object_info:
            raise ValueError(f"The workflow has a node {node['type']}, which this ComfyUI does not know.")
        info = object_info[node["type"]]
        inputs = dict(named_widgets(info["input"], node.get("widgets_values") or []))
        for socket_ in node.get("inputs", []):
            source = find_source(nodes, links, socket_.get("link"))
            if source is not None:
                inputs[socket_["name"]] = source
        label = node.get("title") or info.get("display_name") or node["type"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": label}}
    return prompt


def with_stand_ins(prompt: dict[str, Any], stand_ins: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a prompt with other values: `stand_ins` maps an input's name to replacements by the old value's text."""

    def replaced(name: str, value: Any) -> Any:
        return value if isinstance(value, list) else stand_ins.get(name, {}).get(str(value), value)

    return {
        key: {**node, "inputs": {name: replaced(name, value) for name, value in node["inputs"].items()}}
        for key, node in prompt.items()
    }


def named_widgets(schema: dict[str, Any], values: list[Any] | dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of a node's widgets with their names."""
    if isinstance(values, dict):
        yield from values.items()
    else:
        yield from _named_widgets(schema, deque(values), prefix="")


def _named_widgets(schema: dict[str, Any], values: deque, prefix: str) -> Iterator[tuple[str, Any]]:
    inputs = schema.get("required", {}) | schema.get("optional", {})
    for name, (kind, *rest) in inputs.items():
        options = rest[0] if rest else {}
        # An input of several types says by itself which widget it has, if it has one.
        is_widget = isinstance(kind, list) or options.get("widgetType", kind) in WIDGET_TYPES
        if not is_widget or options.get("forceInput"):
            continue
        default = {"default": options["options"][0]["key"]} if kind == DYNAMIC_COMBO else options
        if not values and "default" not in default:
            continue
        value = values.popleft() if values else default["default"]
        yield prefix + name, {"__value__": value} if isinstance(value, list) else value
        # What the editor does to a seed after each run is a widget of its own, unknown to the server.
        controlled = options.get("control_after_generate") or name in ("seed", "noise_seed")
        if controlled and values and values[0] in AFTER_GENERATE:
            values.popleft()
        if kind == DYNAMIC_COMBO:  # the chosen entry brings widgets of its own
            for option in options["options"]:
                if option["key"] == value:
                    yield from _named_widgets(option["inputs"], values, f"{prefix}{name}.")


def find_source(nodes: dict[int, Any], links: dict[int, list], link_id: int | None) -> Any:
    """Return the source of a link: [node, output], a primitive's value, or None if it is a muted node."""
    if link_id not in links:
        return None
    _, node_id, slot, _, _, kind = links[link_id][:6]
    node = nodes[node_id]
    if node["type"] == "PrimitiveNode":
        return node["widgets_values"][0]
    if node["type"] == "Reroute":
        return find_source(nodes, links, node["inputs"][0]["link"])
    mode = node.get("mode", ALWAYS)
    if mode == BYPASSED:  # its input of the same type passes through
        passing = (entry for entry in node.get("inputs", []) if entry["type"] == kind and entry.get("link") is not None)
        return find_source(nodes, links, next(passing, {}).get("link"))
    return None if mode == MUTED else [str(node_id), slot]
