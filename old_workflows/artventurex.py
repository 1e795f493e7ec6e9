"""Nodes of the first ComfyUI pack for AnimateDiff, by ArtVentureX, whose sampler applied the motion module."""

from __future__ import annotations

from .animatediff_evolved import motion_loras
from .contexts import windows
from .conversion import Conversion, called, first_output
from .graph import Node, Output

SAMPLER, LOADER = "AnimateDiffSampler", "AnimateDiffModuleLoader"
OPTIONS, LEGACY = "AnimateDiffSlidingWindowOptions", "ADE_AnimateDiffUniformContextOptions"
SAMPLED = ("seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler", "denoise")


def convert_first_pack(c: Conversion) -> None:
    for node in c.of_type(SAMPLER):
        frames = c.link(node, "frame_number")
        linked = {name: name for name in (*SAMPLED, "model", "positive", "negative", "latent_image")}
        sampler = c.place(node, "KSampler", {}, linked, (0,))
        apply = c.beside(node, "ADN_ApplyAnimateDiff", {"beta_schedule": "AnimateDiff SD1.5"}, left=True)
        model = c.new.link_into(sampler, "model")
        if model is not None:
            c.new.connect(model.source, apply, "model")
        source = c.source(node, "motion_module")
        if source is not None and source.node["type"] == LOADER:
            c.new.connect(module_of(c, source.node), apply, "motion_module")
        else:
            c.say(node, "its motion module is left out: connect Load Motion Module.")
        model = first_output(apply)
        if frames is not None or c.values(node)["frame_number"] > 16 or c.source(node, "sliding_window_opts"):
            model = slid(c, node, model)
        c.new.connect(model, sampler, "model")
        repeat_latent(c, node, sampler, frames.source if frames else None)


def module_of(c: Conversion, node: Node) -> Output:
    """Return the motion module of an old loader with its LoRAs; it may serve several samplers."""
    if node["id"] not in c.placed:
        c.place(node, "ADN_LoadMotionModule", {}, {"motion_module": "model_name"})
    return motion_loras(c, node, first_output(c.placed[node["id"]]), "lora_stack")


def slid(c: Conversion, node: Node, model: Output) -> Output:
    """Return the model with the windows that the sampler used for more frames than fit into one."""
    source = c.source(node, "sliding_window_opts")
    values = {"context_length": 16, "context_stride": 1, "context_overlap": 4, "closed_loop": False}
    if source is not None and source.node["type"] == OPTIONS:
        values = c.values(source.node)
    elif source is not None:
        c.say(node, f"sliding_window_opts, from {called(source.node)}, is left out.")
    legacy = {**node, "type": LEGACY}
    settings = windows(c, legacy, values | {"fuse_method": "flat"}) | {"free_noise": False}
    options = source.node if source is not None and source.node["type"] == OPTIONS else None
    sliding = (
        c.place(options, "ADN_SlidingContext", settings) if options else c.beside(node, "ADN_SlidingContext", settings)
    )
    sliding["mode"] = node["mode"]
    c.new.connect(model, sliding, "model")
    return first_output(sliding)


def repeat_latent(c: Conversion, node: Node, sampler: Node, linked: Output | None) -> None:
    """Make as many frames of an empty latent as the old sampler did, which repeated the last one."""
    frames, latent = c.values(node)["frame_number"], c.source(node, "latent_image")
    link = c.new.link_into(sampler, "latent_image")
    if latent is None or link is None:
        return
    empty = latent.node["type"] == "EmptyLatentImage" and c.old.source(latent.node, "batch_size") is None
    size = int((latent.node.get("widgets_values") or [0, 0, 0])[2]) if empty else 0
    if size == 1 or (size and linked is None and size < frames and frames % size == 0):
        repeat = c.beside(node, "RepeatLatentBatch", {"amount": frames // size}, left=True)
        c.new.connect(link.source, repeat, "samples")
        if linked is not None:
            c.new.connect(linked, repeat, "amount")
        c.new.connect(first_output(repeat), sampler, "latent_image")
    elif not size or size < frames:
        c.say(node, f"frame_number {frames} is left out: the clip has as many frames as its latent.")
