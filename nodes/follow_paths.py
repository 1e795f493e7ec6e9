"""Follow Paths: let the subjects of a clip move where paths say."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sampling.follow_paths import FollowPaths, follow_paths
from ..sampling.motion_paths import MotionPath
from .schema import Schema
from .sockets import MotionPaths

END = FollowPaths.end_percent


class FollowPathsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_FollowPaths",
            display_name="Follow Paths",
            category="AnimateDiff",
            description="Lets the subjects of a clip move along paths, without training. It steers the first steps, "
            "which decide where things are.",
            search_aliases=["trajectory", "motion control", "freetraj", "peekaboo", "trailblazer", "bounding box"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. Works before or after Apply AnimateDiff."),
                MotionPaths.Input("motion_paths", tooltip="One path per subject, from Motion Path."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How closely subjects keep to their paths. 0 changes nothing.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=END,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="The part of the sampling that is steered. Later steps draw freely where the subjects then "
                    "are.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, for any sampler.")],
        )

    @classmethod
    def execute(
        cls, model: Any, motion_paths: tuple[MotionPath, ...], strength: float = 1.0, end_percent: float = END
    ) -> io.NodeOutput:
        return io.NodeOutput(follow_paths(model, FollowPaths(motion_paths, strength, end_percent)))
