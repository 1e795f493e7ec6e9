"""A workflow for other AnimateDiff packs, rewritten for this one and for ComfyUI's own nodes. Needs no ComfyUI."""

from __future__ import annotations

from typing import Any

from .animatediff_evolved import convert_loaders
from .api_prompts import from_prompt, is_prompt, to_prompt
from .artventurex import convert_first_pack
from .common_nodes import convert_common
from .conversion import BYPASSED, ROUTES, Conversion
from .graph import Node
from .load_videos import convert_clips, convert_loaders_of_videos
from .old_nodes import is_old
from .prompts import convert_prompts
from .rewrites import convert_same, convert_upscaling
from .save_videos import convert_savers

SAVE_AGAIN = "in ComfyUI, save the workflow and convert it again"
STEPS = (
    convert_loaders,
    convert_first_pack,
    convert_same,
    convert_upscaling,
    convert_common,
    convert_loaders_of_videos,
    convert_clips,
    convert_savers,
    convert_prompts,
)


def convert(workflow: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the rewritten workflow, and a sentence for each thing that it could not carry over.

    `workflow` is as ComfyUI's page saves it, or a prompt as its API takes it, and is not changed. ValueError, in one
    sentence, if it is something else.
    """
    prompt = is_prompt(workflow)
    c = Conversion(from_prompt(workflow) if prompt else workflow)
    for step in STEPS:
        step(c)
    c.report_links()
    remove_unused(c)
    bypass_the_rest(c)
    saved = c.new.saved()
    return to_prompt(saved) if prompt else saved, c.report() + nested(saved)


def remove_unused(c: Conversion) -> None:
    """Remove old nodes that only set up what has been rewritten, with the Reroutes and Primitives that led to it."""
    while unused := [node for node in c.new.nodes.values() if removable(c, node)]:
        for node in unused:
            c.new.remove(node)


def removable(c: Conversion, node: Node) -> bool:
    led_on = node["id"] in c.old.nodes and c.old.links_from(c.old.nodes[node["id"]])
    mine = (is_old(node["type"]) and (led_on or node["outputs"])) or (node["type"] in ROUTES and led_on)
    return bool(mine and not c.new.links_from(node))


def bypass_the_rest(c: Conversion) -> None:
    for node in c.new.nodes.values():
        if is_old(node["type"]):
            node["mode"] = node.get("mode", 0) or BYPASSED
            c.say(node, "it has no counterpart, and is left as it is, bypassed.")


def nested(workflow: dict[str, Any]) -> list[str]:
    """Return a sentence for each group node and subgraph that holds old nodes."""
    lines = []
    for name, group in ((workflow.get("extra") or {}).get("groupNodes") or {}).items():
        if holds_old_nodes(group):
            lines.append(f"Group node {name}: it holds old nodes; convert it to nodes {SAVE_AGAIN}.")
    for subgraph in (workflow.get("definitions") or {}).get("subgraphs") or []:
        if holds_old_nodes(subgraph):
            name = subgraph.get("name", subgraph.get("id"))
            lines.append(f"Subgraph {name}: it holds old nodes; unpack it {SAVE_AGAIN}.")
    return lines


def holds_old_nodes(group: dict[str, Any]) -> bool:
    return any(is_old(node["type"]) for node in group.get("nodes") or [])
