"""Prompt Scheduling of old workflows: Prompt Schedule, with the spellings that it does not know."""

from __future__ import annotations

from comfy_api.latest import io

from ...old_workflows.prompt_ranges import as_prompt_schedule
from ...sampling.prompt_schedule import parse
from ..prompt_schedule import PromptSchedule
from . import sockets

DESCRIPTION = "From an old workflow. In new graphs Prompt Schedule does this."
INTERPOLATIONS = {"lerp": "linear", "slerp": "slerp"}

PROMPTS = io.String.Input("prompts", multiline=True, default="", tooltip='"frame": "prompt", one after the other.')
CLIP = io.Clip.Input("clip", tooltip="The text encoder.")
AROUND: list[io.Input] = [
    io.String.Input("prepend_text", optional=True, force_input=True, tooltip="Put in front of every prompt."),
    io.String.Input("append_text", optional=True, force_input=True, tooltip="Put behind every prompt."),
]
INTERPOLATION = io.Combo.Input(
    "tensor_interp",
    options=list(INTERPOLATIONS),
    default="lerp",
    optional=True,
    tooltip="How one prompt goes over into the next.",
)
OUTPUT = io.Conditioning.Output(tooltip="Conditioning with one entry for each frame.")


class OldPromptScheduling(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        max_length = io.Int.Input(
            "max_length",
            default=0,
            min=0,
            max=100000,
            optional=True,
            tooltip="Frames of the clip. 0 ends it with the last frame that has a prompt.",
        )
        inputs = [PROMPTS, CLIP, *AROUND, max_length, INTERPOLATION, *sockets.not_carried_over("values_replace")]
        return sockets.old_node("PromptScheduling", "Prompt Scheduling", DESCRIPTION, inputs, OUTPUT)

    @classmethod
    def execute(cls, prompts: str, clip, max_length: int = 0, **inputs) -> io.NodeOutput:
        prompts = as_prompt_schedule(prompts)
        return io.NodeOutput(scheduled(prompts, clip, max_length or last_frame(prompts) + 1, **inputs))


class OldPromptSchedulingLatents(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        latent = io.Latent.Input("latent", tooltip="The clip, whose number of frames counts.")
        inputs = [PROMPTS, CLIP, latent, *AROUND, INTERPOLATION, *sockets.not_carried_over("values_replace")]
        same = io.Latent.Output(tooltip="The same latent.")
        name = "Prompt Scheduling [Latents]"
        return sockets.old_node("PromptSchedulingLatents", name, DESCRIPTION, inputs, OUTPUT, same)

    @classmethod
    def execute(cls, prompts: str, clip, latent, **inputs) -> io.NodeOutput:
        frames = len(latent["samples"])
        return io.NodeOutput(scheduled(as_prompt_schedule(prompts), clip, frames, **inputs), latent)


def scheduled(
    prompts: str,
    clip,
    frames: int,
    prepend_text: str = "",
    append_text: str = "",
    tensor_interp: str = "lerp",
    **others,
) -> list:
    sockets.refuse(others)
    made = PromptSchedule.execute(
        clip, prompts, frames, prefix=prepend_text, suffix=append_text, interpolation=INTERPOLATIONS[tensor_interp]
    )
    return made.args[0]


def last_frame(prompts: str) -> int:
    """The last that has a prompt. ValueError if that depends on the length of the clip."""
    ends = [key.last for key in parse(prompts)]
    if any(end.relative or end.number < 0 for end in ends):
        raise ValueError(
            "Frames such as 0.5 or -1 depend on the length of the clip, and max_length is 0: set max_length to it."
        )
    return int(max(end.number for end in ends))
