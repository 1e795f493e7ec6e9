"""Sliding Context: clips longer than the motion module, in overlapping windows."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.context_windows import (
    DEFAULT_LENGTH,
    DEFAULT_OVERLAP,
    SCHEDULES,
    SlidingContext,
    apply_sliding_context,
)


class SlidingContextNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_SlidingContext",
            display_name="Sliding Context",
            category="AnimateDiff",
            description="Samples a long clip in overlapping windows of frames, so that its length is free and only one "
            "window at a time takes memory.",
            search_aliases=[
                "context options",
                "context windows",
                "long animation",
                "standard static",
                "looped uniform",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with, before or after Apply AnimateDiff."),
                io.Int.Input(
                    "context_length",
                    default=DEFAULT_LENGTH,
                    min=2,
                    max=128,
                    tooltip="Frames in a window. 16 suits most motion modules, which were trained on 16 frames.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=DEFAULT_OVERLAP,
                    min=0,
                    max=127,
                    tooltip="Frames that a window shares with the next. More is smoother and slower.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default="static",
                    advanced=True,
                    tooltip="Static keeps the windows in place; uniform moves them from step to step, which hides the "
                    "seams and changes more of the clip.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, sampling in windows when a clip has more frames than one holds."),
            ],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, context_length: int, context_overlap: int, schedule: str = "static"
    ) -> io.NodeOutput:
        return io.NodeOutput(apply_sliding_context(model, SlidingContext(context_length, context_overlap, schedule)))
