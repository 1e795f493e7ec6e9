"""Tests run against the ComfyUI that PYTHONPATH names, in this process and on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import animatediff_native

animatediff_native.start_comfyui(cpu=True)
torch.set_num_threads(1)
# In processes that tests start, threads sleep while they wait for each other: where other programs use the processor
# too, small models take up to ten times as long with threads that spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "autograd: the test needs gradients and runs outside of inference mode")


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
