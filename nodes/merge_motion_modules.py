"""Merge Motion Modules: one motion module out of two."""

from __future__ import annotations

from comfy_api.latest import io

from ..motion_models.merging import merge
from . import levels
from .sockets import MotionModel


class MergeMotionModules(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_MergeMotionModules",
            display_name="Merge Motion Modules",
            category="AnimateDiff",
            description="Mixes the weights of two motion modules for the same base. Noise schedule and frame limit are "
            "those of the first.",
            search_aliases=["motion model merge", "mix motion modules"],
            inputs=[
                MotionModel.Input("first", tooltip="From Load Motion Module, with its LoRAs if it has any."),
                MotionModel.Input("second", tooltip="Another one, for the same base."),
                io.Float.Input(
                    "ratio",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the second one: 0 gives the first, 1 the second.",
                ),
                *levels.rows("ratio", "Part of the ratio that counts", advanced=True, maximum=1.0),
            ],
            outputs=[MotionModel.Output(display_name="motion_module", tooltip="The mixture; both inputs stay.")],
        )

    @classmethod
    def execute(cls, first, second, ratio: float, **inputs: float) -> io.NodeOutput:
        return io.NodeOutput(merge(first, second, ratio, levels.values("ratio", inputs)))
