"""Small models, for the files that ask for them, which make them once each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfy_support import animate, load_motion
from node_support import CHANNELS, small_model
from sparse_ctrl_support import load_sparse


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model() -> Any:
    return small_model()


@pytest.fixture(scope="module")
def load(folder) -> Callable[..., Any]:
    """Load a motion module, a new one at each call."""
    return lambda seed=1: load_motion(folder, seed=seed, channels=CHANNELS)


@pytest.fixture(scope="module")
def motion(load) -> Any:
    return load()


@pytest.fixture(scope="module")
def animated(model, motion) -> Any:
    return animate(model, motion)


@pytest.fixture(scope="module")
def scribble(folder) -> Any:
    return load_sparse(folder, "scribble", CHANNELS)
