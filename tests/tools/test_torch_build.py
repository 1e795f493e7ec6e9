"""PyTorch is installed without CUDA where there is no GPU, if that build can be reached."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

from animatediff_native.tools import environment
from animatediff_native.tools.environment import torch_build
from animatediff_native.tools.environment.torch_build import torch_backend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the build is chosen on Linux, by programs of a shell")


@pytest.fixture(autouse=True)
def without_gpu(tmp_path, monkeypatch):
    """A Linux without a GPU, whose user has not chosen a build."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(torch_build, "GPUS", (f"{tmp_path}/dev/nvidia[0-9]*", f"{tmp_path}/dev/renderD*"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("UV_TORCH_BACKEND", raising=False)
    for folder in ("dev", "bin"):
        (tmp_path / folder).mkdir()


def program(file: Path, script: str) -> str:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def reachable(tmp_path) -> str:
    """A uv that resolves every build, and keeps what it was asked."""
    return program(tmp_path / "uv", f'echo "$*" >> {tmp_path}/asked; echo "$UV_HTTP_RETRIES" >> {tmp_path}/asked')


@pytest.fixture
def unreachable(tmp_path) -> str:
    return program(tmp_path / "uv", "echo 'error: Failed to fetch' >&2; exit 1")


def nothing_installed(backend: str) -> bool:
    return False


def test_without_a_gpu_the_build_without_cuda_is_chosen_and_said(tmp_path, reachable, capsys):
    assert torch_backend(reachable, nothing_installed) == "cpu"
    assert "without CUDA" in capsys.readouterr().err
    command, retries = (tmp_path / "asked").read_text().splitlines()
    assert command.startswith("pip compile") and command.endswith("--torch-backend cpu")
    assert retries == "0", "it does not wait for an index that is not there"


def test_where_it_cannot_be_reached_the_default_build_is_chosen_and_said(unreachable, capsys):
    assert torch_backend(unreachable, nothing_installed) == ""
    assert "cannot be reached" in capsys.readouterr().err


def test_an_index_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_build, "PATIENCE", 0.1)
    assert torch_backend(program(tmp_path / "uv", "exec /bin/sleep 60"), nothing_installed) == ""


@pytest.mark.parametrize("choice", ["cu128", "cpu", ""])
def test_the_users_choice_wins(tmp_path, monkeypatch, reachable, choice):
    monkeypatch.setenv("UV_TORCH_BACKEND", choice)
    assert torch_backend(reachable, nothing_installed) == choice
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("device", ["dev/nvidia0", "dev/renderD128", "bin/nvidia-smi"])
def test_with_a_gpu_the_default_build_is_chosen(tmp_path, reachable, device):
    program(tmp_path / device, "")
    assert torch_backend(reachable, nothing_installed) == ""


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_other_systems_have_one_build(monkeypatch, reachable, system):
    monkeypatch.setattr(platform, "system", lambda: system)
    assert torch_backend(reachable, nothing_installed) == ""


@pytest.mark.parametrize("backend", ["cpu", ""])
def test_an_environment_that_is_there_is_used_without_asking(tmp_path, reachable, backend):
    assert torch_backend(reachable, lambda other: other == backend) == backend
    assert not (tmp_path / "asked").exists()


UV = """case "$1" in
    venv) for folder; do :; done; /bin/mkdir -p "$folder" ;;
    --version) echo "uv 0.13.9" ;;
    pip) echo "$*" >> "$ASKED" ;;
esac"""


@pytest.mark.parametrize("choice", [None, "cu128"])
def test_the_chosen_build_is_installed_in_an_environment_of_its_own(tmp_path, monkeypatch, choice):
    comfyui, cache = tmp_path / "ComfyUI", tmp_path / "cache"
    comfyui.mkdir()
    for name in ("main.py", "nodes.py", "requirements.txt"):
        (comfyui / name).touch()
    program(tmp_path / "bin" / "uv", UV)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("ADN_CACHE_DIR", str(cache))
    default = environment.environment_key(
        [*torch_build.TORCH, *environment.development_packages()], comfyui / "requirements.txt", ""
    )
    if choice is not None:
        monkeypatch.setenv("UV_TORCH_BACKEND", choice)
    prepared = environment.prepare(str(comfyui))
    *_, install = (tmp_path / "asked").read_text().splitlines()
    assert f"pip install --torch-backend {choice or 'cpu'} " in install
    assert prepared.folder.parent == cache and not prepared.folder.name.endswith(default)
    assert environment.prepare(str(comfyui)) == prepared
    assert (tmp_path / "asked").read_text().splitlines()[-1] == install
    assert os.environ.get("UV_TORCH_BACKEND") == choice
