"""The pack's nodes and small models, as in tests/nodes, and the stand-in nodes by the names of old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from node_fixtures import adn, animated, apply, installed, load_motion, model, motion, motion_folder
from node_support import run

__all__ = ["adn", "animated", "apply", "installed", "load_motion", "model", "motion", "motion_folder"]


@pytest.fixture
def old(adn) -> Callable[..., Any]:
    """A stand-in node as a function, by the name that the old node has without its prefix."""
    return lambda name, /, **inputs: run(adn[f"ADN_Old{name}"], **inputs)
