"""Old nodes that have one counterpart, a row for each. Needs no ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .conversion import BYPASSED, Conversion, called, first_output, within
from .graph import Node, set_value, value_of
from .old_nodes import OLD_NODES, SHOWN, SIZES, is_old, name_of


class Rewrite(NamedTuple):
    """The node that an old one becomes. Without `new`, the old one only handed something on and is removed."""

    new: str = ""
    inputs: Mapping[str, str] = {}
    """New input -> the old one that its link or value comes from."""
    outputs: Sequence[int | None] = (0,)
    passed: tuple[int, str] | None = None
    """The output that handed on an input, and that input."""
    adjust: Callable[[Conversion, Node, Node], None] | None = None
    """Adjusts the new node: (conversion, old node, new node) -> None."""


def cap_batch(c: Conversion, node: Node, latent: Node) -> None:
    size = value_of(latent, "batch_size")
    if size > 4096:
        c.say(node, f"batch_size {size} becomes 4096, the largest possible.")
        set_value(latent, "batch_size", 4096)


def check_checkpoint(c: Conversion, node: Node, _: Node) -> None:
    values = c.values(node)
    ordinary = ("linear (HotshotXL/default)", "linear (default)", "autoselect", "use existing")
    animated = any(new["type"] == "ADN_ApplyAnimateDiff" for new in c.new.nodes.values())  # which sets its own
    if not animated and values["beta_schedule"] not in ordinary:
        c.say(node, f'beta_schedule "{values["beta_schedule"]}" is left out.')
    if values["use_custom_scale_factor"]:
        c.say(node, "scale_factor is left out.")


def check_range(c: Conversion, node: Node, control: Node) -> None:
    values = c.values(node)
    if (values["start_percent"], values["end_percent"]) != (0.0, 1.0):
        c.say(node, "start_percent and end_percent are left out: use Apply ControlNet with both prompts for them.")
    bypass_unsupported(c, node, control)


def bypass_unsupported(c: Conversion, node: Node, control: Node) -> None:
    """Bypass a ControlNet that comes from a node without a counterpart, such as SparseCtrl's."""
    source = c.source(node, "control_net")
    if source is not None and is_old(source.node["type"]) and name_of(source.node["type"]) not in CONTROLNETS:
        c.say(node, f"it is bypassed, since {called(source.node)} has no counterpart.")
        control["mode"] = control["mode"] or BYPASSED


def say_weights(c: Conversion, node: Node, _: Node) -> None:
    ways = {key: value for key, value in c.values(node).items() if key != "text" and isinstance(value, str)}
    if any(value not in ("none", "comfy") for value in ways.values()):
        c.say(node, f"{', '.join(ways.values())}: weights of words are read as ComfyUI reads them.")


def scale_thresholds(c: Conversion, node: Node, canny: Node) -> None:
    values = c.values(node)
    for name in ("low_threshold", "high_threshold"):
        set_value(canny, name, round(within(0.01, values[name] / 255, 0.99), 2))
    c.say(node, f"resolution {values['resolution']} is left out: the lines have the size of the image.")


def say_folder(c: Conversion, node: Node, _: Node) -> None:
    if folder := c.values(node)["output_path"]:
        c.say(node, f"output_path {folder} is left out: ComfyUI saves to its output folder.")


def batch_of_all(c: Conversion, node: Node, rebatch: Node) -> None:
    set_value(rebatch, "batch_size", 4096)


def same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


EMPTY_LATENT = "ADE_EmptyLatentImageLarge"
IMAGE_OF = {"ImpactImageInfo": "value", "VHS_GetImageCount": "images"}
CONTROLNETS = ("ControlNetLoaderAdvanced", "DiffControlNetLoaderAdvanced")
REWRITES = {
    EMPTY_LATENT: Rewrite("EmptyLatentImage", same("width", "height", "batch_size"), adjust=cap_batch),
    "CheckpointLoaderSimpleWithNoiseSelect": Rewrite(
        "CheckpointLoaderSimple", same("ckpt_name"), (0, 1, 2), adjust=check_checkpoint
    ),
    "VHS_DuplicateLatents": Rewrite("RepeatLatentBatch", {"samples": "latents", "amount": "multiply_by"}),
    "VHS_DuplicateImages": Rewrite("RepeatImageBatch", {"image": "images", "amount": "multiply_by"}),
    "ADE_AnimateDiffUnload": Rewrite(passed=(0, "model")),
    "ADE_FloatToFloats": Rewrite(passed=(0, "FLOAT")),
    # Advanced-ControlNet becomes ComfyUI's own ControlNet: Sliding Context gives each window its hints.
    "ControlNetLoaderAdvanced": Rewrite("ControlNetLoader", same("control_net_name")),
    "DiffControlNetLoaderAdvanced": Rewrite("DiffControlNetLoader", same("model", "control_net_name")),
    "ACN_AdvancedControlNetApply": Rewrite(
        "ControlNetApplyAdvanced",
        same("positive", "negative", "control_net", "image", "strength", "start_percent", "end_percent")
        | {"vae": "vae_optional"},
        (0, 1),
        passed=(2, "model_optional"),
        adjust=bypass_unsupported,
    ),
    "ACN_AdvancedControlNetApplySingle": Rewrite(
        "ControlNetApply",
        same("conditioning", "control_net", "image", "strength"),
        passed=(1, "model_optional"),
        adjust=check_range,
    ),
    "VHS_VAEDecodeBatched": Rewrite("VAEDecode", same("samples", "vae")),
    "VHS_VAEEncodeBatched": Rewrite("VAEEncode", same("pixels", "vae")),
    "VHS_MergeImages": Rewrite("ImageBatch", {"image1": "images_A", "image2": "images_B"}),
    # Common packs
    "CR Latent Batch Size": Rewrite("RepeatLatentBatch", {"samples": "latent", "amount": "batch_size"}),
    "CannyEdgePreprocessor": Rewrite("Canny", same("image"), adjust=scale_thresholds),
    "Image Save": Rewrite("SaveImage", same("images", "filename_prefix"), (), adjust=say_folder),
    "BNK_CLIPTextEncodeAdvanced": Rewrite("CLIPTextEncode", same("clip", "text"), adjust=say_weights),
    "smZ CLIPTextEncode": Rewrite("CLIPTextEncode", same("clip", "text"), adjust=say_weights),
    "ImpactImageBatchToImageList": Rewrite("RebatchImages", {"images": "image"}),
    "ImageListToImageBatch": Rewrite("RebatchImages", same("images"), adjust=batch_of_all),
    **{name: Rewrite("PreviewAny", {"source": old}, (), passed=(0, old)) for name, old in SHOWN.items()},
    **{name: Rewrite("GetImageSize", {"image": IMAGE_OF.get(name, "image")}, outputs,
                     passed=(0, "image") if name == "GetImageSizeAndCount" else None)
       for name, outputs in SIZES.items()},
}  # fmt: skip


def convert_same(c: Conversion) -> None:
    for old_id, rewrite in REWRITES.items():
        for node in c.of_type(old_id):
            if rewrite.passed is not None:
                c.pass_on(node, *rewrite.passed)
            if not rewrite.new:
                c.new.remove(c.new.nodes[node["id"]])
                continue
            new = c.place(node, rewrite.new, {}, rewrite.inputs, rewrite.outputs)
            if rewrite.adjust is not None:
                rewrite.adjust(c, node, new)


def convert_upscaling(c: Conversion) -> None:
    """Scale an image to the size of a latent, and encode it."""
    for node in c.of_type("ADE_UpscaleAndVAEEncode"):
        values, latent = c.values(node), c.source(node, "latent_size")
        size = {"width": 512, "height": 512}
        if latent is not None and latent.node["type"] in ("EmptyLatentImage", EMPTY_LATENT):  # with the same widgets
            latent_size = OLD_NODES[EMPTY_LATENT].values(latent.node.get("widgets_values"))
            size = {name: latent_size[name] for name in size}
        else:
            c.say(node, "the size of its latent is not known before it runs: set width and height of Upscale Image.")
        method = {"upscale_method": values["scale_method"], "crop": values["crop"]}
        scale = c.beside(node, "ImageScale", size | method, left=True)
        c.carry(node, "image", scale, "image")
        encode = c.place(node, "VAEEncode", {}, {"vae": "vae"}, (0,))
        c.new.connect(first_output(scale), encode, "pixels")
