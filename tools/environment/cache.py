"""The per-user cache directory: where it is, how an entry is built once, and how a failed step is explained."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """The environment could not be set up; the message is one sentence for the person at the terminal."""


def cache_directory() -> Path:
    """Return ADN_CACHE_DIR, or this pack's folder in the user's cache directory."""
    if "ADN_CACHE_DIR" in os.environ:
        return Path(os.environ["ADN_CACHE_DIR"]).expanduser().resolve()
    if os.name == "nt":
        user = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        user = Path.home() / "Library" / "Caches"
    else:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return user / "animatediff-native"


def is_built(folder: Path) -> bool:
    """Return whether an earlier call of `build_once` finished a folder."""
    return (folder / ".complete").is_file()


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Let `build` fill `folder` unless an earlier call finished it; a half-built folder is built again."""
    if not is_built(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(folder.name + ".lock")):
            if not is_built(folder):
                shutil.rmtree(folder, ignore_errors=True)
                build(folder)
                (folder / ".complete").touch()
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
    """Lock an open file and return True, or return False at once if another process holds the lock."""
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
    """Run one command of the set-up and pass on its output; SetupError in one sentence if it fails."""
    output = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                output.append(line)
                if not line.startswith(" + "):  # uv lists every package it installed
                    say("  " + line.strip())
        except BaseException:
            process.terminate()  # the lock must not be given back while this still writes
            raise
    if process.returncode:
        raise SetupError(explain_failure(task, "".join(output)))


def explain_failure(task: str, output: str) -> str:
    """Return one sentence on why a step failed, from what its command printed."""
    if any(sign in output.lower() for sign in DISK_SIGNS):
        return disk_is_full(task)
    if any(sign in output.lower() for sign in NETWORK_SIGNS):
        return f"Could not {task}: the package index cannot be reached, so check the network connection and try again."
    return f"Could not {task}; the lines above say why."


def disk_is_full(task: str) -> str:
    """Return the sentence for a set-up that ran out of disk space."""
    return (
        f"Could not {task}: the disk is full; free some space (about 8 GB are needed in all) "
        f"or set ADN_CACHE_DIR to a folder on a larger disk than {cache_directory()}."
    )


def is_disk_full(error: OSError) -> bool:
    """Return whether a system error says that the disk or the user's quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def say(line: str) -> None:
    """Print progress to stderr, so that stdout holds only what a command was asked for."""
    print(line, file=sys.stderr, flush=True)
