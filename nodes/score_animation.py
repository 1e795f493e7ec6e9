"""Score Animation: measure how much a clip moves, how steady it is, and how well it matches the prompt."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .schema import Schema

OpticalFlowSocket = io.Custom("OPTICAL_FLOW")  # from core's Load Optical Flow Model, which older versions lack


class ScoreAnimation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_ScoreAnimation",
            display_name="Score Animation",
            category="AnimateDiff/evaluation",
            description="Measures how much a clip moves and how steady it is. With CLIP models, it also measures how "
            "smooth the clip is and how well it matches a prompt and a look.",
            search_aliases=["evaluate video", "temporal consistency", "warping error", "clip score", "flicker"],
            inputs=[
                io.Image.Input("images", tooltip="The clip, at least 2 frames."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="From Load CLIP Vision, to measure smoothness, look and text agreement.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="From Load CLIP, to measure text agreement: the text model that belongs to clip_vision. "
                    "The one in an SD1.5 checkpoint does not work, because it lacks the text projection.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="What the clip should show, to measure text agreement. Needs clip and clip_vision.",
                ),
                io.Image.Input(
                    "reference_images",
                    optional=True,
                    tooltip="Stills from the same checkpoint without a motion module, to measure look. Needs "
                    "clip_vision.",
                ),
                OpticalFlowSocket.Input(
                    "optical_flow",
                    optional=True,
                    tooltip="RAFT, from Load Optical Flow Model. Without it, motion is measured by the Lucas-Kanade "
                    "method, which needs no weights but misses more.",
                ),
                io.Int.Input(
                    "context_length",
                    default=0,
                    min=0,
                    max=128,
                    advanced=True,
                    tooltip="Context length of Sliding Context, to score the seams between windows. 0 means no "
                    "windows.",
                ),
                io.Int.Input(
                    "context_overlap",
                    default=4,
                    min=0,
                    max=127,
                    advanced=True,
                    tooltip="Context overlap of Sliding Context.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="score", tooltip="All measurements, as JSON."),
                io.Image.Output(display_name="plot", tooltip="Motion, smoothness and warping error over the clip."),
                io.Float.Output(display_name="motion", tooltip="Mean optical flow, in pixels per frame."),
                io.Float.Output(
                    display_name="smoothness",
                    tooltip="Mean similarity of neighbouring frames, at most 100; 0 without clip_vision. A still clip "
                    "scores highest, so compare motion too.",
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
        from ..evaluation.in_graph import score_clip  # imported late, to keep ComfyUI's start fast

        idle = {
            "clip does nothing without a text": clip is not None and not text.strip(),
            f"context_overlap {context_overlap} does nothing without a context_length": context_overlap != 4
            and not context_length,
        }
        for sentence in (sentence for sentence, holds in idle.items() if holds):
            logging.info(f"Score Animation: {sentence}.")
        score, plot = score_clip(
            images=images,
            text=text,
            clip_vision=clip_vision,
            clip=clip,
            reference_images=reference_images,
            optical_flow=optical_flow,
            context_length=context_length,
            context_overlap=context_overlap,
        )
        outputs = (score.to_json(), plot, score.motion, score.smoothness or 0.0)
        return io.NodeOutput(*outputs, ui={"text": [score.sentences()]})
