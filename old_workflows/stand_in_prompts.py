"""Touches comfy. Prompt Scheduling of old workflows: Prompt Schedule, with the spellings that it does not know."""

from __future__ import annotations

from comfy_api.latest import io

from ..nodes.prompt_schedule import PromptSchedule
from ..sampling.prompt_schedule import parse
from .enumerations import INTERPOLATIONS
from .inputs import INPUTS
from .prompt_ranges import as_prompt_schedule


def schedule(prompts: str, clip, max_length: int = 0, **inputs) -> list:
    prompts = as_prompt_schedule(prompts)
    return encoded(prompts, clip, max_length or last_frame(prompts) + 1, **inputs)


def schedule_latent(prompts: str, clip, latent, **inputs) -> io.NodeOutput:
    return io.NodeOutput(encoded(as_prompt_schedule(prompts), clip, len(latent["samples"]), **inputs), latent)


def encoded(
    prompts: str, clip, frames: int, prepend_text: str = "", append_text: str = "", tensor_interp: str = "lerp"
) -> list:
    output = PromptSchedule.execute(
        clip,
        prompts,
        frames,
        prefix=prepend_text,
        suffix=append_text,
        interpolation=INTERPOLATIONS[tensor_interp],
    )
    return output.args[0]


def last_frame(prompts: str) -> int:
    """Return the last frame that has a prompt. Raises ValueError if that depends on the length of the clip, or lies
    beyond the longest one."""
    keys, longest = parse(prompts), INPUTS["max_length"].settings["max"]
    ends = [key.last for key in keys]
    for key in keys:
        if key.last.number >= longest:
            raise key.place.error(f"this frame lies beyond the {longest} that a clip can have: write a smaller one.")
    if any(end.relative or end.number < 0 for end in ends):
        raise ValueError(
            "Frames such as 0.5 or -1 depend on the length of the clip: set max_length to the number of frames."
        )
    return int(max(end.number for end in ends))
