"""Save Motion LoRA: write a file that Load Motion LoRA reads."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io

from ..motion_models.key_layouts import LORA_LAYOUTS
from ..motion_models.saving import motion_lora_file, write
from .model_files import MOTION_LORAS, save_new
from .schema import Schema
from .sockets import MotionLora

PREFIX = f"{MOTION_LORAS.name}/motion_lora"


class SaveMotionLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_SaveMotionLora",
            display_name="Save Motion LoRA",
            category="AnimateDiff/training",
            description="Saves a trained motion LoRA as a .safetensors file in ComfyUI's output folder, where Load "
            "Motion LoRA finds it.",
            search_aliases=["motion lora save"],
            inputs=[
                MotionLora.Input("motion_lora", tooltip="From Train Motion LoRA."),
                io.String.Input(
                    "filename_prefix",
                    default=PREFIX,
                    tooltip="Folder inside ComfyUI's output folder, and the start of the file name.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LORA_LAYOUTS),
                    default="AnimateDiff",
                    advanced=True,
                    tooltip="Key names in the file, for the program that will load it. Load Motion LoRA reads them "
                    "all.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, motion_lora, filename_prefix: str = PREFIX, layout: str = "AnimateDiff") -> io.NodeOutput:
        weights = motion_lora_file(motion_lora.weights, layout, motion_lora.scale)
        path = save_new(filename_prefix, partial(write, weights, motion_lora.notes))
        return io.NodeOutput(ui={"text": [path]})
