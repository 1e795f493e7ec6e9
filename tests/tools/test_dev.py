"""What `python tools/dev.py test` runs on which ComfyUI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from animatediff_native.tools.environment import REPO
from animatediff_native.tools.environment.downloads import COMFYUI_RELEASES

# Says what pytest would be run with, on which ComfyUI; the oldest one's tests fail, and none are for the second.
SCRIPT = """
import json, sys
from pathlib import Path
import dev
dev.install_chromium = lambda: None
dev.find_uv = lambda: "uv"
dev.fetch_newest_frontend = lambda uv: print(json.dumps(["frontend"]))
dev.prepare = lambda comfyui: dev.Environment(Path("environment"), Path(comfyui))
def execute(environment, command, cwd=None):
    print(json.dumps([environment.comfyui.name, *command[6:]]))
    return {"0.18.2": 1, "0.24.1": 5}.get(environment.comfyui.name, 0)
dev.execute = execute
sys.exit(dev.main(["test", *sys.argv[1:]]))
"""
ONLY_COMFYUI = ["-m", "not one_version"]


def dev_test(*arguments: str) -> tuple[list[list[str]], int, str]:
    """Return what is run, the exit status, and what is said."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    answer = subprocess.run(command, cwd=REPO / "tools", capture_output=True, text=True)
    return [json.loads(line) for line in answer.stdout.splitlines()], answer.returncode, answer.stderr


def test_the_older_comfyuis_run_the_tests_that_touch_comfyui():
    runs, status, summary = dev_test("--comfyui", "all", "-q")
    newest, *older = COMFYUI_RELEASES
    assert runs == [["frontend"], [newest, "-q"], *([version, *ONLY_COMFYUI, "-q"] for version in older)]
    assert status == 1, "that of the version that failed"
    assert "0.24.1: passed" in summary and "0.18.2: failed" in summary


@pytest.mark.parametrize("version", COMFYUI_RELEASES)
def test_a_single_version_runs_what_is_asked(version):
    runs, *_ = dev_test("--comfyui", version, "tests/tools", "-k", "archive")
    assert runs[-1] == [version, "tests/tools", "-k", "archive"]


def test_ones_own_comfyui_needs_no_other_frontend(tmp_path: Path):
    runs, status, _ = dev_test("--comfyui", str(tmp_path / "mine"))
    assert (runs, status) == ([["mine"]], 0)
