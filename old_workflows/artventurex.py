"""Nodes of the first ComfyUI pack for AnimateDiff, by ArtVentureX, whose sampler applied the motion module."""

from __future__ import annotations

from collections.abc import Mapping

from .animatediff_evolved import module_of, motion_loras
from .contexts import legacy_windows
from .conversion import Conversion, Rule, called
from .graph import Node, Output
from .old_nodes import OLD_NODES

LOADER, OPTIONS = "AnimateDiffModuleLoader", "AnimateDiffSlidingWindowOptions"
SAMPLED = "seed control_after_generate steps cfg sampler_name scheduler denoise positive negative"


def sampler(c: Conversion, node: Node) -> list[Node]:
    module, options = (node.source(name) for name in ("motion_module", "sliding_window_opts"))
    settings = {"beta_schedule": "AnimateDiff SD1.5", "model": node["model"]}
    if module is not None and module.node.type == LOADER:
        settings["motion_module"] = motion_loras(c, module.node, module_of(c, module.node), "lora_stack")
    else:
        c.say(node, "its motion module is left out: connect Load Motion Module.")
    model = c.beside(node, "ADN_ApplyAnimateDiff", settings, left=True)
    if node["frame_number"] or node.values["frame_number"] > 16 or options:
        model = slid(c, node, options.node if options else None).set({"model": model})
    return [c.place(node, "KSampler", {"model": model, "latent_image": repeated_latent(c, node)}, SAMPLED)]


def slid(c: Conversion, node: Node, options: Node | None) -> Node:
    """Return the windows that the sampler used for more frames than fit into one."""
    if options is not None and options.type == OPTIONS:
        sliding = c.place(options, "ADN_SlidingContext", legacy_windows(c, node, options.values))
        sliding.mode = node.mode
        return sliding
    if options is not None:
        c.say(node, f"sliding_window_opts, from {called(options)}, is left out.")
    return c.beside(node, "ADN_SlidingContext", legacy_windows(c, node, OLD_NODES[OPTIONS].values(None)))


def repeated_latent(c: Conversion, node: Node) -> Output | Node | None:
    """Make as many frames of an empty latent as the old sampler did, which repeated the last one."""
    frames, linked = node.values["frame_number"], node["frame_number"]
    latent, source = node["latent_image"], node.source("latent_image")
    if source is None:
        return latent
    empty = source.node.type == "EmptyLatentImage" and "batch_size" not in source.node.links
    size = int(source.node.values.get("batch_size", 0)) if empty else 0
    if size == 1 or (size and linked is None and size < frames and frames % size == 0):
        values = {"amount": frames // size, "samples": latent}
        return c.beside(node, "RepeatLatentBatch", values, left=True).set({"amount": linked})
    if not size or size < frames:
        c.say(node, f"frame_number {frames} is left out: the clip has as many frames as its latent.")
    return latent


RULES: Mapping[str, Rule] = {"AnimateDiffSampler": sampler}
