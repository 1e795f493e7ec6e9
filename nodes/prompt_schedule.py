"""Prompt Schedule: prompts that change over the frames of a clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sampling.curves import EASINGS
from ..sampling.prompt_blending import INTERPOLATIONS, blend
from ..sampling.prompt_schedule import blends, distinct_prompts, join, parse


class PromptSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
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
                io.Clip.Input("clip", tooltip="The text encoder, with any LoRA on it."),
                io.String.Input(
                    "prompts",
                    default="0: a seed in dark soil\n0.5: a green sprout\n1.0: a tree in bloom",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="A line for each prompt, 'frame: prompt'. With a decimal point it is a part of the clip; "
                    "-1 is the last frame; '10-20: prompt' holds; a word after the frame is the way to the next "
                    f"prompt: {', '.join(EASINGS)}; '--' begins a comment.",
                ),
                io.Int.Input("frames", default=16, min=1, max=100000, tooltip="Frames of the clip."),
                io.Latent.Input(
                    "latent", optional=True, tooltip="The clip's latent: its number of frames counts instead."
                ),
                io.String.Input(
                    "prefix",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    optional=True,
                    tooltip="Put in front of every prompt.",
                ),
                io.String.Input(
                    "suffix",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    optional=True,
                    tooltip="Put behind every prompt.",
                ),
                io.Combo.Input(
                    "interpolation",
                    options=list(INTERPOLATIONS),
                    default="linear",
                    advanced=True,
                    tooltip="How one prompt goes over into the next. Slerp keeps the strength of their vectors "
                    "halfway, linear lowers it.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="Conditioning with one entry for each frame, for any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        prompts: str,
        frames: int,
        latent: io.Latent.LatentDict | None = None,
        prefix: str = "",
        suffix: str = "",
        interpolation: str = "linear",
    ) -> io.NodeOutput:
        if clip is None:
            raise ValueError("There is no text encoder in this checkpoint: take the CLIP from Load CLIP instead.")
        frames = len(latent["samples"]) if latent is not None else frames
        shown = blends(parse(prompts, EASINGS), frames)
        encoded = {
            prompt: clip.encode_from_tokens_scheduled(clip.tokenize(join(prefix, prompt, suffix)))
            for prompt in distinct_prompts(shown)
        }
        return io.NodeOutput(blend(encoded, shown, interpolation))
