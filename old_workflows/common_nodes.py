"""Nodes of common packs that have counterparts in ComfyUI: numbers, text, LoRA stacks, sizes, lists, and all that the
table gives one counterpart. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .common_packs import CONSTANTS, DEPTHS, INTERPOLATIONS, LORA_LOADERS, PAGE_ONLY, POSES
from .conversion import PIPES, Conversion, Rule, called, trail, within
from .graph import BYPASSED, MUTED, Node, Output, names_of
from .keyframes import SPARSE_CTRL
from .old_nodes import is_old, row_of

Outputs = list[Node | Output | None]


def same(c: Conversion, node: Node, values: Mapping[str, Any] = {}) -> Outputs:
    """Rewrite a node that has one counterpart in the table, or that only hands something on."""
    becomes = row_of(node.type).becomes
    assert becomes is not None
    new = c.place(node, becomes.new, {**becomes.values, **values}, becomes.inputs) if becomes.new else None
    return [node[given] if isinstance(given, str) else Output(new, given) if new else None for given in becomes.outputs]


def empty_latent(c: Conversion, node: Node) -> Outputs:
    size = node.values["batch_size"]
    if size > 4096:
        c.say(node, f"batch_size {size} becomes 4096, the largest possible.")
    return same(c, node, {"batch_size": min(size, 4096)})


APPLYING = ("ADE_AnimateDiffLoader", "ADE_ApplyAnimate", "AnimateDiffLoader", "AnimateDiffSampler")


def checkpoint(c: Conversion, node: Node) -> Outputs:
    ordinary = ("linear (HotshotXL/default)", "linear (default)", "autoselect", "use existing")
    animated = any(entry.kind.startswith(APPLYING) for entry in c.old)  # which sets its own
    if not animated and node.values["beta_schedule"] not in ordinary:
        c.say(node, f'beta_schedule "{node.values["beta_schedule"]}" is left out.')
    if node.values["use_custom_scale_factor"]:
        c.say(node, "scale_factor is left out.")
    return same(c, node)


CONTROLNETS = ("ControlNetLoaderAdvanced", "DiffControlNetLoaderAdvanced", SPARSE_CTRL)


def control(c: Conversion, node: Node) -> Outputs:
    """Rewrite a node that applies a ControlNet, bypassed if that comes from a node without a counterpart."""
    whole = (node.values["start_percent"], node.values["end_percent"]) == (0.0, 1.0)
    if node.kind == "ACN_AdvancedControlNetApplySingle" and not whole:
        c.say(node, "start_percent and end_percent are left out: use Apply ControlNet with both prompts for them.")
    outputs, source = same(c, node), node.source("control_net")
    if source is not None and is_old(source.node.type) and source.node.kind not in CONTROLNETS:
        c.say(node, f"it is bypassed, since {called(source.node)} has no counterpart.")
        c.placed[node].mode = node.mode or BYPASSED
    return outputs


def encode_text(c: Conversion, node: Node) -> Outputs:
    ways = [value for name, value in node.values.items() if name != "text" and isinstance(value, str)]
    if any(value not in ("none", "comfy") for value in ways):
        c.say(node, f"{', '.join(ways)}: weights of words are read as ComfyUI reads them.")
    return same(c, node)


def canny(c: Conversion, node: Node) -> Outputs:
    c.say(node, f"resolution {node.values['resolution']} is left out: the lines have the size of the image.")
    names = ("low_threshold", "high_threshold")
    return same(c, node, {name: round(within(0.01, node.values[name] / 255, 0.99), 2) for name in names})


def save_image(c: Conversion, node: Node) -> Outputs:
    if folder := node.values["output_path"]:
        c.say(node, f"output_path {folder} is left out: ComfyUI saves to its output folder.")
    return same(c, node)


def page_only(c: Conversion, node: Node) -> Outputs:
    c.say(node, "it only served the page, and is removed.")
    return []


def merged(c: Conversion, node: Node) -> Outputs:
    if (strategy := node.values["merge_strategy"]) != "match A":
        c.say(node, f"merge_strategy {strategy} is left out: all images get the size of the first.")
    return same(c, node)


def counted(c: Conversion, node: Node) -> Outputs | None:
    """Return the number of images, or of latents that are new or come from images; no node of ComfyUI counts others."""
    source = node.source("latents" if node.kind == "VHS_GetLatentCount" else "batch")
    if source is None or source.type == "IMAGE":
        return [Output(c.place(node, "GetImageSize", {"image": source}), 2)]
    if source.node.type in EMPTY_LATENTS:
        linked = source.node.links.get("batch_size")
        return [linked or c.place(node, "PrimitiveInt", {"value": source.node.values.get("batch_size")})]
    pixels = source.node.links.get("pixels")
    return [Output(c.place(node, "GetImageSize", {"image": pixels}), 2)] if pixels else None


PIPE = ("model", "clip", "vae", "positive", "negative")


def from_pipe(c: Conversion, node: Node) -> Outputs | None:
    """Return what was put into a basic pipe, if that is in the workflow."""
    if node.mode in (MUTED, BYPASSED):
        return None
    parts: dict[str, Output] = {}
    nodes, _ = trail(node, "basic_pipe", dict.fromkeys((*PIPES, "FromBasicPipe_v2"), "basic_pipe"))
    for pipe in nodes:
        if pipe.mode not in (MUTED, BYPASSED):
            parts = {name: pipe.links[name] for name in PIPE if name in pipe.links} | parts
    if not nodes or nodes[-1].type != "ToBasicPipe":
        return None
    outputs = [parts.get(name) for name in PIPE]
    return [node["basic_pipe"], *outputs] if node.type == "FromBasicPipe_v2" else [*outputs]


def scaled_to_side(c: Conversion, node: Node) -> Outputs:
    side, size, method = (node.values[name] for name in ("side", "side_length", "upscale_method"))
    if side == "Longest":
        settings = {"upscale_method": method, "largest_size": size}
        return [c.place(node, "ImageScaleToMaxDimension", settings, "image largest_size=side_length")]
    if side == "Shortest":
        c.say(node, f"side {side} becomes the width: set height and 0 for the width if the images are wide.")
    settings = {"upscale_method": method, "crop": node.values["crop"], "width": 0, "height": 0}
    name = "height" if side == "Height" else "width"
    return [c.place(node, "ImageScale", settings | {name: size}, f"image {name}=side_length")]


EMPTY_LATENTS = ("EmptyLatentImage", "ADE_EmptyLatentImageLarge")


def upscaled(c: Conversion, node: Node) -> Outputs:
    """Scale an image to the size of a latent, and encode it."""
    values, latent, size = node.values, node.source("latent_size"), {"width": 512, "height": 512}
    if latent is not None and latent.node.type in EMPTY_LATENTS:
        size = {name: latent.node.values.get(name, number) for name, number in size.items()}
    else:
        c.say(node, "the size of its latent is not known before it runs: set width and height of Upscale Image.")
    method = {"upscale_method": values["scale_method"], "crop": values["crop"]}
    scaled = c.beside(node, "ImageScale", size | method, "image", left=True)
    return [c.place(node, "VAEEncode", {"pixels": scaled}, "vae")]


def constant(c: Conversion, node: Node) -> Outputs:
    """Rewrite a number or text, or a seed, for which -1 meant a new one each time."""
    kind = CONSTANTS[node.type]
    settings: dict[str, Any] = {"value": node.values["value"]}
    if kind == "PrimitiveInt":
        saved = node.page.get("widgets_values")  # what happens to it after each run, the page saves behind it
        after = saved[1] if isinstance(saved, list) and len(saved) > 1 and isinstance(saved[1], str) else "fixed"
        random = settings["value"] == -1 and "rgthree" in node.type
        settings = {"value": 0} if random else settings
        settings["control_after_generate"] = "randomize" if random else after
    number = c.place(node, kind, settings, "value=string" if node.type == "String to Text" else "")
    if node.type == "Seed":  # and the same number as other types
        return [number if socket["type"] == "INT" else None for socket in node.outputs]
    return [number]


JOINED = {"Text Concatenate": ("text_a", "text_b", "text_c", "text_d"), "CR Text Concatenate": ("text1", "text2")}


def joined_texts(c: Conversion, node: Node) -> Outputs:
    """Rewrite a node that joins several texts as a chain of nodes that join two."""
    texts = [node[name] or node.values[name] for name in JOINED[node.type]]
    first, *following = [*filter(None, texts), "", ""][: max(2, sum(map(bool, texts)))]
    for text in following:
        values = {"string_a": first, "string_b": text, "delimiter": node.values["delimiter"]}
        first = c.place(node, "StringConcatenate", values)
    return [first]


def joined_images(c: Conversion, node: Node) -> Outputs:
    """Rewrite a node that joins several images as a chain of nodes that join two."""
    first, *following = [link for name, _ in names_of(node.page["inputs"]) if (link := node[name])] or [None]
    for image in following:
        first = Output(c.place(node, "ImageBatch", {"image1": first, "image2": image}))
    return [first]


STACKS = ("CR LoRA Stack", "LoRA Stacker")


def stacked(node: Node) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, strength and CLIP strength of the LoRAs that a node of any of the packs holds."""
    saved = node.page.get("widgets_values") or []
    values = list(saved.values()) if isinstance(saved, dict) else list(saved)
    switch, size = LORA_LOADERS[node.type]
    if node.type == "Power Lora Loader (rgthree)":
        on = [value for value in values if isinstance(value, dict) and value.get("on")]
        rows = [(value.get("lora"), value.get("strength"), value.get("strengthTwo")) for value in on]
    elif node.type == "LoRA Stacker":
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


def loras(c: Conversion, node: Node) -> Outputs:
    """Rewrite a node that applies LoRAs as a chain of Load LoRA, with those of its stacks."""
    stacks = [node, *c.chain(node, "lora_stack", dict.fromkeys(STACKS, "lora_stack"))]
    sources: dict[str, Any] = {name: node[name] for name in ("model", "clip")}
    kind = "LoraLoader" if sources["clip"] else "LoraLoaderModelOnly"
    for stack in reversed(stacks):
        for name, strength, clip_strength in stacked(stack) if stack.mode == node.mode else ():
            settings = {"lora_name": name, "strength_model": float(strength), "strength_clip": float(clip_strength)}
            lora = c.place(node, kind, settings | sources)
            sources = {name: source and Output(lora, index) for index, (name, source) in enumerate(sources.items())}
    return list(sources.values())


def interpolation(c: Conversion, node: Node) -> Outputs:
    values = node.values
    c.say(node, f"{values['ckpt_name']} is not one of ComfyUI's: choose a model from models/frame_interpolation.")
    multiplier = within(2, values["multiplier"], 16)
    if multiplier != values["multiplier"]:
        c.say(node, f"multiplier {values['multiplier']} becomes {multiplier}.")
    model = c.beside(node, "FrameInterpolationModelLoader", left=True)
    settings = {"multiplier": multiplier, "interp_model": model}
    return [c.place(node, "FrameInterpolate", settings, "images=frames multiplier")]


DRAWN = {"draw_body": "detect_body", "draw_hands": "detect_hand", "draw_face": "detect_face"}


def pose(c: Conversion, node: Node) -> Outputs:
    c.say(node, "choose the SDPose checkpoint, and give its extractor bounding boxes if there are several persons.")
    checkpoint = c.beside(node, "CheckpointLoaderSimple", left=True)
    models = {"model": checkpoint, "vae": Output(checkpoint, 2)}
    keypoints = c.beside(node, "SDPoseKeypointExtractor", models, "image")
    drawn = {new: node.values.get(old) != "disable" for new, old in DRAWN.items()}
    return [c.place(node, "SDPoseDrawKeypoints", {"keypoints": keypoints, **drawn}), keypoints]


def depth(c: Conversion, node: Node) -> Outputs:
    c.say(node, "choose a Depth Anything 3 model, which takes its place.")
    model = c.beside(node, "LoadDA3Model", left=True)
    geometry = c.beside(node, "DA3Inference", {"da3_model": model}, "image")
    return [c.place(node, "DA3Render", {"da3_geometry": geometry})]


def any_preprocessor(c: Conversion, node: Node) -> Sequence[Node | Output | None] | None:
    kind = node.values["preprocessor"]
    return RULES[kind](c, node) if kind in (*POSES, *DEPTHS) else None


METHODS = {"nearest": "nearest-exact"} | {name: name for name in ("nearest-exact", "bilinear", "area", "bicubic")}


def resized(c: Conversion, node: Node) -> Outputs:
    """Rewrite a node that scales images; its outputs for the new size are read from the images."""
    values = node.values
    method = METHODS.get(values["interpolation"], "lanczos")
    if values.get("mode") == "rescale":
        factor = within(0.01, values["rescale_factor"], 8.0)
        return [c.place(node, "ImageScaleBy", {"upscale_method": method, "scale_by": factor}, "image")]
    fitted = values.get("method") == "keep proportion" or values.get("keep_proportion")
    if fitted and values["width"] and values["height"]:
        c.say(node, "keep proportion is left out: set width or height to 0 to let it follow the other one.")
    if values.get("condition", "always") != "always" or values.get("multiple_of"):
        c.say(node, f"condition {values.get('condition')} and multiple_of {values.get('multiple_of')} are left out.")
    settings = {"upscale_method": method, "crop": "center" if "crop" in str(values.get("method")) else "disabled"}
    scaled = c.place(node, "ImageScale", settings, "image width height")
    size = c.beside(scaled, "GetImageSize", {"image": scaled})
    return [scaled, Output(size, 0), Output(size, 1)]


RULES: dict[str, Rule] = {
    "ADE_EmptyLatentImageLarge": empty_latent,
    "ADE_UpscaleAndVAEEncode": upscaled,
    "CheckpointLoaderSimpleWithNoiseSelect": checkpoint,
    "ACN_AdvancedControlNetApply": control,
    "ACN_AdvancedControlNetApply_v2": control,
    "ACN_AdvancedControlNetApplySingle": control,
    "BNK_CLIPTextEncodeAdvanced": encode_text,
    "smZ CLIPTextEncode": encode_text,
    "CannyEdgePreprocessor": canny,
    **dict.fromkeys(POSES, pose),
    **dict.fromkeys(DEPTHS, depth),
    "AIO_Preprocessor": any_preprocessor,
    "Image Save": save_image,
    "ImpactMakeImageBatch": joined_images,
    "VHS_MergeImages": merged,
    "VHS_GetLatentCount": counted,
    "BatchCount+": counted,
    "FromBasicPipe": from_pipe,
    "FromBasicPipe_v2": from_pipe,
    "Image scale to side": scaled_to_side,
    **dict.fromkeys(JOINED, joined_texts),
    **dict.fromkeys(CONSTANTS, constant),
    **dict.fromkeys([name for name in LORA_LOADERS if name not in STACKS], loras),
    **dict.fromkeys(INTERPOLATIONS, interpolation),
    **dict.fromkeys(("ImageResize+", "Image Resize"), resized),
    **dict.fromkeys(PAGE_ONLY, page_only),
}
