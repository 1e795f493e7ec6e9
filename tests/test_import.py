"""What it costs a user to have the pack installed: nothing but a moment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

# Runs in a process of its own, and compares what ComfyUI's and PyTorch's modules and classes hold before and after.
PROBE = """
import sys
sys.argv = ["comfyui", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import asyncio, importlib, json, os, pathlib, re
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
before, environment, modules = dict(attributes()), dict(os.environ), set(sys.modules)
opened = []

def watch(event, arguments):
    if event.startswith(watched):
        events.append(event)
    if event == "open" and isinstance(arguments[0], str) and not re.search(r"\\.py(c\\b|$)", arguments[0]):
        opened.append(arguments[0])

sys.addaudithook(watch)

pack = importlib.import_module("animatediff_native.__init__")
extension = loop.run_until_complete(pack.comfy_entrypoint())
loop.run_until_complete(extension.on_load())
loaded = loop.run_until_complete(extension.get_node_list())

after = dict(attributes())
modules_before = {key.rpartition(".")[0] for key in before}
changed = [key for key, value in before.items() if after.get(key) is not value and not is_bookkeeping(key)]
added = [k for k in after.keys() - before.keys() if k.rpartition(".")[0] in modules_before and not is_bookkeeping(k)]
print(json.dumps({"changed": changed + added, "events": events, "nodes": len(loaded), "opened": opened,
                  "environment": environment == dict(os.environ), "modules": sorted(set(sys.modules) - modules)}))
"""


# Modules from elsewhere that ComfyUI has not loaded by then: all of them hold a few functions.
SMALL = {
    "comfy_api.torch_helpers",
    "comfy_api.torch_helpers.torch_compile",
}


@pytest.fixture(scope="module")
def import_report(tmp_path_factory) -> dict[str, Any]:
    """What the probe says of the pack's import in a fresh process, as ComfyUI has it after its own start."""
    command = [sys.executable, "-P", "-c", PROBE]
    answer = subprocess.run(command, cwd=tmp_path_factory.mktemp("empty"), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def test_the_import_changes_nothing_of_comfyui_or_torch_and_contacts_nobody(import_report):
    expected = {"changed": [], "events": [], "nodes": 47, "environment": True}
    assert {name: import_report[name] for name in expected} == expected


def test_the_import_brings_no_library_and_neither_training_nor_evaluation(import_report):
    """What costs time at ComfyUI's start is left until a node needs it. The benchmark measures the milliseconds."""
    wanted = re.compile(r"animatediff_native(\.(__init__|nodes|motion_models|sampling|old_workflows)(\..+)?)?")
    assert [name for name in import_report["modules"] if not wanted.fullmatch(name)] == sorted(SMALL)


def test_the_import_reads_no_file_but_its_modules(import_report):
    assert import_report["opened"] == []
