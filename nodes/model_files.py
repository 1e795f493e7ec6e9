"""Files to load from a model folder, and files to save."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import folder_paths

from ..motion_models.files import take_name, unfinished_name
from ..sampling.timeline import cut


class ModelFolder(NamedTuple):
    """A folder in models/, the kind of file it holds, and the name of such a file."""

    name: str
    content: str
    example: str

    @property
    def empty(self) -> str:
        """Return the only entry of the list when the folder is empty."""
        return f"(no files: put {self.content}s into models/{self.name})"

    def choices(self) -> list[str]:
        """Return the names of the files to choose from."""
        return folder_paths.get_filename_list(self.name) or [self.empty]

    def path(self, choice: str) -> str:
        """Return the path of the chosen file. ValueError if there is none yet, FileNotFoundError if it is gone."""
        if choice == self.empty:
            folder = folder_paths.get_folder_paths(self.name)[0]
            raise ValueError(f"There is no {self.content} yet: put one, such as {self.example}, into {folder}.")
        return folder_paths.get_full_path_or_raise(self.name, choice)

    def fingerprint(self, choice: str | None) -> str:
        """Return a text that changes with the file, so that ComfyUI loads a replaced file again."""
        if choice is None:  # the name comes from another node, whose changes ComfyUI sees
            return ""
        path = folder_paths.get_full_path(self.name, choice)
        if path is None:
            return choice
        file = os.stat(path)
        return f"{path} {file.st_mtime_ns} {file.st_size}"


MOTION_MODULES = ModelFolder("animatediff_models", "motion module", "v3_sd15_mm.ckpt")
MOTION_LORAS = ModelFolder("animatediff_motion_lora", "motion LoRA", "v2_lora_PanLeft.ckpt")
CAMERA_CTRLS = ModelFolder("animatediff_models", "CameraCtrl file", "CameraCtrl.ckpt")
SPARSE_CTRL_MODELS = ModelFolder("controlnet", "SparseCtrl model", "v3_sd15_sparsectrl_rgb.ckpt")


def save_new(filename_prefix: str, write: Callable[[str], None]) -> str:
    """Write a numbered .safetensors file in ComfyUI's output folder with `write`, which takes a path; return its path.

    ValueError if the path is outside of that folder or cannot be written.
    """
    output, shown = folder_paths.get_output_directory(), cut(" ".join(filename_prefix.split()))
    if not filename_prefix.isprintable():
        raise ValueError(f"{shown} has characters that file names cannot have: choose another name.")
    if not Path(output, filename_prefix).resolve().is_relative_to(Path(output).resolve()):
        raise ValueError(f"{shown} is outside ComfyUI's output folder: choose a path inside it.")
    try:
        folder, name, counter, *_ = folder_paths.get_save_image_path(filename_prefix, output)
        unfinished = unfinished_name(Path(folder))
        try:
            write(str(unfinished))
            names = (Path(folder, f"{name}_{number:05}_.safetensors") for number in count(counter))
            return str(take_name(unfinished, names))
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"{shown} could not be written to {output}: free disk space or choose another name "
            f"({error.__cause__ or error})."
        ) from error
