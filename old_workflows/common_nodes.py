"""Nodes of common packs that have counterparts in ComfyUI: numbers, text, LoRA stacks, sizes, lists. Needs no ComfyUI.

Those with one counterpart are rows in `rewrites.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .conversion import Conversion, first_output, within
from .graph import Node, Output
from .old_nodes import CONSTANTS, INTERPOLATIONS, LORA_LOADERS, PAGE_ONLY

JOINED = {"Text Concatenate": ("text_a", "text_b", "text_c", "text_d"), "CR Text Concatenate": ("text1", "text2")}
FITTED = "keep proportion"


def convert_common(c: Conversion) -> None:
    for node in c.of_type(*CONSTANTS):
        constant(c, node)
    for node in c.of_type(*JOINED):
        joined_texts(c, node)
    for node in c.of_type(*LORA_LOADERS):
        loras(c, node)
    for node in c.of_type(*INTERPOLATIONS):
        interpolation(c, node)
    for node in c.of_type("ImpactMakeImageBatch"):
        joined_images(c, node)
    for node in c.of_type("ImageResize+", "Image Resize"):
        resized(c, node)
    for node in c.of_type(*PAGE_ONLY):
        c.say(node, "it only served the page, and is removed.")
        c.new.remove(c.new.nodes[node["id"]])


def constant(c: Conversion, node: Node) -> None:
    """Rewrite a number or text, or a seed, for which -1 meant a new one each time."""
    kind, value = CONSTANTS[node["type"]], c.values(node)["value"]
    settings: dict[str, Any] = {"value": value}
    if kind == "PrimitiveInt":
        settings["control_after_generate"] = after_generate(node)
        if value == -1 and "rgthree" in node["type"]:
            settings = {"value": 0, "control_after_generate": "randomize"}
    linked = {"value": "string"} if node["type"] == "String to Text" else {}
    output = 3 if node["type"] == "Seed" and len(node["outputs"]) == 4 else 0  # behind those of other types
    c.place(node, kind, settings, linked, (output,))


def after_generate(node: Node) -> str:
    """Return what happens to a number after each run, which the page saves behind it."""
    saved = node.get("widgets_values")
    return saved[1] if isinstance(saved, list) and len(saved) > 1 and isinstance(saved[1], str) else "fixed"


def joined_texts(c: Conversion, node: Node) -> None:
    """Rewrite a node that joins several texts as a chain of nodes that join two."""
    values, names = c.values(node), JOINED[node["type"]]
    sources = [(c.source(node, name), values[name]) for name in names]
    joined = [(source, text) for source, text in sources if source or text]
    joined += [(None, "")] * (2 - len(joined))
    leaving = c.take_off(node, 0)
    first, text = joined[0]
    for index, (second, following) in enumerate(joined[1:]):
        settings = {"string_a": text, "string_b": following, "delimiter": values["delimiter"]}
        join = (
            c.place(node, "StringConcatenate", settings) if not index else c.beside(node, "StringConcatenate", settings)
        )
        for name, source in (("string_a", first), ("string_b", second)):
            if source is not None:
                c.new.connect(source, join, name)
        first, text = first_output(join), ""
    c.put_back(leaving, first)


def joined_images(c: Conversion, node: Node) -> None:
    """Rewrite a node that joins several images as a chain of nodes that join two."""
    links = [c.link(node, socket["name"]) for socket in node["inputs"]]
    sources = [link.source for link in links if link is not None]
    leaving, first = c.take_off(node, 0), sources[0] if sources else None
    for second in sources[1:]:
        join = c.place(node, "ImageBatch", {}) if first is sources[0] else c.beside(node, "ImageBatch", {})
        assert first is not None
        c.new.connect(first, join, "image1")
        c.new.connect(second, join, "image2")
        first = first_output(join)
    c.put_back(leaving, first)
    if len(sources) < 2:
        c.new.remove(c.new.nodes[node["id"]])


def stacked(node: Node) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, strength and CLIP strength of the LoRAs that a node of any of the packs holds."""
    saved = node.get("widgets_values") or []
    values = list(saved.values()) if isinstance(saved, dict) else list(saved)
    switch, size = LORA_LOADERS[node["type"]]
    if node["type"] == "Power Lora Loader (rgthree)":
        on = [value for value in values if isinstance(value, dict) and value.get("on")]
        rows = [(value.get("lora"), value.get("strength"), value.get("strengthTwo")) for value in on]
    elif node["type"] == "LoRA Stacker":
        simple, count = values[:1] == ["simple"], values[1]
        groups = [values[at : at + 4] for at in range(2, len(values), 4)]
        rows = [(group[0], *(group[1:2] * 2 if simple else group[2:4])) for group in groups[:count] if len(group) == 4]
    else:
        groups = [values[at : at + size] for at in range(0, len(values) - size + 1, size)]
        rows = [group[switch:] for group in groups if not switch or group[0] in ("On", True)]
    for name, strength, *clip_strength in rows:
        name = name.get("content") if isinstance(name, dict) else name
        if name and name != "None":
            yield name, strength, clip_strength[0] if clip_strength and clip_strength[0] is not None else strength


STACKS = ("CR LoRA Stack", "LoRA Stacker")


def loras(c: Conversion, node: Node) -> None:
    """Rewrite a node that applies LoRAs as a chain of Load LoRA; stacks are read where they are applied."""
    c.read.add(node["id"])
    if node["type"] in STACKS:
        return
    stacks = [node, *c.chain(node, "lora_stack", dict.fromkeys(STACKS, "lora_stack"))]
    rows = [row for stack in reversed(stacks) if stack["mode"] == node["mode"] for row in stacked(stack)]
    clip = c.link(node, "clip")
    sources = {name: link.source for name in ("model", "clip") if (link := c.link(node, name)) is not None}
    leaving = {name: c.take_off(node, index) for index, name in enumerate(("model", "clip"))}
    for index, (name, strength, clip_strength) in enumerate(rows):
        settings = {"lora_name": name, "strength_model": float(strength), "strength_clip": float(clip_strength)}
        kind = "LoraLoader" if clip is not None else "LoraLoaderModelOnly"
        lora = c.beside(node, kind, settings) if index else c.place(node, kind, settings)
        for position, (input, source) in enumerate(sources.items()):
            c.new.connect(source, lora, input)
            sources[input] = Output(lora, lora["outputs"][position])
    for name, links in leaving.items():
        c.put_back(links, sources.get(name))
    if not rows:
        c.new.remove(c.new.nodes[node["id"]])


def interpolation(c: Conversion, node: Node) -> None:
    values = c.values(node)
    c.say(node, f"{values['ckpt_name']} is not one of ComfyUI's: choose a model from models/frame_interpolation.")
    settings = {"multiplier": within(2, values["multiplier"], 16)}
    if settings["multiplier"] != values["multiplier"]:
        c.say(node, f"multiplier {values['multiplier']} becomes {settings['multiplier']}.")
    between = c.place(node, "FrameInterpolate", settings, {"images": "frames", "multiplier": "multiplier"}, (0,))
    model = c.beside(node, "FrameInterpolationModelLoader", {}, left=True)
    c.new.connect(first_output(model), between, "interp_model")


def resized(c: Conversion, node: Node) -> None:
    """Rewrite a node that scales images; its outputs for the new size are read from the images."""
    values = c.values(node)
    leaving = [c.take_off(node, index) for index in range(1, len(node["outputs"]))]
    method = {"nearest": "nearest-exact"}.get(values["interpolation"], values["interpolation"])
    method = method if method in ("nearest-exact", "bilinear", "area", "bicubic", "lanczos") else "lanczos"
    if values.get("mode") == "rescale":
        factor = within(0.01, values["rescale_factor"], 8.0)
        c.place(node, "ImageScaleBy", {"upscale_method": method, "scale_by": factor}, {"image": "image"}, (0,))
        return
    if (values.get("method") == FITTED or values.get("keep_proportion")) and values["width"] and values["height"]:
        c.say(node, "keep proportion is left out: set width or height to 0 to let it follow the other one.")
    if values.get("condition", "always") != "always" or values.get("multiple_of"):
        c.say(node, f"condition {values.get('condition')} and multiple_of {values.get('multiple_of')} are left out.")
    settings = {"upscale_method": method, "crop": "center" if "crop" in str(values.get("method")) else "disabled"}
    linked = {"image": "image", "width": "width", "height": "height"}
    scale = c.place(node, "ImageScale", settings, linked, (0,))
    if any(leaving):
        size = c.beside(scale, "GetImageSize", {})
        c.new.connect(first_output(scale), size, "image")
        for index, links in enumerate(leaving):
            c.put_back(links, Output(size, size["outputs"][index]))
