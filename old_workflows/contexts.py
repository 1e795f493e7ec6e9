"""Context options of ComfyUI-AnimateDiff-Evolved, which become Sliding Context."""

from __future__ import annotations

from typing import Any

from .conversion import Conversion, described, within
from .enumerations import FUSES, SCHEDULES
from .graph import Node
from .motion_strength import plain_number

VIEWS_ONLY, EXTRAS = "ADE_ViewsOnlyContextOptions", "ADE_ContextExtras_Set"
REFERENCE, REUSE = "ADE_ContextExtras_ContextRef", "ADE_ContextExtras_NaiveReuse"
CHAINED = dict.fromkeys((*SCHEDULES, VIEWS_ONLY), "prev_context") | {EXTRAS: "context_opts"}
LINKED = "context_length context_overlap context_stride start_percent"


def sliding_contexts(c: Conversion, loader: Node, free_noise: bool) -> list[Node]:
    """Return Sliding Context for the old nodes behind a loader's `context_options`, in the order of their use."""
    nodes = c.chain(loader, "context_options", CHAINED)
    settings = {"free_noise": free_noise} | reference(c, nodes)
    return [sliding_context(c, node, settings) for node in reversed(nodes) if node.type != EXTRAS]


def reference(c: Conversion, nodes: list[Node]) -> dict[str, float]:
    """Return the setting of Sliding Context for a ContextRef among the extras of context options, nearest first."""
    extras = next((node for node in nodes if node.type == EXTRAS), None)
    if extras is None:
        return {}
    nodes = c.chain(extras, "context_extras", dict.fromkeys((REFERENCE, REUSE), "prev_extras"))
    for node in nodes:
        if node.type == REUSE:
            c.say(extras, f"{described(node)} is left out.")
    node = next((node for node in nodes if node.type == REFERENCE), None)
    return {} if node is None else {"reference": strength(c, node)}


def strength(c: Conversion, node: Node) -> float:
    start, end = node.values["start_percent"], node.values["end_percent"]
    if (start, end) != (0.0, 0.25):
        c.say(node, f"it works from 0 to 0.25 of the sampling, not from {start:g} to {end:g}.")
    multival = c.working(node, "strength_multival")
    number = 1.0 if multival is None else plain_number(multival.node)
    if number is None:
        c.say(node, "its strength becomes 1, since Sliding Context takes one for all frames.")
    return 1.0 if number is None else within(0.0, number, 1.0)


def sliding_context(c: Conversion, node: Node, settings: dict[str, Any]) -> Node:
    values = node.values
    if values["guarantee_steps"] not in (0, 1):
        c.say(node, f"guarantee_steps {values['guarantee_steps']} is left out; windows change at start_percent alone.")
    if node.type != VIEWS_ONLY:
        settings = settings | windows(c, node, SCHEDULES[node.type], values)
    elif (views := node.source("view_opts_req")) is not None and views.node.type in SCHEDULES:
        viewed = {name.replace("view", "context"): value for name, value in views.node.values.items()}
        inside = windows(c, views.node, SCHEDULES[views.node.type], viewed) | {"within": "motion module"}
        settings = settings | inside
    return c.place(node, "ADN_SlidingContext", settings, LINKED)


def legacy_windows(c: Conversion, node: Node, values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of Sliding Context for a node of 2023 that had windows of its own."""
    return windows(c, node, "looped", values | {"fuse_method": "flat"}) | {"free_noise": False}


def windows(c: Conversion, node: Node, schedule: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of Sliding Context for context or view options, of which those with no such widget lack
    some."""
    values = {"context_overlap": 4, "context_stride": 1, "fuse_method": "pyramid"} | values
    if schedule == "looped" and values["closed_loop"]:
        schedule = "closed loop"
    if schedule == "looped" and values.get("use_on_equal_length"):
        c.say(node, "use_on_equal_length is left out: a clip that fits into one window is not divided.")
    length = within(2, values["context_length"], 128)
    if length != values["context_length"]:
        c.say(node, f"context_length {values['context_length']} becomes {length}, the nearest possible.")
    if values["context_stride"] > 8:
        c.say(node, f"context_stride {values['context_stride']} becomes 8, the largest possible.")
    fuse = values["fuse_method"]
    if fuse not in FUSES:
        c.say(node, f'fuse_method "{fuse}" becomes "pyramid".')
    return {
        "context_length": length,
        "context_overlap": 0 if schedule == "batched" else within(0, values["context_overlap"], length - 1),
        "context_stride": 0 if schedule in ("static", "batched") else within(1, values["context_stride"], 8),
        "schedule": schedule,
        "fuse": fuse if fuse in FUSES else "pyramid",
    }
