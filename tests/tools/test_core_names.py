"""What the pack needs of ComfyUI is there, and what a newer ComfyUI takes away is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from animatediff_native.tools.core_names import WITHOUT, table

COMFYUI = Path(os.environ["ADN_COMFYUI"])


def missing(folder: Path) -> dict[str, str]:
    return {name if "/" not in name else f"{name} {file}": wrong for name, file, wrong in table(folder) if wrong}


def test_this_comfyui_has_all_that_the_pack_needs():
    assert {name: wrong for name, wrong in missing(COMFYUI).items() if wrong != WITHOUT} == {}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """ComfyUI's sources in a folder that a test may change, and puts right again."""
    folder = tmp_path_factory.mktemp("comfyui")
    for name in ("comfy", "comfy_api", "comfy_extras", "app"):
        shutil.copytree(COMFYUI / name, folder / name, ignore=shutil.ignore_patterns("*.json", "*.txt", "*.model"))
    for file in COMFYUI.glob("*.py"):
        shutil.copy(file, folder)
    return folder


CHANGES = {
    "comfy.utils.ProgressBar": ("comfy/utils.py", "class ProgressBar", "class Bar", "missing"),
    "comfy.model_patcher.ModelPatcher.get_model_object": (
        *("comfy/model_patcher.py", "def get_model_object(", "def model_object("),
        "missing",
    ),
    "comfy.model_sampling.ModelSamplingDiscrete._register_schedule": (
        *("comfy/model_sampling.py", ", cosine_s=8e-3, zsnr=False):", ", cosine_s=8e-3):"),
        "does not take zsnr",
    ),
    "comfy.context_windows.IndexListContextHandler.execute": (
        *("comfy/context_windows.py", "def execute(self, ", "def execute(self, more, "),
        "gives 8 arguments, not 7",
    ),
    "comfy/context_windows.py _model": ("comfy/context_windows.py", "self._model", "self._other", "missing"),
    "comfy_api.latest.io.Schema": ("comfy_api/latest/_io.py", "class Schema", "class Description", "missing"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_newer_comfyui_changes_is_named(copy, name):
    file, old, new, wrong = CHANGES[name]
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    try:
        assert missing(copy)[name] == wrong
    finally:
        (copy / file).write_text(text, encoding="utf-8")
