"""Load Motion LoRA: apply a file from models/animatediff_motion_lora to a motion module."""

from __future__ import annotations

from comfy_api.latest import io

from ..motion_models.lora import apply_motion_lora
from .model_files import MOTION_LORAS
from .schema import Schema
from .sockets import MotionModel


class LoadMotionLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_LoadMotionLora",
            display_name="Load Motion LoRA",
            category="AnimateDiff",
            description="Applies a motion LoRA, such as a camera movement, to a motion module. Chain several to "
            "combine them. For image LoRAs and the v3 domain adapter, use Load LoRA.",
            search_aliases=["camera motion", "pan", "zoom", "tilt", "roll", "motiondirector", "animatediff lora"],
            inputs=[
                MotionModel.Input("motion_module", tooltip="From Load Motion Module or another Load Motion LoRA."),
                io.Combo.Input(
                    "motion_lora",
                    options=MOTION_LORAS.choices(),
                    tooltip=f"A .safetensors or .ckpt file from models/{MOTION_LORAS.name}.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How strongly the LoRA changes the module. Negative values push it the opposite way.",
                ),
            ],
            outputs=[
                MotionModel.Output(display_name="motion_module", tooltip="The motion module with the LoRA applied."),
            ],
        )

    @classmethod
    def execute(cls, motion_module, motion_lora: str, strength: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(apply_motion_lora(motion_module, MOTION_LORAS.path(motion_lora), strength))

    @classmethod
    def fingerprint_inputs(cls, motion_lora: str, **_):
        return MOTION_LORAS.fingerprint(motion_lora)
