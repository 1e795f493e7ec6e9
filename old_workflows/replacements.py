"""Touches comfy. Says which node replaces which of the old packs', where ComfyUI does not find that one.

The page offers the replacements of a workflow's missing nodes. It moves links by the names of inputs, and values by
their positions in the workflow.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from comfy_api.latest import ComfyAPI, io

from .old_nodes import OLD_NODES, stand_in_id
from .table import OldNode


class Replacement(NamedTuple):
    """Inputs keep their names."""

    old_id: str
    old: OldNode

    @property
    def new_id(self) -> str:
        return stand_in_id(self.old_id)

    @property
    def outputs(self) -> int:
        return len(self.old.stand_in.outputs) if self.old.stand_in else 1

    @property
    def inputs(self) -> list[str]:
        return [entry.name for entry in self.old.carried]

    def for_page(self) -> io.NodeReplace:
        """Return it as ComfyUI's page reads it: what comes later in the mapping wins."""
        values: list[Any] = [{"new_id": name, "set_value": value} for name, value in self.old.missing.items()]
        return io.NodeReplace(
            new_node_id=self.new_id,
            old_node_id=self.old_id,
            old_widget_ids=[entry.name for entry in self.old.widgets],
            input_mapping=[*values, *({"new_id": name, "old_id": name} for name in self.inputs)],
            output_mapping=[{"new_idx": i, "old_idx": i} for i in range(self.outputs)],
        )

    def in_prompt(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the new node's inputs, from those of the old one in a prompt."""
        return {**self.old.missing, **{name: inputs[name] for name in self.inputs if name in inputs}}


REPLACEMENTS = tuple(
    Replacement(old_id, old) for old_id, old in OLD_NODES.items() if old.stand_in is not None or old.replaced_by
)
BY_OLD_ID = {replacement.old_id: replacement for replacement in REPLACEMENTS}


async def register_replacements() -> None:
    """Tell ComfyUI's server, where there is one."""
    server: Any = getattr(sys.modules.get("server"), "PromptServer", None)
    if getattr(server, "instance", None) is None:
        return
    replacing = ComfyAPI().node_replacement
    for replacement in REPLACEMENTS:
        await replacing.register(replacement.for_page())
    server.instance.add_on_prompt_handler(replace_in_prompt)


def replace_in_prompt(request: dict[str, Any]) -> dict[str, Any]:
    """Replace the missing nodes of a prompt that comes without the page.

    ComfyUI's own replacement fails with a KeyError where an optional input is left out, so it gets no work.
    """
    known = sys.modules["nodes"].NODE_CLASS_MAPPINGS
    for node in request.get("prompt", {}).values():
        replacement = BY_OLD_ID.get(node.get("class_type"))
        if replacement is not None and replacement.old_id not in known:
            node |= {"class_type": replacement.new_id, "inputs": replacement.in_prompt(node["inputs"])}
    return request
