"""Save Motion Module: write a file that Load Motion Module reads."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io

from ..motion_models.saving import save
from .model_files import MOTION_MODULES, save_new
from .schema import Schema
from .sockets import MotionModel

PREFIX = f"{MOTION_MODULES.name}/motion_module"


class SaveMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_SaveMotionModule",
            display_name="Save Motion Module",
            category="AnimateDiff",
            description="Saves a motion module, including its LoRAs and merges, as one .safetensors file in ComfyUI's "
            "output folder, where Load Motion Module finds it.",
            search_aliases=["motion model save", "bake motion lora"],
            inputs=[
                MotionModel.Input(
                    "motion_module", tooltip="From Merge Motion Modules, Load Motion LoRA or a training node."
                ),
                io.String.Input(
                    "filename_prefix",
                    default=PREFIX,
                    tooltip="Folder inside ComfyUI's output folder, and the start of the file name.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, motion_module, filename_prefix: str = PREFIX) -> io.NodeOutput:
        path = save_new(filename_prefix, partial(save, motion_module))
        return io.NodeOutput(ui={"text": [path]})
