"""Writes files whole or not at all. Needs no ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def whole_file(path: str | os.PathLike[str], shared: bool = False) -> Iterator[Path]:
    """Yield an unfinished path in the folder of `path`, which takes the place of `path` when the context ends well.

    The folder is made if it is missing, and an error within the context leaves the old file as it was. Set `shared`
    if several processes may write the file at once. OSError if the disk refuses.
    """
    final = Path(path)
    unfinished = final.with_name(f"{final.name}.{os.getpid()}.part" if shared else f"{final.name}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave the new name with nothing behind it
        unfinished.replace(final)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors raise their own for a full disk
        raise OSError(f"{final} could not be written: free disk space, or choose another folder ({error}).") from error
    finally:
        with suppress(OSError):  # a folder that cannot be written has no leftover, and the sentence above counts
            unfinished.unlink()
