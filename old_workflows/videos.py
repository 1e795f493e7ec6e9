"""Clips from and to files, of VideoHelperSuite and the older Combine nodes, which become ComfyUI's own video nodes."""

from __future__ import annotations

import re
from typing import Any

from .conversion import Conversion, called, first_output, within
from .graph import Node, Output

ALL = 4096  # as many frames as ImageFromBatch takes
SAVERS = ("VHS_VideoCombine", "ADE_AnimateDiffCombine")
SIZE = re.compile(r"(\d+|\?)x(\d+|\?)")
PLAIN_VIDEO = ("video/h264-mp4", "video/mp4", "video/x264-faststart")


def convert_videos(c: Conversion) -> None:
    for node in c.of_type("VHS_LoadVideo"):
        load_video(c, node)
    for node in c.of_type("LoadVideo"):
        if [socket["type"] for socket in node["outputs"][:1]] == ["IMAGE"]:
            c.say(
                node,
                "it is another pack's, and ComfyUI's, which gives a video, takes its place: put Get Video "
                "Components behind it, and Get Image from Batch for a part of its frames.",
            )
    for node in c.of_type("VHS_LoadImages"):
        load_images(c, node)
    for node in c.of_type(*SAVERS):
        save(c, node)


def load_video(c: Conversion, node: Node) -> None:
    values = c.read(node, fixed=("force_rate", "custom_width", "custom_height", "select_every_nth"))
    sockets = ("video", "force_rate", "custom_width", "custom_height", "select_every_nth")
    c.leave_out(node, *sockets, "frame_load_cap", "skip_first_frames")
    links = [c.new.links_from(c.new.nodes[node["id"]], index) for index in range(len(node["outputs"]))]
    taken = [link for each in links for link in each]
    c.new.links = [link for link in c.new.links if link not in taken]
    path = str(values.get("video", ""))
    if "Path" in node["type"]:
        c.say(node, f"{path} has to be in ComfyUI's input folder now.")
    video = c.place(node, "LoadVideo", {"file": re.split(r"[\\/]", path)[-1] if "Path" in node["type"] else path})
    parts = c.beside(node, "GetVideoComponents", {})
    c.new.connect(first_output(video), parts, "video")
    if values.get("force_rate"):
        c.say(node, f"force_rate {values['force_rate']:g} is left out: all frames of the video are used.")
    images = scaled(c, node, parts, some_frames(c, node, first_output(parts), values), values)
    for socket, leaving in zip(node["outputs"], links, strict=True):
        if leaving:
            c.new.links += leaving
            c.new.redirect(leaving, new_output(c, node, socket, images, parts))


def new_output(c: Conversion, node: Node, socket: dict[str, Any], images: Output, parts: Node | None) -> Output | None:
    """What now gives an old loader's output."""
    if socket["type"] == "IMAGE":
        return images
    if "AUDIO" in socket["type"] and parts is not None:
        return Output(parts, parts["outputs"][1])
    if socket["type"] == "INT":  # the number of frames
        size = c.beside(images.node, "GetImageSize", {})
        c.new.connect(images, size, "image")
        return Output(size, size["outputs"][2])
    c.say(node, f"its output {socket['name']} has no counterpart, and what it led to is no longer connected.")
    return None


def some_frames(c: Conversion, node: Node, images: Output, values: dict[str, Any]) -> Output:
    """Without the first frames, and no more than the cap."""
    skip = values.get("skip_first_frames", values.get("skip_first_images", 0)) or 0
    cap = values.get("frame_load_cap", values.get("image_load_cap", 0)) or 0
    linked = {"length": ("frame_load_cap", "image_load_cap"), "batch_index": ("skip_first_frames", "skip_first_images")}
    links = {new: link for new, old in linked.items() for name in old if (link := c.old.link_into(node, name))}
    if not cap and "length" in links and links["length"].source.node["type"] == "PrimitiveNode":
        del links["length"]  # a Primitive that says 0, which is all frames
    if (values.get("select_every_nth") or 1) > 1:
        c.say(node, f"select_every_nth {values['select_every_nth']} is left out: all frames are used.")
    if not skip and not cap and not links:
        return images
    chosen = {"batch_index": skip, "length": min(cap, ALL) or ALL}
    some = c.beside(images.node, "ImageFromBatch", chosen)
    c.new.connect(images, some, "image")
    for name, link in links.items():
        if link.source.node["id"] in c.new.nodes:
            new = c.new.nodes[link.source.node["id"]]
            index = next(i for i, socket in enumerate(link.source.node["outputs"]) if socket is link.source.socket)
            c.new.connect(Output(new, new["outputs"][index]), some, name)
    return first_output(some)


def scaled(c: Conversion, node: Node, parts: Node, images: Output, values: dict[str, Any]) -> Output:
    """At the size that the loader was asked for."""
    width, height = forced_size(values)
    if not width and not height:
        return images
    size = {"upscale_method": "lanczos", "width": width, "height": height, "crop": "center"}
    scale = c.beside(images.node, "ImageScale", size)
    c.new.connect(images, scale, "image")
    if not (width and height):
        c.say(node, "the size that it does not set follows the video, and is no longer rounded to a multiple of 8.")
    return first_output(scale)


def forced_size(values: dict[str, Any]) -> tuple[int, int]:
    """0 is what follows from the other one, and twice 0 the video's own size."""
    width, height = int(values.get("custom_width") or 0), int(values.get("custom_height") or 0)
    asked = values.get("force_size", "Custom")
    if found := SIZE.fullmatch(str(asked)):
        return tuple(0 if number == "?" else int(number) for number in found.groups())  # type: ignore[return-value]
    chosen = {"Custom": (width, height), "Custom Width": (width, 0), "Custom Height": (0, height)}
    return chosen.get(asked, (0, 0))


def load_images(c: Conversion, node: Node) -> None:
    """ComfyUI's loader gives a list; Rebatch makes one clip of it."""
    values = c.read(node, fixed=("directory", "select_every_nth"))
    c.leave_out(node, "directory", "image_load_cap", "skip_first_images", "select_every_nth")
    links = [c.new.links_from(c.new.nodes[node["id"]], index) for index in range(len(node["outputs"]))]
    taken = [link for each in links for link in each]
    c.new.links = [link for link in c.new.links if link not in taken]
    directory = re.split(r"[\\/]", str(values.get("directory", "")).rstrip("\\/"))[-1]
    if node["type"] != "VHS_LoadImages":
        c.say(node, f"{values.get('directory')} has to be a folder in ComfyUI's input folder now.")
    folder = c.place(node, "LoadImageDataSetFromFolder", {"folder": directory})
    batch = c.beside(node, "RebatchImages", {"batch_size": ALL})
    c.new.connect(first_output(folder), batch, "images")
    images = some_frames(c, node, first_output(batch), values)
    for socket, leaving in zip(node["outputs"], links, strict=True):
        if leaving:
            c.new.links += leaving
            c.new.redirect(leaving, new_output(c, node, socket, images, None))


def save(c: Conversion, node: Node) -> None:
    """One node that writes a clip becomes one of ComfyUI's for its format, or two for a video."""
    values = c.read(node, fixed=("format", "filename_prefix"))
    c.leave_out(node, "images", "audio", "vae", "frame_rate", "format", "filename_prefix")
    what_is_lost(c, node, values)
    if any(link for link in c.old.links_from(node)):
        c.say(node, "its output with the names of files has no counterpart.")
    decode_latents(c, node)
    cut_whole_numbers(c, node)
    kind, _, form = str(values.get("format", "image/gif")).partition("/")
    prefix = {"filename_prefix": values.get("filename_prefix", "AnimateDiff")}
    fps = {"fps": float(values.get("frame_rate", 8))}
    if form in ("8bit-png", "16bit-png"):
        c.place(node, "SaveImage", prefix, {"images": "images"})
    elif kind == "image" or form in ("ffmpeg-gif", "gifski"):
        if form != "webp":
            c.say(node, f"{kind}/{form}: an animated WebP is saved instead.")
        if c.old.source(node, "audio") is not None:
            c.say(node, "audio is left out: an animated WebP has none.")
        webp = {**prefix, **fps, "lossless": False}
        c.place(node, "SaveAnimatedWEBP", webp, {"images": "images", "fps": "frame_rate"})
    elif "webm" in form:
        webm = prefix | fps | {"codec": "av1" if "av1" in form else "vp9", "crf": float(values.get("crf", 20))}
        c.place(node, "SaveWEBM", webm, {"images": "images", "fps": "frame_rate"})
    else:
        if f"{kind}/{form}" not in PLAIN_VIDEO:
            c.say(node, f"{kind}/{form}: an MP4 with H.264 is saved instead.")
        save_video(c, node, prefix, fps)


def what_is_lost(c: Conversion, node: Node, values: dict[str, Any]) -> None:
    if values.get("pingpong"):
        c.say(node, "pingpong is left out: the clip is saved once forward.")
    if values.get("loop_count") and str(values.get("format", "")).startswith("image/"):
        c.say(node, f"loop_count {values['loop_count']} is left out: an animated WebP repeats for ever.")
    if values.get("save_output", values.get("save_image", True)) is False:
        c.say(node, "it showed the clip without keeping it; now it is saved.")
    if values.get("trim_to_audio"):
        c.say(node, "trim_to_audio is left out.")
    if values.get("crf") not in (None, 19, 20) and str(values.get("format", "")) in PLAIN_VIDEO:
        c.say(node, f"crf {values['crf']} is left out: Save Video chooses the quality.")


def cut_whole_numbers(c: Conversion, node: Node) -> None:
    """ComfyUI's nodes refuse a frame rate that comes from a node for whole numbers. A Primitive is none."""
    link, source = c.new.link_into(c.new.nodes[node["id"]], "frame_rate"), c.old.source(node, "frame_rate")
    if link is None or source is None or source.node["type"] == "PrimitiveNode" or source.socket["type"] != "INT":
        return
    c.say(node, "frame_rate is connected to whole numbers, and keeps the value that it shows instead.")
    c.new.redirect([link], None)


def decode_latents(c: Conversion, node: Node) -> None:
    """With a VAE the old node took latents."""
    new = c.new.nodes[node["id"]]
    link, vae = c.new.link_into(new, "images"), c.new.link_into(new, "vae")
    if link is None or vae is None:
        return
    decode = c.beside(node, "VAEDecode", {}, left=True)
    c.new.connect(link.source, decode, "samples")
    c.new.connect(vae.source, decode, "vae")
    c.new.connect(first_output(decode), new, "images")


def save_video(c: Conversion, node: Node, prefix: dict[str, Any], fps: dict[str, float]) -> None:
    """The old node's place shows the video; what makes it stands to the left."""
    if not 1.0 <= fps["fps"] <= 120.0:
        c.say(node, f"frame_rate {fps['fps']:g} becomes {within(1.0, fps['fps'], 120.0):g}.")
    create = c.beside(node, "CreateVideo", {"fps": within(1.0, fps["fps"], 120.0)}, left=True)
    for new, old in (("images", "images"), ("fps", "frame_rate")):
        c.carry(node, old, create, new)
    sound = c.new.link_into(c.new.nodes[node["id"]], "audio")
    if sound is not None and sound.source.socket["type"] == "AUDIO":
        c.new.connect(sound.source, create, "audio")
    elif sound is not None:
        c.say(node, f"audio, from {called(sound.source.node)}, is left out: use Load Audio.")
    saved = c.place(node, "SaveVideo", prefix | {"format": "auto", "codec": "auto"})
    c.new.connect(first_output(create), saved, "video")
