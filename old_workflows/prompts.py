"""Prompts over time, of ComfyUI-AnimateDiff-Evolved and of FizzNodes, which become Prompt Schedule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .common_packs import CONSTANTS
from .conversion import Conversion, Rule
from .enumerations import INTERPOLATIONS
from .graph import PRIMITIVE, Node, Output, label
from .node_types import NODE_TYPES
from .prompt_ranges import as_prompt_schedule

ADE, ADE_LATENT = "ADE_PromptScheduling", "ADE_PromptSchedulingLatents"
FIZZ, FIZZ_LATENT = "BatchPromptSchedule", "BatchPromptScheduleLatentInput"
PROMPT = re.compile(r'(:\s*")((?:[^"\\]|\\.)*)(")')
NEGATIVE = "--neg"
TEXTS = (PRIMITIVE, "PrimitiveStringMultiline", *CONSTANTS)
AROUND = ("pre_text", "app_text")
WEIGHTS = ("pw_a", "pw_b", "pw_c", "pw_d")
VALUE = re.compile(r"`\s*(pw_[abcd])\s*`")
RELATIVE = re.compile(r'(?m)^[ \t]*(?:"[ \t]*)?(-\d|\d{0,9}\.\d)')


def scheduling(c: Conversion, node: Node) -> list[Node | Output | None]:
    values, text = node.values, as_prompt_schedule(node.values["prompts"])
    if "`" in text:
        c.say(node, "prompts holds values in backticks: write numbers, with a keyframe wherever they change.")
    interpolation = INTERPOLATIONS.get(values["tensor_interp"], "linear")
    settings = {"prompts": text, "frames": max(1, values.get("max_length", 16)), "interpolation": interpolation}
    linked = "clip latent prompts frames=max_length prefix=prepend_text suffix=append_text"
    schedule = c.place(node, "ADN_PromptSchedule", settings, linked)
    if node.type == ADE and (values["max_length"] == 0 or not RELATIVE.search(text)):
        c.without_frames.append(schedule)
    return [schedule, node["latent"]]


def batch_schedule(c: Conversion, node: Node) -> list[Node | Output | None]:
    values = dict(node.values)
    for name in ("start_frame", "end_frame"):
        if values[name]:
            c.say(node, f"{name} {values[name]} is left out.")
    text = with_weights(c, node)
    avoids = any(link.index == 1 and link.type == "CONDITIONING" for _, link in c.leads_to[node])
    settings: dict[str, Any] = {"frames": max(1, int(values.get("max_frames", 16)))}
    linked = "clip latent=num_latents prompts=text frames=max_frames"
    for new, old in zip(("prefix", "suffix"), AROUND, strict=True):
        if (source := node.source(old)) is None:
            continue
        text_behind = constant_text(source.node)
        if text_behind is not None and NEGATIVE in text_behind:
            values[old] = text_behind
            continue
        if text_behind is None and avoids:
            c.say(node, f"{old} is connected, so what it holds behind {NEGATIVE} is not split off.")
        linked, settings[new], values[old] = f"{linked} {new}={old}", "", ""
    schedules = [c.place(node, "ADN_PromptSchedule", settings | {"prompts": side(text, values, 0)}, linked)]
    if avoids:
        avoided = settings | {"prompts": side(text, values, 2)}
        schedules.append(c.place(node, "ADN_PromptSchedule", avoided, "clip latent=num_latents"))
    if node.type == FIZZ:
        c.without_frames += schedules
        return [*schedules]
    return [*schedules, *[None] * (len(node.outputs) - len(schedules) - 1), node["num_latents"]]


def constant_text(node: Node) -> str | None:
    """Return the text that a node always gives, if it is one of those for texts."""
    value = node.values.get("value") if node.type in CONSTANTS or node.type in NODE_TYPES else label(node)
    return value if isinstance(value, str) and not node.links and node.type in TEXTS else None


def side(text: str, values: dict[str, Any], index: int) -> str:
    """Return the prompts with what stands before (0) or behind (2) `--neg` in them and in the text around them, joined
    by blanks as FizzNodes does."""
    around = [values[name].replace('"', r"\"") for name in AROUND]

    def joined(match: re.Match[str]) -> str:
        parts = [part.partition(NEGATIVE)[index].strip() for part in (around[0], match[2], around[1])]
        return match[1] + " ".join(filter(None, parts)) + match[3]

    return PROMPT.sub(joined, text)


def with_weights(c: Conversion, node: Node) -> str:
    """Return the prompts with the numbers that stand for pw_a to pw_d, and say which other expressions are left."""
    linked, values = [name for name in WEIGHTS if node[name]], node.values
    text = VALUE.sub(lambda match: match[0] if match[1] in linked else f"{values[match[1]]:g}", values["text"])
    if "`" in text:
        c.say(node, "text holds expressions in backticks: write their values, with a keyframe wherever they change.")
    return text


RULES: Mapping[str, Rule] = {
    **dict.fromkeys((ADE, ADE_LATENT), scheduling),
    **dict.fromkeys((FIZZ, FIZZ_LATENT), batch_schedule),
}
