"""The environment that people who work on the pack share: uv, Python packages, and ComfyUI itself.

Everything is written to a per-user cache directory and nothing to the repository. An entry of the cache counts once
its marker is written, so an interrupted set-up repairs itself on the next call; a lock keeps two set-ups apart.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from .cache import SetupError, build_once, cache_directory, is_built, run_step, say
from .downloads import COMFYUI_DEFAULT, find_comfyui
from .torch_build import TORCH, torch_backend

REPO = Path(__file__).resolve().parent.parent.parent

UV_VERSION = "0.13.9"
UV_OLDEST = (0, 7)  # knows --torch-backend
PYTHON_OLDEST, PYTHON_NEWEST = (3, 11), (3, 14)  # what the pinned packages support


@dataclass(frozen=True)
class Environment:
    """A Python with ComfyUI's packages and the development tools, and the ComfyUI it was made for."""

    folder: Path
    comfyui: Path

    @property
    def scripts(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        return self.scripts / ("python.exe" if os.name == "nt" else "python")

    def variables(self) -> dict[str, str]:
        """Return the variables under which a command finds this Python first and ComfyUI importable."""
        misleading = ("PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
        variables = {name: value for name, value in os.environ.items() if name not in misleading}
        variables["VIRTUAL_ENV"] = str(self.folder)
        variables["PATH"] = os.pathsep.join([str(self.scripts), os.environ.get("PATH", "")])
        variables["PYTHONPATH"] = os.pathsep.join([str(self.comfyui), str(REPO)])
        variables["ADN_COMFYUI"] = str(self.comfyui)
        # Compiled files and tool caches would otherwise be written beside the sources.
        variables["PYTHONPYCACHEPREFIX"] = str(cache_directory() / "bytecode")
        variables["RUFF_CACHE_DIR"] = str(cache_directory() / "ruff")
        return variables


def prepare(comfyui: str = COMFYUI_DEFAULT) -> Environment:
    """Return the environment for a ComfyUI version of the table, or for someone's own ComfyUI; built if missing."""
    uv = find_uv()
    tree = find_comfyui(comfyui, uv)
    requirements = tree / "requirements.txt"
    packages = [*TORCH, *development_packages()]

    def folder_for(backend: str) -> Path:
        return cache_directory() / f"environment-{environment_key(packages, requirements, backend)}"

    backend = torch_backend(uv, lambda backend: is_built(folder_for(backend)))

    def install(folder: Path) -> None:
        say(f"Installing the Python packages of ComfyUI {comfyui} ...")
        run_step("make a Python environment", [uv, "venv", "--quiet", "--python", wanted_python(), str(folder)])
        python = Environment(folder, tree).python
        build = ["--torch-backend", backend] if backend else []
        install = [uv, "pip", "install", *build, "--python", str(python), "-r", str(requirements), *packages]
        run_step(f"install the Python packages of ComfyUI {comfyui}", install)

    return Environment(build_once(folder_for(backend), install), tree)


def environment_key(packages: list[str], requirements: Path, backend: str) -> str:
    """Return a short hash of all that decides what is in an environment."""
    pins = [*packages, requirements.read_text(encoding="utf-8"), python_version(), platform.machine(), backend]
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]


def python_version() -> str:
    """Return the running Python's version if the packages support it, otherwise the range that they support."""
    if PYTHON_OLDEST <= sys.version_info[:2] <= PYTHON_NEWEST:
        return "{}.{}".format(*sys.version_info)
    return ">={}.{},<={}.{}.999".format(*PYTHON_OLDEST, *PYTHON_NEWEST)


def wanted_python() -> str:
    """Return what to ask uv for: the running Python if it will do, otherwise one that uv finds or fetches."""
    return sys.executable if python_version()[0].isdigit() else python_version()


def development_packages() -> list[str]:
    """Return the `dev` group of pyproject.toml. Read by hand: Python 3.10 has no tomllib."""
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    group = re.search(r"^dev = \[$(.*?)^\]$", text, re.MULTILINE | re.DOTALL)
    if group is None:
        raise SetupError("pyproject.toml has no dependency group `dev`.")
    return re.findall(r'^\s*"([^"]+)"', group[1], re.MULTILINE)


def find_uv() -> str:
    """Return the uv on PATH if it is recent enough, otherwise one of our own."""
    on_path = shutil.which("uv")
    if on_path and uv_version(on_path) >= UV_OLDEST:
        return on_path

    def install(folder: Path) -> None:
        say(f"Installing uv {UV_VERSION} ...")
        try:
            venv.create(folder, with_pip=True)
        except subprocess.CalledProcessError as error:
            raise SetupError(
                "Could not make a Python environment: install your system's package of Python's `venv`, or install uv."
            ) from error
        pip = [str(Environment(folder, folder).python), "-m", "pip"]
        run_step(f"install uv {UV_VERSION}", [*pip, "install", "--disable-pip-version-check", f"uv=={UV_VERSION}"])

    folder = build_once(cache_directory() / f"uv-{UV_VERSION}", install)
    return str(Environment(folder, folder).scripts / ("uv.exe" if os.name == "nt" else "uv"))


def uv_version(uv: str) -> tuple[int, ...]:
    """Return a uv's version, or (0,) for one that does not run."""
    answer = subprocess.run([uv, "--version"], capture_output=True, text=True)
    version = re.match(r"uv (\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in version.groups()) if version and answer.returncode == 0 else (0,)
