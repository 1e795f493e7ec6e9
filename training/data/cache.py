"""A cache of encoded clips and prompts: safetensors files, named by a hash of all that decides them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ...motion_models.files import whole_file
from .items import Prompt

Contents = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors and metadata of a file."""
FORMAT = 3
"""Number of the files' format, raised with every change."""


@dataclass(frozen=True)
class Cache:
    """A folder of encoded clips and prompts."""

    folder: Path

    def get(self, kind: str, key: Mapping[str, object], make: Callable[[], Contents]) -> Path:
        """Return the file of what `key` describes, made if it is missing or damaged. ValueError if the disk refuses."""
        digest = sha256(json.dumps([FORMAT, dict(key)], sort_keys=True).encode()).hexdigest()
        file = self.folder / kind / f"{digest[:32]}.safetensors"
        if not _is_whole(file):
            data = save(*make())
            try:
                with whole_file(file, sweep=False) as unfinished:
                    unfinished.write_bytes(data)
            except OSError as error:
                raise ValueError(f"'cache': {error}") from error
        return file


def _is_whole(file: Path) -> bool:
    try:
        with safe_open(file, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


def clip_contents(versions: list[Tensor], source: str) -> Contents:
    """Return the contents of a clip's file from its versions, (F, c, h, w) each, and what it was made from."""
    return {str(number): latents for number, latents in enumerate(versions)}, {"source": source}


def prompt_contents(prompt: Prompt) -> Contents:
    """Return the contents of a prompt's file."""
    tensors = {"context": prompt.context} | ({} if prompt.pooled is None else {"pooled": prompt.pooled})
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {}


@dataclass(frozen=True)
class CachedClip:
    """A clip in two files, which are opened for each read: there may be more than a process can hold open.

    Files are mapped into memory, so that only the frames that are used are read from the disk.
    """

    name: str
    file: Path
    prompt_file: Path
    identity: str
    """Changes with the clip's files and its caption."""
    shape: tuple[int, ...]
    """(F, c, h, w)."""
    versions: int
    """Number of encodings of that shape, such as the clip itself and its mirror image."""
    source: str = ""
    """Length, rate and size of what it was encoded from."""

    @classmethod
    def open(cls, name: str, file: Path, prompt_file: Path, identity: str) -> CachedClip:
        """Return a clip without reading its latents."""
        with safe_open(file, "pt") as tensors:
            shape, source = tuple(tensors.get_slice("0").get_shape()), tensors.metadata()["source"]
            return cls(
                name, file, prompt_file, identity=identity, shape=shape, versions=len(tensors.keys()), source=source
            )

    def latents(self, version: int, frames: slice) -> Tensor:
        """Return latents (f, c, h, w)."""
        with safe_open(self.file, "pt") as tensors:
            return tensors.get_tensor(str(version))[frames]

    def prompt(self) -> Prompt:
        # Copied, so that a prompt that is kept does not keep its file mapped.
        tensors = {name: tensor.clone() for name, tensor in load_file(self.prompt_file).items()}
        return Prompt(tensors["context"], tensors.get("pooled"))
