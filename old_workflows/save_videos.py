"""Clips that the Combine nodes of VideoHelperSuite and before it wrote, and ComfyUI's own nodes write now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .common_packs import CONSTANTS
from .conversion import Conversion, Rule, called, within
from .graph import PRIMITIVE, Node, Output

PLAIN_VIDEO = ("video/h264-mp4", "video/mp4", "video/x264-faststart")


def save(c: Conversion, node: Node) -> list[Node]:
    """Rewrite a node that writes a clip as one of ComfyUI's for its format, or as two for a video."""
    values = node.values
    say_losses(c, node, values)
    fps, links = frame_rate(c, node)
    settings: dict[str, Any] = {"images": decoded(c, node)}
    kind, _, form = values["format"].partition("/")
    if form in ("8bit-png", "16bit-png"):
        node.follow("frame_rate", "audio")
        c.place(node, "SaveImage", settings, "filename_prefix")
    elif kind == "image" or form in ("ffmpeg-gif", "gifski"):
        if form != "webp":
            c.say(node, f"{kind}/{form}: an animated WebP is saved instead.")
        if node["audio"]:
            c.say(node, "audio is left out: an animated WebP has none.")
        c.place(node, "SaveAnimatedWEBP", settings | {"fps": fps, "lossless": False}, f"filename_prefix {links}")
    elif "webm" in form:
        codec = {"codec": "av1" if "av1" in form else "vp9", "crf": float(values.get("crf", 20))}
        c.place(node, "SaveWEBM", settings | codec | {"fps": fps}, f"filename_prefix {links}")
    else:
        if f"{kind}/{form}" not in PLAIN_VIDEO:
            c.say(node, f"{kind}/{form}: an MP4 with H.264 is saved instead.")
        save_video(c, node, settings, fps, links)
    return []


def say_losses(c: Conversion, node: Node, values: dict[str, Any]) -> None:
    if values["pingpong"]:
        c.say(node, "pingpong is left out: the clip is saved once forward.")
    if values["loop_count"] and values["format"].startswith("image/"):
        c.say(node, f"loop_count {values['loop_count']} is left out: an animated WebP repeats forever.")
    if values["save_output"] in (False, "Disabled"):
        c.say(node, "it showed the clip without keeping it; now it is saved.")
    if values.get("trim_to_audio"):
        c.say(node, "trim_to_audio is left out.")
    if c.leads_to[node]:
        c.say(node, "its output with the names of files has no counterpart.")


def frame_rate(c: Conversion, node: Node) -> tuple[float, str]:
    """Return the frame rate, and the input whose link sets it. A link from a node for whole numbers, which ComfyUI's
    nodes refuse, is cut; a Primitive is none."""
    rate, source = node.values["frame_rate"], node.source("frame_rate")
    if source is None or source.node.type == PRIMITIVE or source.type != "INT":
        return float(rate), "fps=frame_rate"
    number = source.node.values.get("value") if source.node.type in CONSTANTS else None
    c.say(
        node,
        "frame_rate is connected to whole numbers, and keeps "
        f"{'the value that it shows' if number is None else f'its value {number}'} instead.",
    )
    return float(rate if number is None else number), ""


def decoded(c: Conversion, node: Node) -> Output | Node | None:
    """Return what is saved: latents, which the old node took with a VAE, are decoded."""
    images, vae, source = node["images"], node["vae"], node.source("images")
    if images is None or vae is None or (source is not None and source.type == "IMAGE"):
        return images
    return c.beside(node, "VAEDecode", {"samples": images, "vae": vae}, left=True)


def save_video(c: Conversion, node: Node, settings: dict[str, Any], fps: float, links: str) -> None:
    """Put the node that shows the video where the old one was, and the one that makes it to the left."""
    if not 1.0 <= fps <= 120.0:
        c.say(node, f"frame_rate {fps:g} becomes {within(1.0, fps, 120.0):g}.")
    settings |= {"fps": within(1.0, fps, 120.0)}
    sound, source = node["audio"], node.source("audio")
    if sound is not None and source is not None and (source.type == "AUDIO" or source.node.kind == "VHS_LoadVideo"):
        settings["audio"] = sound
    elif sound is not None:
        c.say(node, f"audio, from {called(sound.node)}, is left out: use Load Audio.")
    create, crf = c.beside(node, "CreateVideo", settings, links, left=True), node.values.get("crf")
    codec = {}
    if crf is not None:  # the last are widgets of that codec, which older ComfyUI lacks and ignores
        codec = {"codec": "h264", "codec.encoding": "re-encode", "codec.encoding.crf": float(within(0, crf, 51))}
    c.place(node, "SaveVideo", codec | {"video": create}, "filename_prefix")


RULES: Mapping[str, Rule] = dict.fromkeys(("VHS_VideoCombine", "ADE_AnimateDiffCombine"), save)
