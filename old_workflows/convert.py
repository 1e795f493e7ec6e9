"""A workflow for other AnimateDiff packs, rewritten for this one and for ComfyUI's own nodes. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import animatediff_evolved, artventurex, common_nodes, keyframes, load_videos, prompts, save_videos
from .api_prompts import from_prompt, is_prompt, to_prompt
from .conversion import Conversion, Rule
from .graph import BYPASSED, Graph
from .old_nodes import is_old, row_of

SAVE_AGAIN = "in ComfyUI, save the workflow and convert it again"
RULES: Mapping[str, Rule] = {
    **animatediff_evolved.RULES,
    **artventurex.RULES,
    **common_nodes.RULES,
    **keyframes.RULES,
    **load_videos.RULES,
    **save_videos.RULES,
    **prompts.RULES,
}
"""What becomes of old nodes that have not one counterpart in the table."""


def convert(workflow: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the rewritten workflow, and a sentence for each thing that it could not carry over.

    `workflow` is as ComfyUI's page saves it, or a prompt as its API takes it, and is not changed. ValueError, in one
    sentence, if it is something else.
    """
    prompt = is_prompt(workflow)
    c = Conversion(Graph(from_prompt(workflow) if prompt else workflow))
    for node in c.old:
        rule = RULES.get(node.kind, common_nodes.same if row_of(node.type).becomes else None)
        if rule is not None:
            c.convert(node, rule)
        elif node.type == "LoadVideo":
            load_videos.say_namesake(c, node)
    c.finish()
    for node in c.graph.nodes.values():
        if is_old(node.type):
            node.mode = node.mode or BYPASSED
            c.say(node, "it has no counterpart, and is left as it is, bypassed.")
    return to_prompt(c.graph) if prompt else c.graph.saved(), c.report() + nested(c.graph.workflow)


def nested(workflow: dict[str, Any]) -> list[str]:
    """Return a sentence for each group node and subgraph that holds old nodes."""
    groups = ((workflow.get("extra") or {}).get("groupNodes") or {}).items()
    subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
    holders = [(f"Group node {name}", "convert it to nodes", group) for name, group in groups]
    holders += [(f"Subgraph {graph.get('name', graph.get('id'))}", "unpack it", graph) for graph in subgraphs]
    return [
        f"{name}: it holds old nodes; {cure} {SAVE_AGAIN}."
        for name, cure, holder in holders
        if any(is_old(node["type"]) for node in holder.get("nodes") or [])
    ]
