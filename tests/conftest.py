"""Tests run against the ComfyUI that PYTHONPATH names, in this process and on the CPU."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from comfy_server import ComfyServer

ROOT = Path(__file__).resolve().parent.parent


def start_comfyui() -> None:
    """ComfyUI reads its command line when it is imported."""
    import comfy.options

    comfy.options.enable_args_parsing()
    argv, sys.argv = sys.argv, ["comfyui", "--cpu"]
    try:
        import comfy.cli_args
    finally:
        sys.argv = argv
    # As main.py does, before an older nodes.py puts comfy/ and its own utils.py first.
    import utils.extra_config  # noqa: F401

    # After ComfyUI, whose nodes.py our nodes/ must not hide; `python -m pytest` puts this folder first.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    sys.path += [str(ROOT), str(ROOT / "tests")]


start_comfyui()
torch.set_num_threads(1)
# In processes that tests start, threads sleep while they wait for each other: where other programs use the processor
# too, small models take up to ten times as long with threads that spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "autograd: the test needs gradients and runs outside of inference mode")


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The pack, imported by path as ComfyUI imports it."""
    spec = importlib.util.spec_from_file_location("animatediff_native", ROOT / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[ComfyServer]:
    """ComfyUI with the pack and its miniature models, one for all tests: a start takes seconds.

    It remembers what earlier tests ran and has loaded their models. Its classic cache keeps exactly the last prompt's
    results, so it is known which nodes run again.
    """
    from server_support import miniature_server  # in a folder that only start_comfyui makes importable

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
