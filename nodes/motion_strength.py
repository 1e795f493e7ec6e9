"""Motion Strength: where, when and how strongly a motion module acts."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.strength import MotionStrength
from .apply_animatediff import MOTION_SCALE
from .levels import level_inputs, values_by_level
from .schema import Schema
from .sockets import MotionCurve
from .sockets import MotionStrength as MotionStrengthSocket

PREVIOUS = MotionStrengthSocket.Input(
    "previous", optional=True, tooltip="Another Motion Strength. The values of both are multiplied."
)
OUTPUT = MotionStrengthSocket.Output(display_name="motion_strength", tooltip="For Apply AnimateDiff.")


class MotionStrengthNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_MotionStrength",
            display_name="Motion Strength",
            category="AnimateDiff",
            description="Sets the strength and the motion scale of a motion module. Each is a number, or a Motion "
            "Curve that varies over frames, regions or the sampling.",
            search_aliases=["multival", "effect multival", "scale multival", "motion scale", "ad keyframe"],
            inputs=[
                number_or_curve("strength", "How strongly the motion module acts. 0 turns it off."),
                number_or_curve("motion_scale", MOTION_SCALE),
                PREVIOUS,
            ],
            outputs=[OUTPUT],
        )

    @classmethod
    def execute(cls, strength=1.0, motion_scale=1.0, previous: tuple[MotionStrength, ...] = ()) -> io.NodeOutput:
        return io.NodeOutput((*previous, MotionStrength(strength, motion_scale)))


class MotionStrengthPerLevel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_MotionStrengthPerLevel",
            display_name="Motion Strength per Level",
            category="AnimateDiff",
            description="Sets the strength and the motion scale of a motion module in each level of the UNet, from the "
            "finest details (down 1, up 4) to the whole picture (mid).",
            search_aliases=["ad block", "per block", "block weights"],
            inputs=[
                *level_inputs("strength", "Strength", advanced=False, maximum=10.0),
                *level_inputs("motion_scale", "Motion scale", advanced=True, maximum=10.0),
                PREVIOUS,
            ],
            outputs=[OUTPUT],
        )

    @classmethod
    def execute(cls, previous: tuple[MotionStrength, ...] = (), **inputs: float) -> io.NodeOutput:
        strength = MotionStrength(
            strength_of_level=values_by_level("strength", inputs),
            motion_scale_of_level=values_by_level("motion_scale", inputs),
        )
        return io.NodeOutput((*previous, strength))


def number_or_curve(name: str, tooltip: str) -> io.MultiType.Input:
    """Return an input for a number that also takes a Motion Curve."""
    number = io.Float.Input(
        name, default=1.0, min=0.0, max=10.0, step=0.01, tooltip=f"{tooltip} Takes a number or a Motion Curve."
    )
    return io.MultiType.Input(number, [MotionCurve])
