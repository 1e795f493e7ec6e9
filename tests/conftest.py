"""Tests run against the ComfyUI that PYTHONPATH names, in this process and on the CPU."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import comfyui_version
import pytest
import torch
from selection import LONGEST_FIRST, ONE_VERSION, WORKERS, OneOfEach

import animatediff_native
from animatediff_native.tools.environment.downloads import COMFYUI_DEFAULT

# Tests, and the servers and commands that they start, are several processes already.
os.environ["OMP_NUM_THREADS"] = "1"
animatediff_native.start_comfyui(cpu=True)
torch.set_num_threads(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run the tests: this one alone where a single file was asked for."""
    if len(config.args) == 1 and ".py" in config.args[0]:
        return 0
    return WORKERS + (comfyui_version.__version__ == COMFYUI_DEFAULT)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneOfEach | None:
    return OneOfEach(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "autograd: the test needs gradients and runs outside of inference mode")
    config.addinivalue_line("markers", "one_version: the outcome is the same with every ComfyUI; the newest is enough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need one ComfyUI alone, and begin with the files that take longest."""
    for item in items:
        if any(item.path.match(pattern) for pattern in ONE_VERSION):
            item.add_marker("one_version")
    items.sort(key=lambda item: [not item.path.match(pattern) for pattern in LONGEST_FIRST])


def pytest_collection_finish() -> None:
    """Let the garbage collector, which trainings and ComfyUI call again and again, pass over what is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Any]:
    """ComfyUI with the pack and its miniature models, one for all tests: a start takes seconds.

    It remembers what earlier tests ran and has loaded their models. Its classic cache keeps exactly the last prompt's
    results, so it is known which nodes run again.
    """
    from server_support import miniature_server  # imports ComfyUI, which has to be started

    with miniature_server(tmp_path_factory.mktemp("comfyui"), arguments=("--cache-classic",)) as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server) -> dict[str, Any]:
    """As it is when the server starts; files that a test adds later are not among the choices."""
    return server.object_info()


@pytest.fixture(autouse=True)
def inference_mode(request):
    """ComfyUI runs nodes in inference mode; a test marked `autograd` opts out."""
    with torch.inference_mode(request.node.get_closest_marker("autograd") is None):
        yield
