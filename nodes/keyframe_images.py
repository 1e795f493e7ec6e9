"""Keyframe Images: pictures that a clip passes through at given frames."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sampling.keyframes import CROP, PAD, KeyframeImages, Keyframes, parse_positions
from .schema import Schema
from .sockets import Keyframes as KeyframesSocket

# One output for both: Apply AnimateDiff takes keyframes, and ComfyUI's Apply ControlNet takes an image.
Output = io.Custom(f"{KeyframesSocket.io_type},{io.Image.io_type}").Output


class KeyframeImagesNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_KeyframeImages",
            display_name="Keyframe Images",
            category="AnimateDiff",
            description="Says at which frames of the clip your pictures belong: a first picture, a first and a last "
            "one, or sketches along the way.",
            search_aliases=["image to video", "img2vid", "i2v", "first frame", "last frame", "sparsectrl", "pia"],
            inputs=[
                io.Image.Input("images", tooltip="One picture, or several as a batch."),
                io.String.Input(
                    "frames",
                    default="",
                    tooltip="The frame of each picture, such as '0, 8, -1': frames count from 0, -1 is the last one, "
                    "and 0.5 or 50% is half of the clip. Leave it empty to spread the pictures evenly; a single "
                    "picture then comes first.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The checkpoint's VAE. Needed by all models except the scribble SparseCtrl.",
                ),
                io.Combo.Input(
                    "resize",
                    options=[CROP, PAD],
                    default=CROP,
                    advanced=True,
                    tooltip="How a picture of another shape fits the clip: crop cuts off what overhangs, pad keeps the "
                    "whole picture and repeats its edges.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                Output(
                    display_name="keyframes",
                    tooltip="For Apply ControlNet with a SparseCtrl, or for Apply AnimateDiff with a motion module "
                    "that takes pictures.",
                )
            ],
        )

    @classmethod
    def execute(cls, images: Any, frames: str = "", vae: Any = None, resize: str = CROP) -> io.NodeOutput:
        node = cls.hidden and cls.hidden.unique_id
        keyframes = Keyframes(images, positions=parse_positions(frames), vae=vae, resize=resize, node=node)
        return io.NodeOutput(KeyframeImages.of(keyframes, images))
