"""Advanced-ControlNet, which becomes ComfyUI's own ControlNet: Sliding Context gives each window its hints."""

from __future__ import annotations

from .conversion import BYPASSED, Conversion, called
from .graph import Node
from .old_nodes import is_old, name_of

LOADERS = {"ControlNetLoaderAdvanced": "ControlNetLoader", "DiffControlNetLoaderAdvanced": "DiffControlNetLoader"}
RANGE = {"strength": "strength", "start_percent": "start_percent", "end_percent": "end_percent"}
IMAGES = {"control_net": "control_net", "image": "image", "vae": "vae_optional"}


def convert_controlnets(c: Conversion) -> None:
    for node in c.of_type(*LOADERS):
        c.leave_out(node, "model", "control_net_name", "cnet")
        values = c.read(node)
        name = {"control_net_name": values.get("control_net_name", values.get("cnet", ""))}
        linked = {"model": "model", "control_net_name": "control_net_name"}
        c.place(node, LOADERS[name_of(node["type"])], name, linked, (0,))
    for node in c.of_type("ACN_AdvancedControlNetApply"):
        known = ("positive", "negative", "model_optional", *IMAGES.values(), *RANGE)
        c.leave_out(node, *known)
        c.pass_on(node, 2, "model_optional")
        linked = {"positive": "positive", "negative": "negative"} | IMAGES | RANGE
        placed = c.place(node, "ControlNetApplyAdvanced", settings(c, node), linked, (0, 1))
        switch_off_unsupported(c, node, placed)
    for node in c.of_type("ACN_AdvancedControlNetApplySingle"):
        c.leave_out(node, "conditioning", "model_optional", *IMAGES.values(), "strength")
        values = settings(c, node)
        if (values.get("start_percent", 0.0), values.get("end_percent", 1.0)) != (0.0, 1.0):
            c.say(node, "start_percent and end_percent are left out: use Apply ControlNet with both prompts for them.")
        c.pass_on(node, 1, "model_optional")
        linked = {name: name for name in ("conditioning", "control_net", "image", "strength")}
        switch_off_unsupported(c, node, c.place(node, "ControlNetApply", values, linked, (0,)))


def settings(c: Conversion, node: Node) -> dict[str, float]:
    return {name: value for name, value in c.read(node).items() if name in RANGE}


def switch_off_unsupported(c: Conversion, node: Node, placed: Node) -> None:
    """A ControlNet that comes from a node without a counterpart, such as SparseCtrl's, is bypassed."""
    source = c.old.source(node, "control_net")
    if source is not None and is_old(source.node["type"]) and name_of(source.node["type"]) not in LOADERS:
        c.say(node, f"it is bypassed, since {called(source.node)} has no counterpart.")
        placed["mode"] = placed["mode"] or BYPASSED
