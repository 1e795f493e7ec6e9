"""Writes files whole or not at all. Needs no ComfyUI."""

from __future__ import annotations

import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from safetensors import SafetensorError


def unfinished_name(folder: Path, sweep: bool = True) -> Path:
    """Return a name in `folder` for a file that this process is about to write.

    Files of processes on this machine that are gone, as after a kill, are removed; without `sweep` they stay.
    """
    host = re.sub("[^A-Za-z0-9]", "-", platform.node())[:40]
    for leftover in folder.glob(f"unfinished.{host}.*.part") if sweep else ():
        process = leftover.name.split(".")[2]
        if not (process.isdecimal() and psutil.pid_exists(int(process))):
            leftover.unlink(missing_ok=True)
    return folder / f"unfinished.{host}.{os.getpid()}.{secrets.token_hex(4)}.part"


@contextmanager
def whole_file(path: str | os.PathLike[str], sweep: bool = True) -> Iterator[Path]:
    """Yield an unfinished path in the folder of `path`, which takes the place of `path` when the context ends well.

    The folder is made if it is missing, and an error within the context leaves the old file as it was. Turn off
    `sweep`, see `unfinished_name`, where a folder takes thousands of files. OSError if the disk refuses.
    """
    final = Path(path)
    unfinished = final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists() and not final.is_file():
            raise OSError("a folder, a device or a pipe has this name")
        unfinished = unfinished_name(final.parent, sweep)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave the new name with nothing behind it
        unfinished.replace(final)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors raise their own for a full disk
        raise OSError(f"{final} could not be written: free disk space, or choose another folder ({error}).") from error
    finally:
        if unfinished != final:
            with suppress(OSError):  # a folder that cannot be written has no leftover, and the sentence above counts
                unfinished.unlink()


def take_name(unfinished: Path, names: Iterator[Path]) -> Path:
    """Give a finished file the first of the names that no file has, and return it.

    Of several processes that try one name, a single one gets it.
    """
    for name in names:
        with suppress(FileExistsError):
            name.open("xb").close()
            return unfinished.replace(name)
    raise AssertionError("names has no end")
