"""Say what in a newer version of the pack breaks workflows that were saved with an older one.

    python tools/dev.py run -- python .github/workflows/compatibility.py OLDER NEWER

OLDER and NEWER are folders of the pack. Ends with status 1 if something breaks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

from animatediff_native import start_comfyui


def load_nodes(folder: str) -> dict[str, Any]:
    """Load a folder of the pack as ComfyUI does and return its node classes by id."""
    import nodes

    before = dict(nodes.NODE_CLASS_MAPPINGS)
    if not asyncio.run(nodes.load_custom_node(folder)):
        sys.exit(f"{folder} does not load.")
    return {name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if before.get(name) is not node}


def breaks(older: dict[str, Any], newer: dict[str, Any]) -> Iterator[str]:
    for name, node in older.items():
        if name not in newer:
            yield f"{name} is gone."
            continue
        yield from (f"{name}: {problem}" for problem in broken_inputs(inputs(node), inputs(newer[name])))
        outputs, kept = node.RETURN_TYPES, newer[name].RETURN_TYPES
        if list(kept[: len(outputs)]) != list(outputs):
            yield f"{name}: the outputs were {', '.join(outputs)} and are {', '.join(kept)}."


def inputs(node: Any) -> dict[str, tuple[bool, Any, list[str]]]:
    """Return for each input id whether it is required, its type and its choices."""
    schema, described = node.INPUT_TYPES(), {}
    for part in ("required", "optional"):
        for name, (kind, *rest) in schema.get(part, {}).items():
            options = rest[0] if rest else {}
            choices = kind if isinstance(kind, list) else options.get("options", [])
            described[name] = part == "required", "COMBO" if isinstance(kind, list) else kind, list(map(str, choices))
    return described


def broken_inputs(older: dict[str, tuple], newer: dict[str, tuple]) -> Iterator[str]:
    for name, (_, kind, choices) in older.items():
        if name not in newer:
            yield f"the input {name} is gone."
        elif newer[name][1] != kind:
            yield f"the input {name} was {kind} and is {newer[name][1]}."
        elif lost := [choice for choice in choices if choice not in newer[name][2]]:
            yield f"the input {name} has no choice {', '.join(lost)} any more."
    for name, (required, *_) in newer.items():
        if required and name not in older:
            yield f"the new input {name} must be optional, since saved prompts do not have it."


if __name__ == "__main__":
    start_comfyui(cpu=True)
    problems = list(breaks(*map(load_nodes, sys.argv[1:3])))
    print("\n".join(problems) or "Workflows that were saved with the older version still run.")
    sys.exit(bool(problems))
