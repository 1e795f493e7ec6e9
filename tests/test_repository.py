"""Rules of the house that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib
from selection import LONGEST_FIRST, ONE_VERSION

from animatediff_native.tools.environment.downloads import COMFYUI_DEFAULT, COMFYUI_RELEASES

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("nodes", "motion_models", "sampling", "training", "evaluation", "old_workflows")
PACK = [ROOT / "__init__.py", *sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def ids(files: list[Path]) -> list[str]:
    return [file.relative_to(ROOT).as_posix() for file in files]


def check(command: list[str]) -> None:
    answer = subprocess.run([sys.executable, "-P", "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"]], ids=" ".join)
def test_ruff_has_nothing_to_say(command, tmp_path):
    check([*command, "--cache-dir", str(tmp_path)])


def test_pyright_has_nothing_to_say():
    import comfyui_version

    if comfyui_version.__version__ != COMFYUI_DEFAULT:
        pytest.skip("types are those of the newest ComfyUI")
    check(["pyright", "--pythonpath", sys.executable])


def test_the_oldest_comfyui_of_the_registry_is_the_oldest_tested_one():
    oldest = min(COMFYUI_RELEASES, key=lambda version: [int(part) for part in version.split(".")])
    assert PROJECT["tool"]["comfy"]["requires-comfyui"] == f">={oldest}"
    assert PROJECT["project"]["dependencies"] == []


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


UNWANTED = {"ctypes", "ftplib", "http", "marshal", "pickle", "shutil", "socket", "ssl", "subprocess", "urllib"}
BROUGHT = {
    "PIL",
    "av",
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "folder_paths",
    "latent_preview",
    "numpy",
    "psutil",
    "pydantic",
    "safetensors",
    "torch",
    "tqdm",
}
BROUGHT |= {"torchvision"}
EXTRA = {"accelerate", "tomli", "webdataset"}  # of `pip install .[training]`
WANTED = BROUGHT | EXTRA | {"animatediff_native"} | set(sys.stdlib_module_names) - UNWANTED


@pytest.mark.parametrize("file", PACK, ids=ids(PACK))
def test_the_pack_needs_only_comfyui_and_does_nothing_behind_its_back(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert set(imports(tree)) <= WANTED
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not {ast.unparse(call.func) for call in calls} & {"eval", "exec", "compile", "__import__", "os.system"}
    for call in (call for call in calls if ast.unparse(call.func) in ("torch.load", "torch.hub.load")):
        assert "weights_only=True" in ast.unparse(call)


def test_what_training_alone_needs_is_imported_by_training_alone():
    """And only where it is used, so that the nodes go without."""
    for file in PACK:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not set(imports(tree)) & EXTRA or file.is_relative_to(ROOT / "training")
        at_import: list[ast.stmt] = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not set(imports(ast.Module(at_import, []))) & EXTRA


COMFYUI = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "latent_preview", "nodes"}
COMFYUI |= {"comfy_support", "node_support", "server_support"}
FIXTURES = {"adn", "object_info", "server"}  # that start ComfyUI


@pytest.mark.parametrize("pattern", ONE_VERSION)
def test_tests_that_run_on_one_comfyui_alone_do_not_touch_it(pattern):
    files = list((ROOT / "tests").glob(pattern))
    assert files
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not {*imports(tree)} & COMFYUI, file
        assert not {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} & FIXTURES, file


@pytest.mark.parametrize("pattern", LONGEST_FIRST)
def test_the_longest_tests_are_there(pattern):
    assert list((ROOT / "tests").glob(pattern))


def test_nodes_are_registered_by_the_entry_point_alone():
    """ComfyUI would ignore comfy_entrypoint beside it."""
    assert "NODE_CLASS_MAPPINGS" not in (ROOT / "__init__.py").read_text(encoding="utf-8")


def test_demo_weights_are_safetensors_of_30_mib_at_most():
    files = [file for file in (ROOT / "demo").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files if file.suffix == ".safetensors") <= 30 * 2**20
    assert not [file for file in files if file.suffix in (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=ids(WORKFLOWS))
def test_workflow_has_a_thumbnail_and_no_trace_of_a_machine(workflow):
    text = workflow.read_text(encoding="utf-8")
    assert workflow.with_suffix(".jpg").is_file()
    assert not re.search(r"/home/|/Users/|[A-Z]:\\\\|/tmp/", text)
