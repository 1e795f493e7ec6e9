"""Sliding Context: clips longer than the motion module, in overlapping windows."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.clips import apply_sliding_context
from ..sampling.context_windows import WITHIN, ContextOptions
from ..sampling.windows import FUSES, SCHEDULES


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
                    default=ContextOptions.length,
                    min=2,
                    max=128,
                    tooltip="Frames in a window. 16 suits most motion modules, which were trained on 16 frames.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=ContextOptions.overlap,
                    min=0,
                    max=127,
                    tooltip="Frames that a window shares with the next. More is smoother and slower.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default=ContextOptions.schedule,
                    advanced=True,
                    tooltip="Static keeps the windows in place; uniform moves them from step to step. In a closed loop "
                    "the last frame leads to the first, in a looped clip nearly so. Batched windows do not overlap.",
                ),
                io.Combo.Input(
                    "fuse",
                    options=list(FUSES),
                    default=ContextOptions.fuse,
                    advanced=True,
                    tooltip="How overlapping windows are blended. Pyramid gives the middle of a window most weight.",
                ),
                io.Int.Input(
                    "context_stride",
                    default=ContextOptions.stride,
                    min=0,
                    max=8,
                    advanced=True,
                    tooltip="From 2 on, uniform and looped also use windows of every 2nd, 4th ... frame: slower, and "
                    "what is far apart agrees more. 0 is 1, but for closed loops more in the first quarter.",
                ),
                io.Combo.Input(
                    "within",
                    options=list(WITHIN),
                    default=ContextOptions.within,
                    advanced=True,
                    tooltip="Where frames are divided into windows. In the motion module alone is faster, but the "
                    "whole clip has to fit into memory at once.",
                ),
                io.Int.Input(
                    "windows_at_once",
                    default=ContextOptions.at_once,
                    min=1,
                    max=32,
                    advanced=True,
                    tooltip="Windows that share a call of the model if memory allows; faster on a GPU that one window "
                    "does not fill.",
                ),
                io.Boolean.Input(
                    "free_noise",
                    default=ContextOptions.free_noise,
                    advanced=True,
                    tooltip="FreeNoise: later windows start from the first window's noise in another order, so that "
                    "the clip stays the same scene.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=ContextOptions.start_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="From where in the sampling on these windows are used. Chain several nodes to change them.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Model.Output(tooltip="The model, sampling in windows when a clip has more frames than one holds."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        context_length: int,
        context_overlap: int,
        schedule: str = ContextOptions.schedule,
        fuse: str = ContextOptions.fuse,
        context_stride: int = ContextOptions.stride,
        within: str = ContextOptions.within,
        windows_at_once: int = ContextOptions.at_once,
        free_noise: bool = ContextOptions.free_noise,
        start_percent: float = ContextOptions.start_percent,
    ) -> io.NodeOutput:
        options = ContextOptions(
            context_length,
            context_overlap,
            schedule,
            fuse,
            context_stride,
            within,
            windows_at_once,
            free_noise,
            start_percent,
            cls.hidden and cls.hidden.unique_id,
        )
        return io.NodeOutput(apply_sliding_context(model, options))
