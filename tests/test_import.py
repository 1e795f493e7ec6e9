"""What it costs a user to have the pack installed: nothing but a moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from animatediff_native.benchmarks.benchmark import import_milliseconds

ROOT = Path(__file__).resolve().parent.parent

# Runs in a process of its own: what ComfyUI's and PyTorch's modules and classes hold before and after the import.
PROBE = """
import sys
sys.argv = ["comfyui", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import asyncio, importlib, json, os, pathlib
import comfy.sd, comfy.sample, comfy.context_windows, comfy_api.latest, folder_paths, nodes, torch

def attributes():
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "torch"):
            yield from ((f"{name}.{key}", value) for key, value in list(vars(module).items()))
            for cls in [v for v in list(vars(module).values()) if isinstance(v, type) and v.__module__ == name]:
                yield from ((f"{name}.{cls.__name__}.{key}", value) for key, value in list(vars(cls).items()))

def is_bookkeeping(key):  # submodules that Python notes in their package, and its caches of subclass checks
    return key in sys.modules or key.endswith(("__warningregistry__", "._abc_impl"))

loop, events = asyncio.new_event_loop(), []
watched = ("socket.", "subprocess.", "os.system", "urllib.", "os.exec", "os.posix_spawn")
before, environment = dict(attributes()), dict(os.environ)
sys.addaudithook(lambda event, _: events.append(event) if event.startswith(watched) else None)

pack = importlib.import_module("animatediff_native.__init__")
extension = loop.run_until_complete(pack.comfy_entrypoint())
loop.run_until_complete(extension.on_load())
loaded = loop.run_until_complete(extension.get_node_list())

after = dict(attributes())
modules_before = {key.rpartition(".")[0] for key in before}
changed = [key for key, value in before.items() if after.get(key) is not value and not is_bookkeeping(key)]
added = [k for k in after.keys() - before.keys() if k.rpartition(".")[0] in modules_before and not is_bookkeeping(k)]
print(json.dumps({"changed": changed + added, "events": events, "nodes": len(loaded),
                  "environment": environment == dict(os.environ)}))
"""


@pytest.fixture(autouse=True)
def keep_bytecode_out_of_the_repository(monkeypatch, tmp_path):
    """As for a user, compiled files are kept from one start to the next."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", sys.pycache_prefix or str(tmp_path))
    monkeypatch.chdir(tmp_path)  # python -c puts the current folder first, and the repository's nodes/ is not ComfyUI's


def test_the_pack_imports_in_less_than_50_ms():
    assert import_milliseconds() < 50


def test_the_import_changes_nothing_of_comfyui_or_torch_and_contacts_nobody():
    code = f"ROOT = {str(ROOT)!r}\n{PROBE}"
    answer = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == {"changed": [], "events": [], "nodes": 31, "environment": True}
