"""Save Motion Module: a file that Load Motion Module reads."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..motion_models.merging import save
from .model_files import MOTION_MODULES
from .sockets import MotionModel


class SaveMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_SaveMotionModule",
            display_name="Save Motion Module",
            category="AnimateDiff",
            description="Saves a motion module with its LoRAs and merges as one .safetensors file in ComfyUI's output "
            "folder, where Load Motion Module finds it.",
            search_aliases=["motion model save", "bake motion lora"],
            inputs=[
                MotionModel.Input("motion_module", tooltip="From Merge Motion Modules or Load Motion LoRA."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{MOTION_MODULES.name}/motion_module",
                    tooltip="Folder below ComfyUI's output folder, and the beginning of the file's name.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, motion_module, filename_prefix: str) -> io.NodeOutput:
        output = folder_paths.get_output_directory()
        if not Path(output, filename_prefix).resolve().is_relative_to(Path(output).resolve()):
            raise ValueError(f"{filename_prefix} lies outside of ComfyUI's output folder: choose a name below it.")
        try:
            folder, name, counter, *_ = folder_paths.get_save_image_path(filename_prefix, output)
            path = os.path.join(folder, f"{name}_{counter:05}_.safetensors")
            save(motion_module, path)
        except OSError as error:
            raise ValueError(
                f"{filename_prefix} could not be written in {output}: free disk space or choose another name ({error})."
            ) from error
        return io.NodeOutput(ui={"text": [path]})
