"""Prompts over time, of ComfyUI-AnimateDiff-Evolved and of FizzNodes, which become Prompt Schedule."""

from __future__ import annotations

import re
from typing import Any

from .conversion import Conversion, first_output
from .graph import Link, Node, Output
from .prompt_ranges import as_prompt_schedule

ADE = ("ADE_PromptScheduling", "ADE_PromptSchedulingLatents")
FIZZ = ("BatchPromptSchedule", "BatchPromptScheduleLatentInput")
INTERPOLATIONS = {"lerp": "linear", "slerp": "slerp"}
PROMPT = re.compile(r'(:\s*")((?:[^"\\]|\\.)*)(")')
NEGATIVE = "--neg"
VALUE = re.compile(r"`\s*(pw_[abcd])\s*`")
RELATIVE = re.compile(r'(?m)^\s*"?\s*(-\d|\d*\.\d)')


def convert_prompts(c: Conversion) -> None:
    for node in c.of_type(*ADE):
        scheduling(c, node)
    for node in c.of_type(*FIZZ):
        batch_schedule(c, node)


def scheduling(c: Conversion, node: Node) -> None:
    values = c.read(node, fixed=("tensor_interp",))
    c.leave_out(node, "prompts", "clip", "latent", "prepend_text", "append_text", "max_length", "tensor_interp")
    text = as_prompt_schedule(str(values.get("prompts", "")))
    if "`" in text:
        c.say(node, "prompts holds values in backticks: write numbers, with a keyframe wherever they change.")
    interpolation = INTERPOLATIONS.get(values.get("tensor_interp", "lerp"), "linear")
    settings = {"prompts": text, "frames": max(1, values.get("max_length", 16)), "interpolation": interpolation}
    linked = {"clip": "clip", "latent": "latent", "prompts": "prompts", "frames": "max_length"}
    linked |= {"prefix": "prepend_text", "suffix": "append_text"}
    if node["type"] == ADE[1]:
        c.pass_on(node, 1, "latent")
    schedule = c.place(node, "ADN_PromptSchedule", settings, linked, (0,))
    if node["type"] == ADE[0] and (values.get("max_length", 0) == 0 or not RELATIVE.search(text)):
        frames_of_the_clip(c, schedule)


def batch_schedule(c: Conversion, node: Node) -> None:
    values = c.read(node)
    known = ("text", "clip", "max_frames", "num_latents", "pre_text", "app_text")
    c.leave_out(node, *known)
    for name in ("start_frame", "end_frame"):
        if values.get(name):
            c.say(node, f"{name} {values[name]} is left out.")
    text = with_values(c, node, str(values.get("text", "")), values)
    settings: dict[str, Any] = {"frames": max(1, int(values.get("max_frames", 16)))}
    settings |= {new: words(values.get(old)) for new, old in (("prefix", "pre_text"), ("suffix", "app_text"))}
    linked = {"clip": "clip", "latent": "num_latents", "prompts": "text", "frames": "max_frames"}
    linked |= {"prefix": "pre_text", "suffix": "app_text"}
    avoided = negative_links(c, node)
    if node["type"] == FIZZ[1]:
        c.pass_on(node, len(node["outputs"]) - 1, "num_latents")
    schedules = [c.place(node, "ADN_PromptSchedule", settings | {"prompts": positive(text)}, linked, (0,))]
    if avoided:
        below = settings | {"prompts": negative(text), "prefix": "", "suffix": ""}
        schedules.append(c.place(node, "ADN_PromptSchedule", below, {"clip": "clip", "latent": "latent"}))
        c.new.links += avoided
        c.new.redirect(avoided, first_output(schedules[1]))
    if node["type"] == FIZZ[0]:
        for schedule in schedules:
            frames_of_the_clip(c, schedule)


def words(value: Any) -> str:
    """A text; versions of the node have saved other widgets' numbers in its place."""
    return value if isinstance(value, str) else ""


def negative_links(c: Conversion, node: Node) -> list[Link]:
    """What its second output, NEG, led to; taken off the graph."""
    outputs = node.get("outputs") or []
    if len(outputs) < 2 or outputs[1]["type"] != "CONDITIONING":
        return []
    links = c.new.links_from(c.new.nodes[node["id"]], 1)
    c.new.redirect(links, None)
    return links


def positive(text: str) -> str:
    return PROMPT.sub(lambda found: found[1] + found[2].split(NEGATIVE)[0].rstrip(" ,") + found[3], text)


def negative(text: str) -> str:
    return PROMPT.sub(lambda found: found[1] + found[2].partition(NEGATIVE)[2].strip(" ,") + found[3], text)


def with_values(c: Conversion, node: Node, text: str, values: dict[str, Any]) -> str:
    """The prompts with the numbers that stand for pw_a to pw_d; other expressions are said to be left."""
    linked = [name for name in ("pw_a", "pw_b", "pw_c", "pw_d") if c.old.link_into(node, name) is not None]
    text = VALUE.sub(lambda found: found[0] if found[1] in linked else f"{values.get(found[1], 0):g}", text)
    if "`" in text:
        c.say(node, "text holds expressions in backticks: write their values, with a keyframe wherever they change.")
    return text


def frames_of_the_clip(c: Conversion, schedule: Node) -> None:
    """Connect the latent that the sampler behind the schedule begins with: its number of frames counts."""
    if c.new.link_into(schedule, "latent") is not None:
        return
    waiting, seen = [schedule], []
    while waiting:
        node = waiting.pop(0)
        seen.append(node["id"])
        for name in ("latent_image", "latent", "latent_opt", "optional_latent"):
            link = c.new.link_into(node, name)
            if node is not schedule and link is not None and not comes_from(c, link.source, schedule):
                c.new.connect(link.source, schedule, "latent")
                return
        leaving = c.new.links_from(node)
        passing = (link.target for link in leaving if link.type in ("CONDITIONING", "*", "GUIDER"))
        waiting += [target for target in passing if target["id"] not in seen]


def comes_from(c: Conversion, output: Output, node: Node) -> bool:
    """Whether what an output gives depends on a node."""
    waiting, seen = [output.node], []
    while waiting:
        each = waiting.pop()
        if each is node:
            return True
        seen.append(each["id"])
        sources = (link.source.node for link in c.new.links if link.target is each)
        waiting += [source for source in sources if source["id"] not in seen]
    return False
