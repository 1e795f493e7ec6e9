"""Choosing a file of a model folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import folder_paths


class ModelFolder(NamedTuple):
    """A folder below models/, what it is for, and a file that belongs there."""

    name: str
    content: str
    example: str

    @property
    def empty(self) -> str:
        """What a list shows instead of nothing."""
        return f"(no files: put {self.content}s into models/{self.name})"

    def choices(self) -> list[str]:
        return folder_paths.get_filename_list(self.name) or [self.empty]

    def path(self, choice: str) -> str:
        """ValueError if there is nothing to choose from, FileNotFoundError if the file is gone."""
        if choice == self.empty:
            folder = folder_paths.get_folder_paths(self.name)[0]
            raise ValueError(f"There is no {self.content} yet: put one, such as {self.example}, into {folder}.")
        return folder_paths.get_full_path_or_raise(self.name, choice)

    def fingerprint(self, choice: str | None) -> str:
        """Changes with the file, so that a replaced one is loaded again."""
        if choice is None:  # it comes from another node, which ComfyUI watches
            return ""
        path = folder_paths.get_full_path(self.name, choice)
        if path is None:
            return choice
        file = os.stat(path)
        return f"{path} {file.st_mtime_ns} {file.st_size}"


MOTION_MODULES = ModelFolder("animatediff_models", "motion module", "v3_sd15_mm.ckpt")
MOTION_LORAS = ModelFolder("animatediff_motion_lora", "motion LoRA", "v2_lora_PanLeft.ckpt")


@contextmanager
def new_file(filename_prefix: str) -> Iterator[str]:
    """A numbered .safetensors path below ComfyUI's output folder, to be written within the context. ValueError if it
    lies outside of it or the disk does not take it."""
    output = folder_paths.get_output_directory()
    if not Path(output, filename_prefix).resolve().is_relative_to(Path(output).resolve()):
        raise ValueError(f"{filename_prefix} lies outside of ComfyUI's output folder: choose a name below it.")
    try:
        folder, name, counter, *_ = folder_paths.get_save_image_path(filename_prefix, output)
        yield os.path.join(folder, f"{name}_{counter:05}_.safetensors")
    except OSError as error:
        raise ValueError(
            f"{filename_prefix} could not be written in {output}: free disk space or choose another name "
            f"({error.__cause__ or error})."
        ) from error
