"""What the pack needs of ComfyUI is there, and what a newer ComfyUI takes away is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from animatediff_native.tools.core_names import missing

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ["ADN_COMFYUI"])

# file of ComfyUI: what it has, what a newer one has in its place, and which needs that leaves unmet
CHANGED_WORDS = {
    "comfy/model_sampling.py": (
        ", cosine_s=8e-3, zsnr=False):",
        ", cosine_s=8e-3):",
        "_register_schedule(zsnr)",
    ),
    "comfy/context_windows.py": ("self._model", "self._other", "_model"),
}
# file of ComfyUI: what it has, what a newer one has in its place, the pack's file that needs it, and pyright's words
CHANGED_NAMES = {
    "comfy/utils.py": ("class ProgressBar", "class Bar", "evaluation/in_graph.py", '"ProgressBar" is not a known'),
    "comfy/model_patcher.py": (
        "def get_model_object(",
        "def model_object(",
        "motion_models/schedules.py",
        'Cannot access attribute "get_model_object" for class "ModelPatcher"',
    ),
    "comfy/context_windows.py": (
        "def execute(self, ",
        "def execute(self, more, ",
        "sampling/context_windows.py",
        "base method has 8, but override has 7",
    ),
    "comfy_api/latest/_io.py": ("Schema", "Description", "nodes/schema.py", '"Schema" is not a known'),
}


def test_this_comfyui_has_all_that_the_pack_needs():
    assert missing(COMFYUI) == []


@pytest.fixture
def copy(tmp_path) -> Path:
    """ComfyUI's sources in a folder that a test may change."""
    for name in ("comfy", "comfy_api", "comfy_extras", "app"):
        ignored = shutil.ignore_patterns("*.json", "*.txt", "*.model")
        shutil.copytree(COMFYUI / name, tmp_path / name, ignore=ignored)
    for file in COMFYUI.glob("*.py"):
        shutil.copy(file, tmp_path)
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_words_that_a_newer_comfyui_changes_are_named(copy):
    for file, (old, new, _) in CHANGED_WORDS.items():
        replace(copy / file, old, new)
    assert set(missing(copy)) == {(file, word) for file, (*_, word) in CHANGED_WORDS.items()}


@pytest.mark.one_version
def test_names_and_arguments_that_a_newer_comfyui_changes_are_named_by_pyright(copy):
    for file, (old, new, *_) in CHANGED_NAMES.items():
        replace(copy / file, old, new)
    concerned = [file for *_, file, _ in CHANGED_NAMES.values()]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "pyright", *concerned]
    report = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    for *_, message in CHANGED_NAMES.values():
        assert message in report, report
