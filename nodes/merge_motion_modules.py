"""Merge Motion Modules: one motion module out of two."""

from __future__ import annotations

from comfy_api.latest import io

from ..motion_models.merging import merge
from .levels import level_inputs, report_missing_levels, values_by_level
from .schema import Schema
from .sockets import MotionModel


class MergeMotionModules(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_MergeMotionModules",
            display_name="Merge Motion Modules",
            category="AnimateDiff",
            description="Blends the weights of two motion modules for the same base. The noise schedule and the frame "
            "limit come from the first.",
            search_aliases=["motion model merge", "mix motion modules"],
            inputs=[
                MotionModel.Input("first", tooltip="From Load Motion Module, with or without motion LoRAs."),
                MotionModel.Input("second", tooltip="Another motion module for the same base."),
                io.Float.Input(
                    "ratio",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the second module. 0 gives the first, 1 the second.",
                ),
                *level_inputs("ratio", "Multiplies the ratio", advanced=True, maximum=1.0),
            ],
            outputs=[MotionModel.Output(display_name="motion_module", tooltip="The merged motion module.")],
        )

    @classmethod
    def execute(cls, first, second, ratio: float = 0.5, **inputs: float) -> io.NodeOutput:
        ratio_of_level = values_by_level("ratio", inputs)
        for motion in (first, second):
            report_missing_levels(ratio_of_level, motion)
        return io.NodeOutput(merge(first, second, ratio=ratio, ratio_of_level=ratio_of_level))
