"""Load Motion Module: choose a file of models/animatediff_models."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ..motion_models.loader import load_motion_model
from .sockets import MotionModel

FOLDER = "animatediff_models"
EMPTY = f"(no files: put motion modules into models/{FOLDER})"


class LoadMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_LoadMotionModule",
            display_name="Load Motion Module",
            category="AnimateDiff",
            description="Loads a motion module: AnimateDiff for SD1.5 (v1, v2, v3) and SDXL, HotshotXL, AnimateLCM, "
            "Lightning, LongAnimateDiff. What the file is decides its noise schedule and frame limit.",
            search_aliases=[
                "animatediff loader",
                "motion model",
                "mm_sd_v15_v2",
                "v3_sd15_mm",
                "hotshotxl",
                "lightning",
            ],
            inputs=[
                io.Combo.Input(
                    "motion_module",
                    options=folder_paths.get_filename_list(FOLDER) or [EMPTY],
                    tooltip=f"A file of models/{FOLDER}, .safetensors or .ckpt.",
                ),
            ],
            outputs=[
                MotionModel.Output(display_name="motion_module", tooltip="For Apply AnimateDiff."),
            ],
        )

    @classmethod
    def execute(cls, motion_module: str) -> io.NodeOutput:
        if motion_module == EMPTY:
            folder = folder_paths.get_folder_paths(FOLDER)[0]
            raise ValueError(f"There is no motion module yet: put one, such as v3_sd15_mm.ckpt, into {folder}.")
        return io.NodeOutput(load_motion_model(folder_paths.get_full_path_or_raise(FOLDER, motion_module)))

    @classmethod
    def fingerprint_inputs(cls, motion_module: str):
        """A replaced file is loaded again."""
        path = folder_paths.get_full_path(FOLDER, motion_module)
        if path is None:
            return motion_module
        file = os.stat(path)
        return f"{path} {file.st_mtime_ns} {file.st_size}"
