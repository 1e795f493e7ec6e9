"""The pack's nodes and small models, as in tests/nodes, and the stand-in nodes by the names of old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from node_fixtures import adn, animated, apply, installed, load_motion, model, motion, motion_folder
from node_support import core_nodes, node_output

__all__ = ["adn", "animated", "apply", "installed", "load_motion", "model", "motion", "motion_folder"]


@pytest.fixture
def old(adn) -> Callable[..., Any]:
    """A stand-in node as a function, by the name that the old node has without its prefix."""

    def outputs(node_id: str, inputs: dict[str, Any]) -> tuple[Any, ...]:
        if node_id not in adn:
            core = core_nodes.NODE_CLASS_MAPPINGS[node_id]
            return getattr(core(), core.FUNCTION)(**inputs)
        output = node_output(adn[node_id], **inputs)
        expanded: dict[str, tuple[Any, ...]] = {}

        def value(given: Any) -> Any:
            """A link leads into a node of the expansion, which runs when it is asked for, and once."""
            if not isinstance(given, list) or len(given) != 2 or given[0] not in (output.expand or ()):
                return given
            id, index = given
            if id not in expanded:
                entry = output.expand[id]
                expanded[id] = outputs(entry["class_type"], {name: value(it) for name, it in entry["inputs"].items()})
            return expanded[id][index]

        return tuple(value(given) for given in output.result)

    def run(name: str, /, **inputs: Any) -> Any:
        given = outputs(f"ADN_Old{name}", inputs)
        return given[0] if len(given) == 1 else given

    return run
