"""Multivals and keyframes of ComfyUI-AnimateDiff-Evolved: how strongly a motion module works, where and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .conversion import OFF, Conversion, called, within
from .graph import Node

NUMBER, MASKED = "ADE_MultivalDynamic", "ADE_MultivalScaledMask"
KEYFRAMES = ("ADE_AnimateDiffKeyframe", "ADE_CameraCtrlAnimateDiffKeyframe")
SCHEDULES = ("ADE_ValueScheduling", "ADE_ValueSchedulingLatents")
# Input of Apply AnimateDiff and of Motion Strength -> old input
SETTINGS = {"strength": "effect_multival", "motion_scale": "scale_multival"}
ENTRY = re.compile(r'(?:"\s*)?(-?[\d.]+)\s*(?:(:)\s*)?(?:"\s*)?[:=]\s*"?\(?(-?[\d.]+)\)?"?')


def motion_strength(c: Conversion, node: Node) -> dict[str, Any]:
    """Return inputs of Apply AnimateDiff for an old node's multivals: numbers, or Motion Strength with curves."""
    values = {setting: value_of(c, node, multival) for setting, multival in SETTINGS.items()}
    settings: dict[str, Any] = {setting: value for setting, value in values.items() if isinstance(value, float)}
    curves = {setting: value for setting, value in values.items() if isinstance(value, Node)}
    for nodes in (curves, over_sampling(c, node)):
        if nodes:
            values = nodes | {"previous": settings.get("motion_strength")}
            settings["motion_strength"] = c.beside(node, "ADN_MotionStrength", values)
    return settings


def value_of(c: Conversion, node: Node, multival: str) -> float | Node | None:
    """Return the number or the Motion Curve that an old node's multival becomes; None without one."""
    source = c.working(node, multival)
    if source is None:
        return None
    number = plain_number(source.node)
    value = curve_of(c, source.node) if number is None else clipped(c, source.node, number)
    if value is None:
        c.say(node, f"{multival}, from {called(source.node)}, is left out.")
    return value


def clipped(c: Conversion, node: Node, number: float) -> float:
    clipped = within(0.0, number, 10.0)
    if clipped != number:
        c.say(node, f"{number} becomes {clipped}, as far as it goes.")
    return clipped


def plain_number(node: Node) -> float | None:
    """Return the value of a multival that is the same in all frames and places."""
    links = [node[name] for name in ("mask_optional", "float_val", "floats")]
    if node.kind != NUMBER or any(links):
        return None
    return float(node.values["float_val"])


def curve_of(c: Conversion, node: Node) -> Node | None:
    """Return a Motion Curve for a multival of masks, or of a number for each frame."""
    if node.type == MASKED:
        if node.values["scaling"] == "relative":
            c.say(node, "scaling relative becomes absolute: black is the lower number and white the higher.")
        return c.place(node, "ADN_MotionCurve", {}, "source=mask low=min_float_val high=max_float_val")
    number, floats, mask = (node.source(name) for name in ("float_val", "floats", "mask_optional"))
    numbers = number or floats
    if mask is not None:
        if numbers is not None:
            c.say(node, f"the numbers from {called(numbers.node)} are left out; the mask is used alone.")
        high = {"high": float(node.values.get("float_val", 1.0))}
        return c.place(node, "ADN_MotionCurve", high, "source=mask_optional")
    if numbers is None:
        return None
    if numbers.node.type in SCHEDULES:
        keyframes = value_schedule(c, numbers.node)
        return c.place(node, "ADN_MotionCurve", {"keyframes": keyframes}) if keyframes else None
    return c.place(node, "ADN_MotionCurve", {"source": node["floats"] or node["float_val"]})


def value_schedule(c: Conversion, node: Node) -> str | None:
    """Return keyframes as Motion Curve reads them; None if there are some that it does not know."""
    lines = []
    for entry in (part.strip() for part in re.split(r",|\n", node.values["values"])):
        match = ENTRY.fullmatch(entry)
        if entry and (match is None or match[1].startswith("-")):
            c.say(node, f"{entry[:40]} is a keyframe that Motion Curve does not know; the schedule is left out.")
            return None
        if match is not None:
            position = f"{float(match[1]) * 100:g}%" if "." in match[1] else match[1]
            lines.append(f"{position}{' hold' if match[2] else ''}: {match[3]}")
    return "\n".join(lines) or None


def over_sampling(c: Conversion, node: Node, multivals: Mapping[str, str] = SETTINGS) -> dict[str, Node]:
    """Return Motion Curves over the sampling from an old node's `ad_keyframes`, for strength and motion scale, or what
    else `multivals` names."""
    keyframes = []
    for keyframe in reversed(c.chain(node, "ad_keyframes", dict.fromkeys(KEYFRAMES, "prev_ad_keyframes"))):
        if keyframe.is_off(node):
            c.say(keyframe, OFF)
        else:
            keyframes.append(keyframe)
    curves = {}
    for setting, multival in multivals.items():
        lines = sampling_lines(c, keyframes, multival)
        if lines:
            settings = {"keyframes": "\n".join(lines), "over": "sampling"}
            curves[setting] = c.place(keyframes[0], "ADN_MotionCurve", settings)
    return curves


def sampling_lines(c: Conversion, keyframes: list[Node], multival: str) -> list[str]:
    """Return the lines of Motion Curve for keyframes; none if no keyframe sets that multival."""
    values_by_start = {0.0: 1.0}
    current, used = 1.0, False
    for node in keyframes:
        values = node.values
        if values["guarantee_steps"] not in (0, 1):
            c.say(node, f"guarantee_steps {values['guarantee_steps']} is left out.")
        source = c.working(node, multival)
        number = plain_number(source.node) if source is not None else None
        if source is not None and number is None:
            c.say(node, f"{multival}, from {called(source.node)}, is left out: over the sampling it is a number.")
        if number is not None:
            current, used = clipped(c, node, number), True
        elif not values["inherit_missing"]:
            current = 1.0
        values_by_start[float(values["start_percent"])] = current
    return [f"{start:g} hold: {value:g}" for start, value in sorted(values_by_start.items())] if used else []
