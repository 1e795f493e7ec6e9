"""What is encoded once and read in every training: safetensors files, named by a hash of all that decides them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from .items import Prompt

FORMAT = 1
"""Counts the changes of what the files hold."""


@dataclass(frozen=True)
class Cache:
    folder: Path

    def get(self, kind: str, key: Mapping[str, object], make: Callable[[], dict[str, Tensor]]) -> Path:
        """The file of what `key` describes, made if it is not there or is damaged.

        ValueError if it cannot be written.
        """
        digest = sha256(json.dumps([FORMAT, dict(key)], sort_keys=True).encode()).hexdigest()
        file = self.folder / kind / f"{digest[:32]}.safetensors"
        if not _is_whole(file):
            self._write(file, save(make()))
        return file

    def _write(self, file: Path, data: bytes) -> None:
        """All or nothing: a file that is half written never has the name that is read."""
        half_done = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with half_done.open("wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                half_done.replace(file)
            finally:
                half_done.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(
                f"{len(data) / 1e6:.1f} MB could not be written into {file.parent} ({error.strerror}): free disk space "
                "there, or choose another folder with 'cache'."
            ) from error


def _is_whole(file: Path) -> bool:
    try:
        with safe_open(file, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def clip_tensors(versions: list[Tensor]) -> dict[str, Tensor]:
    return {str(number): latents for number, latents in enumerate(versions)}


def prompt_tensors(prompt: Prompt) -> dict[str, Tensor]:
    tensors = {"context": prompt.context} | ({} if prompt.pooled is None else {"pooled": prompt.pooled})
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class CachedClip:
    """A clip of two files, which are opened for each read: there may be more than a process can hold open.

    A file is mapped into memory, so that only the frames that are used are read from the disk.
    """

    file: Path
    prompt_file: Path
    shape: tuple[int, ...]
    versions: int

    @classmethod
    def open(cls, file: Path, prompt_file: Path) -> CachedClip:
        with safe_open(file, "pt") as tensors:
            return cls(file, prompt_file, tuple(tensors.get_slice("0").get_shape()), len(tensors.keys()))

    def latents(self, version: int, frames: slice) -> Tensor:
        with safe_open(self.file, "pt") as tensors:
            return tensors.get_tensor(str(version))[frames]

    def prompt(self) -> Prompt:
        # Copied out of the file: who keeps a prompt does not keep it mapped.
        tensors = {name: tensor.clone() for name, tensor in load_file(self.prompt_file).items()}
        return Prompt(tensors["context"], tensors.get("pooled"))
