"""Drag Cut-out: move a part of a picture along a path."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..sampling import paths
from ..sampling.cut_outs import MOST_PIXELS, check_masks, drag
from .schema import Schema

PATH = "0: 20% 50%\n-1: 80% 50%"


class DragCutout(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_DragCutout",
            display_name="Drag Cut-out",
            category="AnimateDiff",
            description="Moves, turns and scales a part of a picture along a path. The rough clip shows Follow Rough "
            "Clip what is to move where.",
            search_aliases=["time-to-move", "ttm", "cut and drag", "trajectory", "motion path", "move object"],
            inputs=[
                io.Image.Input("image", tooltip="One picture, as large as the clip."),
                io.Mask.Input("mask", tooltip="White over the part to move."),
                io.String.Input(
                    "path",
                    default=PATH,
                    multiline=True,
                    tooltip="One 'frame: across down' per line: where the middle of the part stands, from the left and "
                    "from the top of the picture. 'scale 150%' and 'turn 90' behind it change its size and turn it "
                    "clockwise. Frames and easings are written as in Motion Curve.",
                ),
                io.Int.Input("frames", default=16, min=1, max=4096, tooltip="Number of frames in the clip."),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The rough clip."),
                io.Mask.Output(display_name="masks", tooltip="Where the part is in each frame."),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, mask: Tensor, path: str = PATH, frames: int = 16) -> io.NodeOutput:
        keys = paths.parse(path)
        mask = mask.reshape(-1, *mask.shape[-2:])
        if image.ndim != 4 or len(image) != 1 or len(mask) != 1:
            raise ValueError(f"Drag Cut-out takes one picture and one mask, not {len(image)} and {len(mask)}.")
        height, width = image.shape[1:3]
        if frames * height * width > MOST_PIXELS:
            raise ValueError(
                f"{frames} frames of {width} x {height} pixels are too large: use fewer frames or a smaller picture."
            )
        check_masks(image, mask)
        picture = image[0, ..., :3].expand(-1, -1, 3).float().cpu()
        images, masks = drag(picture, mask[0].float().cpu(), paths.poses(keys, frames))
        return io.NodeOutput(images, masks)
