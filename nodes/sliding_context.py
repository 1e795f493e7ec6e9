"""Sliding Context: sample long clips in overlapping windows."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.clips import apply_sliding_context
from ..sampling.context_windows import WITHIN, ContextOptions
from ..sampling.windows import FUSES, SCHEDULES
from .schema import Schema


class SlidingContextNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_SlidingContext",
            display_name="Sliding Context",
            category="AnimateDiff",
            description="Samples a long clip in overlapping windows of frames. The clip can have any length, and only "
            "one window at a time takes memory.",
            search_aliases=[
                "context options",
                "context windows",
                "long animation",
                "standard static",
                "looped uniform",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. Works before or after Apply AnimateDiff."),
                io.Int.Input(
                    "context_length",
                    default=ContextOptions.length,
                    min=2,
                    max=128,
                    tooltip="Frames per window. 16 suits most motion modules, which were trained on 16 frames.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=ContextOptions.overlap,
                    min=0,
                    max=127,
                    tooltip="Frames that a window shares with the next one. More overlap is smoother and slower.",
                ),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default=ContextOptions.schedule,
                    advanced=True,
                    tooltip="Static keeps the windows in place; uniform shifts them at every step. Closed loop makes "
                    "the last frame lead into the first; looped nearly does. Batched windows do not overlap.",
                ),
                io.Combo.Input(
                    "fuse",
                    options=list(FUSES),
                    default=ContextOptions.fuse,
                    advanced=True,
                    tooltip="How overlapping windows are blended. Pyramid gives the middle of a window the most "
                    "weight.",
                ),
                io.Int.Input(
                    "context_stride",
                    default=ContextOptions.stride,
                    min=0,
                    max=8,
                    advanced=True,
                    tooltip="From 2 on, all schedules but static and batched add windows of every 2nd, 4th, ... "
                    "frame: slower, but distant frames agree more. 0 is automatic: 1, or more for a closed "
                    "loop in the first quarter of the sampling.",
                ),
                io.Combo.Input(
                    "within",
                    options=list(WITHIN),
                    default=ContextOptions.within,
                    advanced=True,
                    tooltip="Where the clip is split into windows: before the whole UNet, or only inside the motion "
                    "module, which is faster but needs memory for the whole clip.",
                ),
                io.Int.Input(
                    "windows_at_once",
                    default=ContextOptions.at_once,
                    min=1,
                    max=32,
                    advanced=True,
                    tooltip="Windows per call of the model, as far as memory allows. More is faster if one window does "
                    "not fill the GPU.",
                ),
                io.Boolean.Input(
                    "free_noise",
                    default=ContextOptions.free_noise,
                    advanced=True,
                    tooltip="FreeNoise: later windows start from the first window's noise in shuffled order, so that "
                    "the clip stays one scene.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=ContextOptions.start_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Point in the sampling, from 0 to 1, at which these windows take over. Chain several nodes "
                    "to change windows during the sampling.",
                ),
                io.Float.Input(
                    "reference",
                    default=ContextOptions.reference,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How much later windows attend to the first one in the first quarter of the sampling "
                    "(ContextRef), so that they keep its look. 0 is off.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                io.Model.Output(tooltip="The model. It samples clips in these windows."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        context_length: int = ContextOptions.length,
        context_overlap: int = ContextOptions.overlap,
        schedule: str = ContextOptions.schedule,
        fuse: str = ContextOptions.fuse,
        context_stride: int = ContextOptions.stride,
        within: str = ContextOptions.within,
        windows_at_once: int = ContextOptions.at_once,
        free_noise: bool = ContextOptions.free_noise,
        start_percent: float = ContextOptions.start_percent,
        reference: float = ContextOptions.reference,
    ) -> io.NodeOutput:
        options = ContextOptions(
            length=context_length,
            overlap=context_overlap,
            schedule=schedule,
            fuse=fuse,
            stride=context_stride,
            within=within,
            at_once=windows_at_once,
            free_noise=free_noise,
            start_percent=start_percent,
            reference=reference,
            node=cls.hidden and cls.hidden.unique_id,
        )
        return io.NodeOutput(apply_sliding_context(model, options))
