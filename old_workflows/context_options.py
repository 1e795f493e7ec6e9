"""Context options of ComfyUI-AnimateDiff-Evolved, which become Sliding Context."""

from __future__ import annotations

from typing import Any

from .conversion import Conversion, called, within
from .graph import Node

SCHEDULES = {
    "ADE_StandardStaticContextOptions": "static",
    "ADE_StandardUniformContextOptions": "uniform",
    "ADE_LoopedUniformContextOptions": "looped",
    "ADE_AnimateDiffUniformContextOptions": "looped",
    "ADE_BatchedContextOptions": "batched",
    "ADE_StandardStaticViewOptions": "static",
    "ADE_StandardUniformViewOptions": "uniform",
    "ADE_LoopedUniformViewOptions": "looped",
}
VIEWS_ONLY = "ADE_ViewsOnlyContextOptions"
EXTRAS = "ADE_ContextExtras_Set"
FUSES = ("flat", "pyramid", "relative", "overlap-linear")
LINKED = {name: name for name in ("context_length", "context_overlap", "context_stride", "start_percent")}


def context_nodes(c: Conversion, loader: Node) -> list[Node]:
    """The old nodes behind a loader's `context_options`, in the order in which they are used."""
    found, source = [], c.old.source(loader, "context_options")
    while source is not None:
        node = source.node
        if node["type"] == EXTRAS:
            c.leave_out(node, "context_opts")
            source = c.old.source(node, "context_opts")
        elif node["type"] in SCHEDULES or node["type"] == VIEWS_ONLY:
            found.append(node)
            source = c.old.source(node, "prev_context")
        else:
            c.say(loader, f"context_options, from {called(node)}, is left out.")
            break
    return found[::-1]


def sliding_contexts(c: Conversion, loader: Node, free_noise: bool) -> list[Node]:
    return [sliding_context(c, node, free_noise) for node in context_nodes(c, loader)]


def sliding_context(c: Conversion, node: Node, free_noise: bool) -> Node:
    values = c.read(node, fixed=("closed_loop", "fuse_method"))
    if values.get("guarantee_steps", 1) not in (0, 1):
        c.say(node, f"guarantee_steps {values['guarantee_steps']} is left out; windows change at start_percent alone.")
    c.leave_out(node, "prev_context", "view_opts", "view_opts_req", *LINKED, "closed_loop", "fuse_method")
    settings = {"free_noise": free_noise, "start_percent": values.get("start_percent", 0.0)}
    if node["type"] != VIEWS_ONLY:
        if (views := c.old.source(node, "view_opts")) is not None:
            c.say(
                node,
                f"view_opts, from {called(views.node)}, is left out: windows are around the whole UNet or within the "
                "motion module.",
            )
        return c.place(node, "ADN_SlidingContext", settings | windows(c, node, values), LINKED)
    views = c.old.source(node, "view_opts_req")
    if views is not None and views.node["type"] in SCHEDULES:
        viewed = {name.replace("view", "context"): value for name, value in c.read(views.node).items()}
        settings |= windows(c, views.node, viewed) | {"within": "motion module"}
    return c.place(node, "ADN_SlidingContext", settings, LINKED)


def windows(c: Conversion, node: Node, values: dict[str, Any]) -> dict[str, Any]:
    """Length, overlap, stride, schedule and fuse of context or view options."""
    schedule = SCHEDULES[node["type"]]
    if schedule == "looped" and values.get("closed_loop"):
        schedule = "closed loop"
    if schedule == "looped" and values.get("use_on_equal_length"):
        c.say(node, "use_on_equal_length is left out: a clip that fits into one window is not divided.")
    length = within(2, values.get("context_length", 16), 128)
    stride = 0 if schedule in ("static", "batched") else within(1, values.get("context_stride", 1), 8)
    if values.get("context_stride", 1) > 8:
        c.say(node, f"context_stride {values['context_stride']} becomes 8, which is as far as it goes.")
    # A node whose dropdown was never saved took the first entry; the legacy one says flat.
    fuse = values.get("fuse_method", "flat" if node["type"] == "ADE_AnimateDiffUniformContextOptions" else "pyramid")
    if fuse not in FUSES:
        c.say(node, f'fuse_method "{fuse}" becomes "pyramid".')
        fuse = "pyramid"
    return {
        "context_length": length,
        "context_overlap": 0 if schedule == "batched" else within(0, values.get("context_overlap", 4), length - 1),
        "context_stride": stride,
        "schedule": schedule,
        "fuse": fuse,
    }
