"""Define Prompt Schedule: prompts that change over the frames of a clip."""

from __future__ import annotations

from typing import Any

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import io

from ..sampling.prompt_blending import INTERPOLATIONS, blend
from ..sampling.prompt_schedule import blends, distinct_prompts, join, parse
from ..sampling.timeline import EASINGS
from .schema import Schema

PROMPTS = "0: a seed in dark soil\n0.5: a green sprout\n1.0: a tree in bloom"


class PromptSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_PromptSchedule",
            display_name="Prompt Schedule",
            category="AnimateDiff",
            description="Encodes prompts that change over the frames of a clip.",
            search_aliases=[
                "prompt travel",
                "batch prompt schedule",
                "prompt scheduling",
                "prompt keyframes",
                "fizznodes",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder, with any LoRAs applied."),
                io.String.Input(
                    "prompts",
                    default=PROMPTS,
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="One 'frame: prompt' per line. 0.5 or 50% is half of the clip, -1 the last frame, and "
                    "'10-20: a cat' a range. A word before the colon sets how one prompt changes into the "
                    f"next: {', '.join(EASINGS)}. '--' starts a comment.",
                ),
                io.Int.Input("frames", default=16, min=1, max=100000, tooltip="Number of frames in the clip."),
                io.Latent.Input(
                    "latent", optional=True, tooltip="The clip's latent. Its number of frames is used instead."
                ),
                io.Combo.Input(
                    "interpolation",
                    options=list(INTERPOLATIONS),
                    default="linear",
                    advanced=True,
                    tooltip="How one prompt blends into the next. Slerp keeps the full strength halfway; linear "
                    "lowers it.",
                ),
                io.String.Input(
                    "prefix",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Prepended to every prompt.",
                ),
                io.String.Input(
                    "suffix",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Appended to every prompt.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="Conditioning with one entry per frame, for any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        prompts: str = PROMPTS,
        frames: int = 16,
        latent: io.Latent.LatentDict | None = None,
        prefix: str = "",
        suffix: str = "",
        interpolation: str = "linear",
    ) -> io.NodeOutput:
        if clip is None:
            raise ValueError("This checkpoint has no text encoder: connect Load CLIP to 'clip' instead.")
        frames = len(latent["samples"]) if latent is not None else frames
        shown = blends(parse(prompts), frames)
        encoded = {}
        for prompt in distinct_prompts(shown):
            throw_exception_if_processing_interrupted()  # thousands of prompts take minutes
            encoded[prompt] = clip.encode_from_tokens_scheduled(clip.tokenize(join(prefix, prompt, suffix)))
        return io.NodeOutput(blend(encoded, shown, interpolation))
