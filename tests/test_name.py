"""The pack's one name outside ComfyUI, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPAWNED = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import animatediff_native
from animatediff_native.sampling.windows import windows

if __name__ == "__main__":
    print(sys.path.count(animatediff_native.FOLDER), sys.path[-1] == animatediff_native.FOLDER)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(windows, "static", 4, 4, 0).result())
"""


def run(*arguments: str, cwd: Path, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    answer = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_folder_is_found_last_and_by_spawned_processes_too(tmp_path):
    """ComfyUI's nodes.py has to be found before the folder's nodes/."""
    (tmp_path / "spawned.py").write_text(SPAWNED)
    first_in_path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    assert run("spawned.py", cwd=tmp_path, **first_in_path).splitlines() == ["1 True", "[[0, 1, 2, 3]]"]


@pytest.mark.parametrize("command", ["training", "evaluation"])
def test_commands_start_from_any_folder_by_the_packs_name(tmp_path, command):
    text = run("-m", f"animatediff_native.{command}", "--help", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert text.startswith(f"usage: python -m {command}")
