"""Motion Path: where one subject of a clip is in each frame."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..sampling import paths as grammar
from ..sampling.cut_outs import MOST_PIXELS
from ..sampling.motion_paths import MotionPath, boxes_of_masks, boxes_of_poses, coverage
from ..sampling.path_picture import draw_paths
from .drag_cutout import PATH
from .schema import Schema
from .sockets import MotionPaths

SIZE = 0.3  # of a subject, as a part of the picture


class MotionPathNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_MotionPath",
            display_name="Motion Path",
            category="AnimateDiff",
            description="Says where one subject is in each frame of the clip. Its masks serve for regional prompts, "
            "inpainting or IPAdapter.",
            search_aliases=["trajectory", "bounding box", "freetraj", "peekaboo", "trailblazer", "draw motion"],
            inputs=[
                io.String.Input(
                    "path",
                    default=PATH,
                    multiline=True,
                    tooltip="One 'frame: across down' per line: where the middle of the subject stands, from the left "
                    "and from the top of the picture. 'scale 150%' behind it changes its size. Frames and easings are "
                    "written as in Motion Curve.",
                ),
                io.Float.Input(
                    "width",
                    default=SIZE,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Width of the subject, as a part of the picture's.",
                ),
                io.Float.Input(
                    "height",
                    default=SIZE,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Height of the subject, as a part of the picture's.",
                ),
                io.Int.Input("frames", default=16, min=1, max=4096, tooltip="Number of frames in the clip."),
                io.Int.Input(
                    "picture_width",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    advanced=True,
                    tooltip="Width of the masks in pixels: that of the clip.",
                ),
                io.Int.Input(
                    "picture_height",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    advanced=True,
                    tooltip="Height of the masks in pixels: that of the clip.",
                ),
                io.String.Input(
                    "words",
                    default="",
                    tooltip="The words of the prompt that mean this subject, such as 'brown dog'. They draw it to its "
                    "path, and need 'clip'.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="The checkpoint's text encoder, which reads the words."),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="Masks of the subject, one per frame, in place of the path and all sizes. One mask holds "
                    "for all frames.",
                ),
                MotionPaths.Input(
                    "motion_paths", optional=True, tooltip="Paths of other subjects, from another Motion Path."
                ),
            ],
            outputs=[
                MotionPaths.Output(display_name="motion_paths", tooltip="This path, after those that came in."),
                io.Mask.Output(display_name="masks", tooltip="Where this subject is in each frame."),
            ],
        )

    @classmethod
    def execute(
        cls,
        path: str = PATH,
        width: float = SIZE,
        height: float = SIZE,
        frames: int = 16,
        picture_width: int = 512,
        picture_height: int = 512,
        words: str = "",
        clip: Any = None,
        masks: Tensor | None = None,
        motion_paths: tuple[MotionPath, ...] = (),
    ) -> io.NodeOutput:
        if masks is not None:
            masks = masks.reshape(-1, *masks.shape[-2:])
            picture_height, picture_width = masks.shape[-2:]
            frames = frames if len(masks) == 1 else len(masks)
            boxes = boxes_of_masks(masks) * (frames if len(masks) == 1 else 1)
        else:
            poses = grammar.poses(grammar.parse(path), frames)
            if any(pose.turn for pose in poses):
                logging.info("Motion Path: turn does nothing, since boxes stay upright.")
            boxes = boxes_of_poses(poses, width, height)
        for other in motion_paths or ():
            if len(other.boxes) != frames:
                raise ValueError(
                    f"This path has {frames} frames, but one before it {len(other.boxes)}: give all paths the frames "
                    "of the clip."
                )
        if frames * picture_width * picture_height > MOST_PIXELS:
            raise ValueError(
                f"{frames} frames of {picture_width} x {picture_height} pixels are too large: use smaller masks, or "
                "lower picture_width and picture_height; masks are enlarged where they are used."
            )
        all_paths = (*(motion_paths or ()), MotionPath(boxes, words=features(words, clip)))
        picture = np.array(draw_paths(all_paths, picture_height / picture_width), dtype=np.float32) / 255.0
        shown = ui.PreviewImage(torch.from_numpy(picture)[None])
        return io.NodeOutput(all_paths, coverage(boxes, (picture_height, picture_width)), ui=shown)


def features(words: str, clip: Any) -> Tensor | None:
    """Return the features (tokens, c) of words, without those of the prompt's beginning and end; None without words."""
    if not words.strip():
        return None
    if clip is None:
        raise ValueError("The words of a subject need the text encoder: connect 'clip', or leave 'words' empty.")
    chunks = next(iter(clip.tokenize(words, return_word_ids=True).values()))
    of_words = [word > 0 for chunk in chunks for _, _, word in chunk]
    encoded = clip.encode_from_tokens(clip.tokenize(words))[0]
    if len(encoded) != len(of_words):
        raise ValueError("Another node changes how 'clip' reads words: connect the checkpoint's own CLIP.")
    return encoded[torch.tensor(of_words, device=encoded.device)]
