"""Motion Strength: where and when a motion module works, and how strongly."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.strength import MotionStrength
from . import levels
from .sockets import MotionCurve
from .sockets import MotionStrength as MotionStrengthSocket

PREVIOUS = MotionStrengthSocket.Input(
    "previous", optional=True, tooltip="Another Motion Strength; what the two say is multiplied."
)
OUTPUT = MotionStrengthSocket.Output(display_name="motion_strength", tooltip="For Apply AnimateDiff.")


class MotionStrengthNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_MotionStrength",
            display_name="Motion Strength",
            category="AnimateDiff",
            description="How strongly a motion module works: a number, or with Motion Curve a number for each frame, "
            "each region, or each moment of the sampling.",
            search_aliases=["multival", "effect multival", "scale multival", "motion scale", "ad keyframe"],
            inputs=[
                curve_or_number("effect", 0.0, "How much of what the motion module does is added. 0 is none."),
                curve_or_number(
                    "scale", 0.0, "How sharply frames follow each other: above 1 more sharply, below 1 more loosely."
                ),
                PREVIOUS,
            ],
            outputs=[OUTPUT],
        )

    @classmethod
    def execute(cls, effect, scale, previous: tuple[MotionStrength, ...] = ()) -> io.NodeOutput:
        return io.NodeOutput((*previous, MotionStrength(effect, scale)))


class MotionStrengthPerLevel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_MotionStrengthPerLevel",
            display_name="Motion Strength per Level",
            category="AnimateDiff",
            description="How strongly a motion module works in each level of the UNet, from fine details (down 1, "
            "up 4) to the whole picture (mid).",
            search_aliases=["ad block", "per block", "block weights"],
            inputs=[
                *levels.rows("effect", "How much of the motion is added", advanced=False, maximum=10.0),
                *levels.rows("scale", "How sharply frames follow each other", advanced=True, maximum=10.0),
                PREVIOUS,
            ],
            outputs=[OUTPUT],
        )

    @classmethod
    def execute(cls, previous: tuple[MotionStrength, ...] = (), **inputs: float) -> io.NodeOutput:
        effect, scale = levels.values("effect", inputs), levels.values("scale", inputs)
        return io.NodeOutput((*previous, MotionStrength(strength_of_level=effect, motion_scale_of_level=scale)))


def curve_or_number(name: str, minimum: float, tooltip: str) -> io.MultiType.Input:
    number = io.Float.Input(name, default=1.0, min=minimum, max=10.0, step=0.01, tooltip=f"{tooltip} Takes a curve.")
    return io.MultiType.Input(number, [MotionCurve])
