"""Clips from files, which VideoHelperSuite loaded and ComfyUI's own nodes load now."""

from __future__ import annotations

import re
from typing import Any

from .conversion import Conversion, first_output, within
from .graph import Link, Node, Output

WHOLE = 1e6  # seconds, more than any audio has
ALL = 4096  # as many frames as ImageFromBatch takes
SIZE = re.compile(r"(\d+|\?)x(\d+|\?)")


def convert_loaders_of_videos(c: Conversion) -> None:
    for node in c.of_type("VHS_LoadVideo"):
        load_video(c, node)
    for node in c.of_type("VHS_LoadImages"):
        load_images(c, node)
    for node in c.of_type("LoadVideo"):
        if [socket["type"] for socket in node["outputs"][:1]] == ["IMAGE"]:
            c.say(
                node,
                "it is another pack's, and ComfyUI's, which gives a video, takes its place: put Get Video "
                "Components behind it, and Get Image from Batch for a part of its frames.",
            )


def load_video(c: Conversion, node: Node) -> None:
    values, links, cuts = c.values(node), outgoing(c, node), links_of_cuts(c, node)
    path = values["video"]
    if "Path" in node["type"]:
        c.say(node, f"{path} must be in ComfyUI's input folder now.")
        path = last_part(path)
    video = c.place(node, "LoadVideo", {"file": path}, {"file": "video"})
    parts = c.beside(node, "GetVideoComponents", {})
    c.new.connect(first_output(video), parts, "video")
    if values["force_rate"]:
        c.say(node, f"force_rate {values['force_rate']:g} is left out: all frames of the video are used.")
    images = scaled(c, node, some_frames(c, node, first_output(parts), values, cuts), values)
    lead_out(c, node, links, images, Output(parts, parts["outputs"][1]))


def load_images(c: Conversion, node: Node) -> None:
    """Load a folder of images. ComfyUI's loader gives a list, and Rebatch makes one clip of it."""
    values, links, cuts = c.values(node), outgoing(c, node), links_of_cuts(c, node)
    if node["type"] != "VHS_LoadImages":
        c.say(node, f"{values['directory']} must be a folder in ComfyUI's input folder now.")
    folder = c.place(node, "LoadImageDataSetFromFolder", {"folder": last_part(values["directory"])})
    batch = c.beside(node, "RebatchImages", {"batch_size": ALL})
    c.new.connect(first_output(folder), batch, "images")
    lead_out(c, node, links, some_frames(c, node, first_output(batch), values, cuts), None)


def links_of_cuts(c: Conversion, node: Node) -> dict[str, Link | None]:
    """Return the links for the part of a clip, which are cut once the node is another."""
    return {"length": c.link(node, "frame_load_cap"), "batch_index": c.link(node, "skip_first_frames")}


def last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def outgoing(c: Conversion, node: Node) -> list[list[Link]]:
    """Return the links of each output, taken off the new workflow."""
    return [c.take_off(node, index) for index in range(len(node["outputs"]))]


def lead_out(c: Conversion, node: Node, links: list[list[Link]], images: Output, audio: Output | None) -> None:
    """Let the links of an old loader's outputs begin at what gives them now."""
    for socket, leaving in zip(node["outputs"], links, strict=True):
        if leaving and socket["type"] == "IMAGE":
            c.put_back(leaving, images)
        elif leaving and "AUDIO" in socket["type"] and audio is not None:
            c.put_back(leaving, audio)
        elif leaving and socket["type"] == "INT":  # the number of frames
            size = c.beside(images.node, "GetImageSize", {})
            c.new.connect(images, size, "image")
            c.put_back(leaving, Output(size, size["outputs"][2]))
        elif leaving:
            c.say(node, f"its output {socket['name']} has no counterpart, so what it led to is no longer connected.")


def some_frames(
    c: Conversion, node: Node, images: Output, values: dict[str, Any], links: dict[str, Link | None]
) -> Output:
    """Return the images without the first frames, and no more than the cap."""
    skip, cap = values["skip_first_frames"], values["frame_load_cap"]
    sources = {"length": c.source(node, "frame_load_cap"), "batch_index": c.source(node, "skip_first_frames")}
    if not cap and sources["length"] is not None and sources["length"].node["type"] == "PrimitiveNode":
        sources["length"] = None  # a Primitive that says 0, which is all frames
    if values["select_every_nth"] > 1:
        c.say(node, f"select_every_nth {values['select_every_nth']} is left out: all frames are used.")
    if not skip and not cap and not any(sources.values()):
        return images
    some = c.beside(images.node, "ImageFromBatch", {"batch_index": skip, "length": min(cap, ALL) or ALL})
    c.new.connect(images, some, "image")
    for name, source in sources.items():
        if source is not None and (link := links[name]) is not None:
            c.new.connect(link.source, some, name)
    return first_output(some)


def scaled(c: Conversion, node: Node, images: Output, values: dict[str, Any]) -> Output:
    """Return the images at the size that the loader was asked for."""
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
    """Return width and height. A 0 follows from the other one, and two are the video's own size."""
    width, height = int(values["custom_width"]), int(values["custom_height"])
    if match := SIZE.fullmatch(values["force_size"]):
        width, height = (0 if number == "?" else int(number) for number in match.groups())
        return width, height
    sizes = {"Custom": (width, height), "Custom Width": (width, 0), "Custom Height": (0, height)}
    return sizes.get(values["force_size"], (0, 0))


def convert_clips(c: Conversion) -> None:
    """Rewrite VideoHelperSuite's nodes that split clips and load audio."""
    for node in c.of_type("VHS_SplitImages"):
        split(c, node)
    for node in c.of_type("VHS_LoadAudioUpload"):
        values = c.values(node)
        leaving, start, duration = c.take_off(node, 0), values["start_time"], values["duration"]
        audio = first_output(c.place(node, "LoadAudio", {}, {"audio": "audio"}))
        linked = {
            new: link
            for new, old in (("start_index", "start_time"), ("duration", "duration"))
            if (link := c.link(node, old)) is not None
        }
        if start or duration or linked:
            trim = c.beside(node, "TrimAudioDuration", {"start_index": start, "duration": duration or WHOLE})
            c.new.connect(audio, trim, "audio")
            for name, link in linked.items():
                c.new.connect(link.source, trim, name)
            audio = first_output(trim)
        c.put_back(leaving, audio)


def split(c: Conversion, node: Node) -> None:
    """Cut a clip in two; each half, and its number of frames, is only made where it led to something."""
    values, links, images = c.values(node), outgoing(c, node), c.link(node, "images")
    index = c.link(node, "split_index")
    c.followed.add((node["id"], "split_index"))
    for half, (name, settings) in enumerate(
        (
            ("length", {"length": within(1, values["split_index"], ALL)}),
            ("batch_index", {"batch_index": values["split_index"], "length": ALL}),
        )
    ):
        frames, counts = links[2 * half : 2 * half + 2]
        if not frames and not counts:
            continue
        cut = c.place(node, "ImageFromBatch", settings)
        for source, input in ((images, "image"), (index, name)):
            if source is not None:
                c.new.connect(source.source, cut, input)
        c.put_back(frames, first_output(cut))
        if counts:
            size = c.beside(node, "GetImageSize", {})
            c.new.connect(first_output(cut), size, "image")
            c.put_back(counts, Output(size, size["outputs"][2]))
