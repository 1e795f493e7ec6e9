"""Clips from files, which VideoHelperSuite loaded and ComfyUI's own nodes load now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .conversion import Conversion, Rule, within
from .graph import PRIMITIVE, Node, Output

FPS, WHOLE_VIDEO = 10, 11  # outputs beyond those of an old loader: frame rate, and all frames of the file
WHOLE = 1e6  # seconds, more than any audio has
ALL = 4096  # as many frames as ImageFromBatch takes
SIZE = re.compile(r"(\d+|\?)x(\d+|\?)")


def load_video(c: Conversion, node: Node) -> list[Output | None]:
    values = node.values
    path = values["video"]
    if "Path" in node.type:
        c.say(node, f"{path} must be in ComfyUI's input folder now.")
        path = last_part(path)
    video = c.place(node, "LoadVideo", {"file": path}, "file=video")
    parts = c.beside(node, "GetVideoComponents", {"video": video})
    if values["force_rate"]:
        c.say(node, f"force_rate {values['force_rate']:g} is left out: all frames of the video are used.")
    outputs = outputs_of(c, node, scaled(c, node, some_frames(c, node, parts)), Output(parts, 1))
    return [*outputs, *[None] * (FPS - len(outputs)), Output(parts, 2), Output(parts)]


def load_images(c: Conversion, node: Node) -> list[Output | None]:
    """Load a folder of images. ComfyUI's loader gives a list, and Rebatch makes one clip of it."""
    directory = node.values["directory"]
    if node.type != "VHS_LoadImages":
        c.say(node, f"{directory} must be a folder in ComfyUI's input folder now.")
    folder = c.place(node, "LoadImageDataSetFromFolder", {"folder": last_part(directory)})
    batch = c.beside(node, "RebatchImages", {"batch_size": ALL, "images": folder})
    return outputs_of(c, node, some_frames(c, node, batch), None)


def say_namesake(c: Conversion, node: Node) -> None:
    if [socket["type"] for socket in node.outputs[:1]] == ["IMAGE"]:
        c.say(
            node,
            "it is another pack's, and ComfyUI's, which gives a video, takes its place: put Get Video "
            "Components behind it, and Get Image from Batch for a part of its frames.",
        )


def video_info(c: Conversion, node: Node) -> list[Output | None] | None:
    """Return speed, number and size of a loader's frames, before and after it cut and scaled them."""
    source = node.source("video_info")
    if source is None or source.node.kind != "VHS_LoadVideo":
        return None
    info: list[Output | None] = []
    for images in {"Source": (WHOLE_VIDEO,), "Loaded": (0,)}.get(node.type[13:], (WHOLE_VIDEO, 0)):
        size = c.beside(node, "GetImageSize", {"image": Output(source.node, images)})
        info += [Output(source.node, FPS), Output(size, 2), None, Output(size, 0), Output(size, 1)]
    return info


def last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def outputs_of(c: Conversion, node: Node, images: Node, audio: Output | None) -> list[Output | None]:
    """Return what gives an old loader's outputs now: images, their number (the only INT), and sound."""
    count = Output(c.beside(images, "GetImageSize", {"image": images}), 2)
    by_type = {"IMAGE": Output(images), "INT": count, "AUDIO": audio, "VHS_AUDIO": audio}
    return [by_type.get(socket["type"]) for socket in node.outputs]


def some_frames(c: Conversion, node: Node, images: Node) -> Node:
    """Return the images without the first frames, and no more than the cap."""
    values, skip, cap = node.values, node.values["skip_first_frames"], node.values["frame_load_cap"]
    limit, source = node["frame_load_cap"], node.source("frame_load_cap")
    if not cap and source is not None and source.node.type == PRIMITIVE:
        limit = None  # a Primitive that says 0, which is all frames
    if values["select_every_nth"] > 1:
        c.say(node, f"select_every_nth {values['select_every_nth']} is left out: all frames are used.")
    if not skip and not cap and not limit and not node["skip_first_frames"]:
        return images
    some = c.beside(images, "ImageFromBatch", {"batch_index": skip, "length": min(cap, ALL) or ALL, "image": images})
    return some.set({"length": limit, "batch_index": node["skip_first_frames"]})


def scaled(c: Conversion, node: Node, images: Node) -> Node:
    """Return the images at the size that the loader was asked for."""
    width, height = forced_size(node.values)
    if not width and not height:
        return images
    if not (width and height):
        c.say(node, "the size that it does not set follows the video, and is no longer rounded to a multiple of 8.")
    size = {"upscale_method": "lanczos", "width": width, "height": height, "crop": "center"}
    return c.beside(images, "ImageScale", size | {"image": images})


def forced_size(values: dict[str, Any]) -> tuple[int, int]:
    """Return width and height. A 0 follows from the other one, and two are the video's own size."""
    if match := SIZE.fullmatch(values["force_size"]):
        width, height = (0 if number == "?" else int(number) for number in match.groups())
        return width, height
    width, height = int(values["custom_width"]), int(values["custom_height"])
    sizes = {"Custom": (width, height), "Custom Width": (width, 0), "Custom Height": (0, height)}
    return sizes.get(values["force_size"], (0, 0))


def load_audio(c: Conversion, node: Node) -> list[Node]:
    audio = c.place(node, "LoadAudio", inputs="audio")
    start, duration = (node[name] or node.values[name] for name in ("start_time", "duration"))
    if not start and not duration:
        return [audio]
    return [c.beside(node, "TrimAudioDuration", {"start_index": start, "duration": duration or WHOLE, "audio": audio})]


def split(c: Conversion, node: Node) -> list[Node | Output]:
    """Cut a clip in two, each half with its number of frames."""
    index, linked = node.values["split_index"], node["split_index"]
    first = c.place(node, "ImageFromBatch", {"length": within(1, index, ALL)}, "image=images")
    second = c.place(node, "ImageFromBatch", {"batch_index": index, "length": ALL}, "image=images")
    first.set({"length": linked})
    second.set({"batch_index": linked})
    counts = [Output(c.beside(half, "GetImageSize", {"image": half}), 2) for half in (first, second)]
    return [first, counts[0], second, counts[1]]


RULES: Mapping[str, Rule] = {
    "VHS_LoadVideo": load_video,
    "VHS_LoadImages": load_images,
    "VHS_LoadAudioUpload": load_audio,
    "VHS_SplitImages": split,
    **dict.fromkeys(("VHS_VideoInfo", "VHS_VideoInfoSource", "VHS_VideoInfoLoaded"), video_info),
}
