"""Score Animation: how much a clip moves, how steady it is, and whether it shows what was asked for."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

OpticalFlowSocket = io.Custom("OPTICAL_FLOW")  # of core's Load Optical Flow Model; older versions of ComfyUI have none


class ScoreAnimation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_ScoreAnimation",
            display_name="Score Animation",
            category="AnimateDiff/evaluation",
            description="Measures a clip: how much it moves and how steady it is; with CLIP models also how smooth it "
            "is, and how well it shows the prompt and the look that were wanted.",
            search_aliases=["evaluate video", "temporal consistency", "warping error", "clip score", "flicker"],
            inputs=[
                io.Image.Input("images", tooltip="The clip, 2 frames or more."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="For smoothness, look and text agreement. From Load CLIP Vision.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="For text agreement: the text model of the same CLIP, from Load CLIP. What comes with an "
                    "SD1.5 checkpoint lacks the part that leads to pictures.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="For text agreement: what the clip should show. Needs clip and clip_vision.",
                ),
                io.Image.Input(
                    "reference_images",
                    optional=True,
                    tooltip="For the look: stills of the same checkpoint without a motion module. Needs clip_vision.",
                ),
                OpticalFlowSocket.Input(
                    "optical_flow",
                    optional=True,
                    tooltip="RAFT, from Load Optical Flow Model. Without it motion is found by Lucas-Kanade, "
                    "which needs no weights and sees less.",
                ),
                io.Int.Input(
                    "context_length",
                    default=0,
                    min=0,
                    max=128,
                    advanced=True,
                    tooltip="Frames in a window of Sliding Context, to score the seams. 0: there were no windows.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=4,
                    min=0,
                    max=127,
                    advanced=True,
                    tooltip="Frames that a window shares with the next.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="score", tooltip="All numbers, as JSON."),
                io.Image.Output(display_name="plot", tooltip="Motion, smoothness and warping error over the clip."),
                io.Float.Output(display_name="motion", tooltip="Mean length of the optical flow, in pixels per frame."),
                io.Float.Output(
                    display_name="smoothness",
                    tooltip="Mean likeness of neighbouring frames, at most 100; 0 without clip_vision. A still "
                    "clip has the most: look at motion too.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        text: str = "",
        clip_vision: Any = None,
        clip: Any = None,
        reference_images: Tensor | None = None,
        optical_flow: Any = None,
        context_length: int = 0,
        context_overlap: int = 4,
    ) -> io.NodeOutput:
        from ..evaluation.in_graph import score_clip  # here, since reading it would lengthen ComfyUI's start

        found, drawn = score_clip(
            images, text, clip_vision, clip, reference_images, optical_flow, context_length, context_overlap
        )
        values = (found.to_json(), drawn, found.motion, found.smoothness or 0.0)
        return io.NodeOutput(*values, ui={"text": [found.sentences()]})
