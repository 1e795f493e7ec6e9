"""Clips that the Combine nodes of VideoHelperSuite and before it wrote, and ComfyUI's own nodes write now."""

from __future__ import annotations

from typing import Any

from .conversion import Conversion, called, first_output, within
from .graph import Node
from .old_nodes import CONSTANTS

SAVERS = ("VHS_VideoCombine", "ADE_AnimateDiffCombine")
PLAIN_VIDEO = ("video/h264-mp4", "video/mp4", "video/x264-faststart")


def convert_savers(c: Conversion) -> None:
    for node in c.of_type(*SAVERS):
        save(c, node)


def save(c: Conversion, node: Node) -> None:
    """Rewrite a node that writes a clip as one of ComfyUI's for its format, or as two for a video."""
    values = c.values(node)
    say_losses(c, node, values)
    decode_latents(c, node)
    rate = cut_whole_numbers(c, node) or values["frame_rate"]
    kind, _, form = values["format"].partition("/")
    inputs = {"filename_prefix": "filename_prefix", "images": "images"}
    fps = {"fps": float(rate)}
    linked = inputs | {"fps": "frame_rate"}
    if form in ("8bit-png", "16bit-png"):
        c.follow(node, "frame_rate", "audio")
        c.place(node, "SaveImage", {}, inputs)
    elif kind == "image" or form in ("ffmpeg-gif", "gifski"):
        if form != "webp":
            c.say(node, f"{kind}/{form}: an animated WebP is saved instead.")
        if c.source(node, "audio") is not None:
            c.say(node, "audio is left out: an animated WebP has none.")
        c.place(node, "SaveAnimatedWEBP", fps | {"lossless": False}, linked)
    elif "webm" in form:
        codec = {"codec": "av1" if "av1" in form else "vp9", "crf": float(values.get("crf", 20))}
        c.place(node, "SaveWEBM", fps | codec, linked)
    else:
        if f"{kind}/{form}" not in PLAIN_VIDEO:
            c.say(node, f"{kind}/{form}: an MP4 with H.264 is saved instead.")
        save_video(c, node, fps["fps"], values.get("crf"))


def say_losses(c: Conversion, node: Node, values: dict[str, Any]) -> None:
    if values["pingpong"]:
        c.say(node, "pingpong is left out: the clip is saved once forward.")
    if values["loop_count"] and values["format"].startswith("image/"):
        c.say(node, f"loop_count {values['loop_count']} is left out: an animated WebP repeats forever.")
    if values["save_output"] in (False, "Disabled"):
        c.say(node, "it showed the clip without keeping it; now it is saved.")
    if values.get("trim_to_audio"):
        c.say(node, "trim_to_audio is left out.")
    if values["format"] in ("image/gif", "image/webp") or "png" in values["format"]:
        values.pop("crf", None)
    if c.old.links_from(node):
        c.say(node, "its output with the names of files has no counterpart.")


def cut_whole_numbers(c: Conversion, node: Node) -> Any:
    """Cut a frame rate that comes from a node for whole numbers, which ComfyUI's nodes refuse, and return its value if
    that is known. A Primitive is none."""
    link, source = c.link(node, "frame_rate"), c.source(node, "frame_rate")
    if link is None or source is None or source.node["type"] == "PrimitiveNode" or source.socket["type"] != "INT":
        return None
    number = c.values(source.node).get("value") if source.node["type"] in CONSTANTS else None
    kept = "the value that it shows" if number is None else f"its value {number}"
    c.say(node, f"frame_rate is connected to whole numbers, and keeps {kept} instead.")
    c.new.redirect([link], None)
    return number


def decode_latents(c: Conversion, node: Node) -> None:
    """Decode what is saved if the old node had a VAE, and so took latents."""
    link, vae, source = c.link(node, "images"), c.link(node, "vae"), c.source(node, "images")
    if link is None or vae is None or (source is not None and source.socket["type"] == "IMAGE"):
        return
    decode = c.beside(node, "VAEDecode", {}, left=True)
    c.new.connect(link.source, decode, "samples")
    c.new.connect(vae.source, decode, "vae")
    c.new.connect(first_output(decode), c.new.nodes[node["id"]], "images")


def save_video(c: Conversion, node: Node, fps: float, crf: Any) -> None:
    """Put the node that shows the video where the old one was, and the one that makes it to the left."""
    if not 1.0 <= fps <= 120.0:
        c.say(node, f"frame_rate {fps:g} becomes {within(1.0, fps, 120.0):g}.")
    create = c.beside(node, "CreateVideo", {"fps": within(1.0, fps, 120.0)}, left=True)
    for new, old in (("images", "images"), ("fps", "frame_rate")):
        c.carry(node, old, create, new)
    sound, source = c.link(node, "audio"), c.source(node, "audio")
    if sound is not None and (sound.source.socket["type"] == "AUDIO" or (source and source.socket["type"] == "AUDIO")):
        c.new.connect(sound.source, create, "audio")
    elif sound is not None:
        c.say(node, f"audio, from {called(sound.source.node)}, is left out: use Load Audio.")
    codec = {"codec": "h264"} if crf is not None else {}
    saved = c.place(node, "SaveVideo", codec, {"filename_prefix": "filename_prefix"})
    if crf is not None:  # widgets of that codec, which older ComfyUI lacks and ignores
        saved["widgets_values"] += ["re-encode", float(within(0, crf, 51))]
    c.new.connect(first_output(create), saved, "video")
