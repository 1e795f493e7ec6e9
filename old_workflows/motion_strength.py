"""Multivals and keyframes of ComfyUI-AnimateDiff-Evolved: how strongly a motion module works, where and when."""

from __future__ import annotations

import re
from typing import Any

from .conversion import OFF, Conversion, called, first_output, is_off, within
from .graph import Node

NUMBER, MASKED, KEYFRAME = "ADE_MultivalDynamic", "ADE_MultivalScaledMask", "ADE_AnimateDiffKeyframe"
SCHEDULES = ("ADE_ValueScheduling", "ADE_ValueSchedulingLatents")
SETTINGS = {"strength": ("effect", "effect_multival"), "motion_scale": ("scale", "scale_multival")}
ENTRY = re.compile(r'"?\s*(-?[\d.]+)\s*(:?)\s*"?\s*[:=]\s*"?\(?(-?[\d.]+)\)?"?')


def motion_strength(c: Conversion, node: Node, apply: Node) -> dict[str, float]:
    """Settings of Apply AnimateDiff for an old node's multivals; what is more than a number is connected to `apply`
    by way of Motion Strength."""
    numbers, curves = {}, {}
    for setting, (name, multival) in SETTINGS.items():
        source = c.working(node, multival)
        if source is None:
            continue
        number = plain_number(c, source.node)
        if number is not None:
            numbers[setting] = clipped(c, source.node, number)
        elif (curve := curve_of(c, source.node)) is not None:
            curves[name] = curve
        else:
            c.say(node, f"{multival}, from {called(source.node)}, is left out.")
    previous = connect(c, apply, curves, None)
    connect(c, apply, over_sampling(c, node), previous)
    return numbers


def connect(c: Conversion, apply: Node, curves: dict[str, Node], previous: Node | None) -> Node | None:
    if not curves:
        return previous
    strength = c.beside(apply, "ADN_MotionStrength", {})
    for name, curve in curves.items():
        c.new.connect(first_output(curve), strength, name)
    if previous is not None:
        c.new.connect(first_output(previous), strength, "previous")
    c.new.connect(first_output(strength), apply, "motion_strength")
    return strength


def clipped(c: Conversion, node: Node, number: float) -> float:
    if not 0.0 <= number <= 10.0:
        c.say(node, f"{number} becomes {within(0.0, number, 10.0)}, which is as far as it goes.")
    return within(0.0, number, 10.0)


def plain_number(c: Conversion, node: Node) -> float | None:
    """Of a multival that is the same in all frames and places."""
    if node["type"] not in (NUMBER, "ADE_MultivalDynamicFloatInput", "ADE_MultivalDynamicFloats"):
        return None
    linked = any(c.old.source(node, name) is not None for name in ("mask_optional", "float_val", "floats"))
    return None if linked else float(c.read(node).get("float_val", 1.0))


def curve_of(c: Conversion, node: Node) -> Node | None:
    """A Motion Curve for a multival of masks, or of a number for each frame."""
    values = c.read(node)
    if node["type"] == MASKED:
        if values.get("scaling") == "relative":
            c.say(node, "scaling relative becomes absolute: black is the lower number and white the higher.")
        ends = {"low": values.get("min_float_val", 0.0), "high": values.get("max_float_val", 1.0)}
        linked = {"source": "mask", "low": "min_float_val", "high": "max_float_val"}
        return c.place(node, "ADN_MotionCurve", ends, linked)
    numbers = c.old.source(node, "float_val") or c.old.source(node, "floats")
    mask = c.old.source(node, "mask_optional")
    if mask is not None:
        if numbers is not None:
            c.say(node, f"the numbers from {called(numbers.node)} are left out; the mask is used alone.")
        ends = {"high": float(values.get("float_val", 1.0))}
        return c.place(node, "ADN_MotionCurve", ends, {"source": "mask_optional"})
    if numbers is None:
        return None
    if numbers.node["type"] in SCHEDULES:
        keyframes = value_schedule(c, numbers.node)
        return c.place(node, "ADN_MotionCurve", {"keyframes": keyframes}) if keyframes else None
    return c.place(node, "ADN_MotionCurve", {}, {"source": "floats" if c.old.source(node, "floats") else "float_val"})


def value_schedule(c: Conversion, node: Node) -> str | None:
    """Keyframes as Motion Curve reads them; None if there are some that it does not know."""
    text = str(c.read(node).get("values", ""))
    lines = []
    for entry in (part.strip() for part in re.split(r",|\n", text)):
        found = ENTRY.fullmatch(entry)
        if entry and (found is None or found[1].startswith("-")):
            c.say(node, f"{entry} is a keyframe that Motion Curve does not know; the schedule is left out.")
            return None
        if found is not None:
            position = f"{float(found[1]) * 100:g}%" if "." in found[1] else found[1]
            lines.append(f"{position}: {found[3]}{' hold' if found[2] else ''}")
    return "\n".join(lines) or None


def over_sampling(c: Conversion, node: Node) -> dict[str, Node]:
    """Motion Curves over the sampling, for effect and scale, from an old node's `ad_keyframes`."""
    keyframes, source = [], c.old.source(node, "ad_keyframes")
    while source is not None and source.node["type"] == KEYFRAME:
        if is_off(source.node, node):
            c.say(source.node, OFF)
        else:
            keyframes.append(source.node)
        source = c.old.source(source.node, "prev_ad_keyframes")
    if source is not None:
        c.say(node, f"ad_keyframes, from {called(source.node)}, is left out.")
    curves = {}
    for name, multival in SETTINGS.values():
        lines = sampling_lines(c, keyframes[::-1], multival)
        if lines:
            text = "\n".join(lines)
            curves[name] = c.place(keyframes[-1], "ADN_MotionCurve", {"keyframes": text, "over": "sampling"})
    return curves


def sampling_lines(c: Conversion, keyframes: list[Node], multival: str) -> list[str]:
    """Nothing if no keyframe sets that multival."""
    steps: dict[float, float] = {}
    current, used = 1.0, False
    for node in keyframes:
        values: dict[str, Any] = c.read(node, fixed=("start_percent",))
        if values.get("guarantee_steps", 1) not in (0, 1):
            c.say(node, f"guarantee_steps {values['guarantee_steps']} is left out.")
        c.leave_out(node, "prev_ad_keyframes", "scale_multival", "effect_multival", "start_percent")
        source = c.working(node, multival)
        number = plain_number(c, source.node) if source is not None else None
        if source is not None and number is None:
            c.say(node, f"{multival}, from {called(source.node)}, is left out: over the sampling it is a number.")
        if number is not None:
            current, used = clipped(c, node, number), True
        elif not values.get("inherit_missing", True):
            current = 1.0
        steps[float(values.get("start_percent", 0.0))] = current
    if not used:
        return []
    return [f"{start:g}: {value:g} hold" for start, value in sorted(({0.0: 1.0} | steps).items())]
