"""Prompts over time, of ComfyUI-AnimateDiff-Evolved and of FizzNodes, which become Prompt Schedule."""

from __future__ import annotations

import re
from typing import Any

from .conversion import Conversion, first_output
from .enumerations import INTERPOLATIONS
from .graph import Node, Output
from .prompt_ranges import as_prompt_schedule

ADE, ADE_LATENT = "ADE_PromptScheduling", "ADE_PromptSchedulingLatents"
FIZZ, FIZZ_LATENT = "BatchPromptSchedule", "BatchPromptScheduleLatentInput"
PROMPT = re.compile(r'(:\s*")((?:[^"\\]|\\.)*)(")')
NEGATIVE = "--neg"
AROUND = ("pre_text", "app_text")
WEIGHTS = ("pw_a", "pw_b", "pw_c", "pw_d")
VALUE = re.compile(r"`\s*(pw_[abcd])\s*`")
RELATIVE = re.compile(r'(?m)^[ \t]*(?:"[ \t]*)?(-\d|\d{0,9}\.\d)')


def convert_prompts(c: Conversion) -> None:
    for node in c.of_type(ADE, ADE_LATENT):
        scheduling(c, node)
    for node in c.of_type(FIZZ, FIZZ_LATENT):
        batch_schedule(c, node)


def scheduling(c: Conversion, node: Node) -> None:
    values = c.values(node)
    text = as_prompt_schedule(values["prompts"])
    if "`" in text:
        c.say(node, "prompts holds values in backticks: write numbers, with a keyframe wherever they change.")
    interpolation = INTERPOLATIONS.get(values["tensor_interp"], "linear")
    settings = {"prompts": text, "frames": max(1, values.get("max_length", 16)), "interpolation": interpolation}
    linked = {"clip": "clip", "latent": "latent", "prompts": "prompts", "frames": "max_length"}
    linked |= {"prefix": "prepend_text", "suffix": "append_text"}
    if node["type"] == ADE_LATENT:
        c.pass_on(node, 1, "latent")
    schedule = c.place(node, "ADN_PromptSchedule", settings, linked, (0,))
    if node["type"] == ADE and (values["max_length"] == 0 or not RELATIVE.search(text)):
        frames_of_the_clip(c, schedule)


def batch_schedule(c: Conversion, node: Node) -> None:
    values = c.values(node)
    for name in ("start_frame", "end_frame"):
        if values[name]:
            c.say(node, f"{name} {values[name]} is left out.")
    text = with_weights(c, node, values)
    settings: dict[str, Any] = {"frames": max(1, int(values.get("max_frames", 16)))}
    linked = {"clip": "clip", "latent": "num_latents", "prompts": "text", "frames": "max_frames"}
    for new, old in (("prefix", AROUND[0]), ("suffix", AROUND[1])):
        if c.source(node, old) is not None:
            linked[new], settings[new], values[old] = old, "", ""
    outputs = node.get("outputs") or []
    with_negative = len(outputs) > 1 and outputs[1]["type"] == "CONDITIONING"
    avoided = c.take_off(node, 1) if with_negative else []
    if node["type"] == FIZZ_LATENT:
        c.pass_on(node, len(outputs) - 1, "num_latents")
    schedules = [c.place(node, "ADN_PromptSchedule", settings | {"prompts": side(text, values, 0)}, linked, (0,))]
    if avoided:
        below = settings | {"prompts": side(text, values, 2)}
        schedules.append(c.place(node, "ADN_PromptSchedule", below, {"clip": "clip", "latent": "num_latents"}))
        c.put_back(avoided, first_output(schedules[1]))
    if node["type"] == FIZZ:
        for schedule in schedules:
            frames_of_the_clip(c, schedule)


def side(text: str, values: dict[str, Any], index: int) -> str:
    """Return the prompts with what stands before (0) or behind (2) `--neg` in them and in the text around them, joined
    by blanks as FizzNodes does."""
    around = [values[name].replace('"', r"\"") for name in AROUND]

    def joined(match: re.Match[str]) -> str:
        parts = [part.partition(NEGATIVE)[index].strip() for part in (around[0], match[2], around[1])]
        return match[1] + " ".join(filter(None, parts)) + match[3]

    return PROMPT.sub(joined, text)


def with_weights(c: Conversion, node: Node, values: dict[str, Any]) -> str:
    """Return the prompts with the numbers that stand for pw_a to pw_d, and say which other expressions are left."""
    linked = [name for name in WEIGHTS if c.source(node, name) is not None]
    text = VALUE.sub(lambda match: match[0] if match[1] in linked else f"{values[match[1]]:g}", values["text"])
    if "`" in text:
        c.say(node, "text holds expressions in backticks: write their values, with a keyframe wherever they change.")
    return text


def frames_of_the_clip(c: Conversion, schedule: Node) -> None:
    """Connect the latent that the sampler behind the schedule begins with: its number of frames counts."""
    if c.new.link_into(schedule, "latent") is not None:
        return
    for passing in c.new.walk(schedule, onward=True, types=("CONDITIONING", "*", "GUIDER")):
        for name in ("latent_image", "latent", "latent_opt", "optional_latent"):
            link = c.new.link_into(passing.target, name)
            if link is not None and not comes_from(c, link.source, schedule):
                c.new.connect(link.source, schedule, "latent")
                return


def comes_from(c: Conversion, output: Output, node: Node) -> bool:
    """Return whether an output depends on a node."""
    return output.node is node or any(link.source.node is node for link in c.new.walk(output.node, onward=False))
