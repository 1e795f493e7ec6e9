"""Load Motion Module: load a file from models/animatediff_models."""

from __future__ import annotations

from comfy_api.latest import io

from ..motion_models.loader import load_motion_model
from .model_files import MOTION_MODULES
from .schema import Schema
from .sockets import MotionModel


class LoadMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_LoadMotionModule",
            display_name="Load Motion Module",
            category="AnimateDiff",
            description="Loads a motion module: AnimateDiff for SD1.5 (v1, v2, v3) and SDXL, HotshotXL, AnimateLCM, "
            "Lightning, LongAnimateDiff, PIA and AnimateLCM-I2V, which take pictures. The noise schedule and the frame "
            "limit are detected from the file.",
            search_aliases=[
                "animatediff loader",
                "motion model",
                "mm_sd_v15_v2",
                "v3_sd15_mm",
                "hotshotxl",
                "lightning",
                "pia",
                "image to video",
            ],
            inputs=[
                io.Combo.Input(
                    "motion_module",
                    options=MOTION_MODULES.choices(),
                    tooltip=f"A .safetensors or .ckpt file from models/{MOTION_MODULES.name}.",
                ),
                io.Int.Input(
                    "stretch_to",
                    default=0,
                    min=0,
                    max=256,
                    advanced=True,
                    tooltip="Stretches what the module learned about its frames, usually 16, over this many frames, "
                    "for longer and slower movements. 0 leaves the module unchanged.",
                ),
            ],
            outputs=[
                MotionModel.Output(display_name="motion_module", tooltip="For Apply AnimateDiff."),
            ],
        )

    @classmethod
    def execute(cls, motion_module: str, stretch_to: int = 0) -> io.NodeOutput:
        return io.NodeOutput(load_motion_model(MOTION_MODULES.path(motion_module), stretch_to))

    @classmethod
    def fingerprint_inputs(cls, motion_module: str, **_):
        return MOTION_MODULES.fingerprint(motion_module)
