"""A workflow for other AnimateDiff packs, rewritten for this one and for ComfyUI's own nodes. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .animatediff_evolved import convert_loaders
from .controlnets import convert_controlnets
from .conversion import BYPASSED, ROUTES, Conversion, first_output
from .graph import Node
from .old_nodes import is_old, name_of
from .prompts import convert_prompts
from .videos import convert_videos


class Same(NamedTuple):
    """A node that has a counterpart: of what type, and from which old inputs and widgets its own come."""

    kind: str
    inputs: Mapping[str, str] = {}
    widgets: Mapping[str, str] = {}
    outputs: Sequence[int] = (0,)


SIZE = {"width": "width", "height": "height", "batch_size": "batch_size"}
SAME = {
    "ADE_EmptyLatentImageLarge": Same("EmptyLatentImage", {}, SIZE),
    "CheckpointLoaderSimpleWithNoiseSelect": Same("CheckpointLoaderSimple", {}, {"ckpt_name": "ckpt_name"}, (0, 1, 2)),
    "VHS_DuplicateLatents": Same("RepeatLatentBatch", {"samples": "latents"}, {"amount": "multiply_by"}),
    "VHS_DuplicateImages": Same("RepeatImageBatch", {"image": "images"}, {"amount": "multiply_by"}),
}
ORDINARY = ("linear (HotshotXL/default)", "linear (default)", "autoselect", "use existing")


def convert(workflow: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The rewritten workflow, and a sentence for each thing that it could not carry over.

    `workflow` is as ComfyUI's page saves it and is not changed. ValueError, in one sentence, if it is something else.
    """
    c = Conversion(workflow)
    for step in STEPS:
        step(c)
    remove_unused(c)
    tell_of_the_rest(c)
    return c.new.saved(), c.lost


def convert_same(c: Conversion) -> None:
    for node in c.of_type(*SAME):
        same, values = SAME[node["type"]], c.read(node)
        if node["type"] == "CheckpointLoaderSimpleWithNoiseSelect":
            checkpoint_settings(c, node, values)
        settings = {new: values[old] for new, old in same.widgets.items() if old in values}
        if settings.get("batch_size", 1) > 4096:
            c.say(node, f"batch_size {settings['batch_size']} becomes 4096, which is as far as it goes.")
            settings["batch_size"] = 4096
        c.place(node, same.kind, settings, {**same.inputs, **same.widgets}, same.outputs)
    for type, name in (("ADE_AnimateDiffUnload", "model"), ("ADE_FloatToFloats", "FLOAT")):
        for node in c.of_type(type):
            c.pass_on(node, 0, name)
            c.new.remove(c.new.nodes[node["id"]])


def checkpoint_settings(c: Conversion, node: Node, values: dict[str, Any]) -> None:
    animated = any(each["type"] == "ADN_ApplyAnimateDiff" for each in c.new.nodes.values())  # which sets its own
    if not animated and values.get("beta_schedule", ORDINARY[0]) not in ORDINARY:
        c.say(node, f'beta_schedule "{values["beta_schedule"]}" is left out.')
    if values.get("use_custom_scale_factor"):
        c.say(node, "scale_factor is left out.")


def convert_upscaling(c: Conversion) -> None:
    """An image is scaled to the size of a latent, and encoded."""
    for node in c.of_type("ADE_UpscaleAndVAEEncode"):
        values, latent = c.read(node), c.old.source(node, "latent_size")
        c.leave_out(node, "image", "vae", "latent_size")
        size = {"width": 512, "height": 512}
        if latent is not None and name_of(latent.node["type"]) in ("EmptyLatentImage", "ADE_EmptyLatentImageLarge"):
            size = dict(zip(("width", "height"), latent.node.get("widgets_values") or [], strict=False))
        else:
            c.say(node, "the size of its latent is not known before it runs: set width and height of Upscale Image.")
        method = {"upscale_method": values.get("scale_method", "lanczos"), "crop": values.get("crop", "disabled")}
        scale = c.beside(node, "ImageScale", size | method, left=True)
        c.carry(node, "image", scale, "image")
        encode = c.place(node, "VAEEncode", {}, {"vae": "vae"}, (0,))
        c.new.connect(first_output(scale), encode, "pixels")


def remove_unused(c: Conversion) -> None:
    """Old nodes that only set up what has been rewritten, with the Reroutes and Primitives that led to it."""
    while unused := [node for node in c.new.nodes.values() if removable(c, node)]:
        for node in unused:
            c.new.remove(node)


def removable(c: Conversion, node: Node) -> bool:
    led_on = node["id"] in c.old.nodes and c.old.links_from(c.old.nodes[node["id"]])
    mine = is_old(node["type"]) or node["type"] in ROUTES
    return bool(mine and led_on and not c.new.links_from(node))


def tell_of_the_rest(c: Conversion) -> None:
    for node in c.new.nodes.values():
        if is_old(node["type"]):
            node["mode"] = node.get("mode", 0) or BYPASSED
            c.say(node, "it has no counterpart, and is left as it is, bypassed.")
    for name, group in ((c.new.workflow.get("extra") or {}).get("groupNodes") or {}).items():
        if any(is_old(node["type"]) for node in group.get("nodes") or []):
            c.lost.append(
                f"Group node {name}: it holds old nodes and is left as it is; convert it to nodes in ComfyUI, save, "
                "convert again."
            )
    for subgraph in (c.new.workflow.get("definitions") or {}).get("subgraphs") or []:
        if any(is_old(node["type"]) for node in subgraph.get("nodes") or []):
            name = subgraph.get("name", subgraph.get("id"))
            c.lost.append(
                f"Subgraph {name}: it holds old nodes and is left as it is; unpack it in ComfyUI, save, convert again."
            )


STEPS = (convert_loaders, convert_same, convert_upscaling, convert_controlnets, convert_videos, convert_prompts)
