"""Clips (f, 3, h, w) in [0, 1] whose movement is known, and a small CLIP vision model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from animatediff_native.evaluation.optical_flow import warp

MARGIN = 64  # what a pan can uncover
WIDTH, PICTURE = 32, 28
PART: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3}
PART |= {"num_attention_heads": 2, "hidden_act": "quick_gelu"}
VISION = PART | {"image_size": PICTURE, "patch_size": 14, "num_channels": 3}


def textured(size: tuple[int, int], seed: int = 0, grain: int = 4) -> Tensor:
    """(1, 3, *size): smooth noise whose blobs are about `grain` pixels wide."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, size[0] // grain + 2, size[1] // grain + 2, generator=generator)
    return F.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


def shifted(pictures: Tensor, dx: float, dy: float) -> Tensor:
    """Moved by so many pixels to the right and down."""
    flow = torch.tensor([-dx, -dy]).view(1, 2, 1, 1).expand(len(pictures), 2, *pictures.shape[2:])
    return warp(pictures, flow, "bicubic").clamp(0, 1)


def pan(frames: int, size: tuple[int, int], dx: float, dy: float) -> Tensor:
    """What one sees of a texture that moves by dx, dy pixels a frame."""
    ground = textured((size[0] + 2 * MARGIN, size[1] + 2 * MARGIN))
    whole = torch.cat([shifted(ground, dx * frame, dy * frame) for frame in range(frames)])
    return whole[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def shape_on_ground(frames: int, dx: float, size: int = 96, radius: float = 16) -> tuple[Tensor, Tensor]:
    """A textured disc that moves over flat ground, and where it is: (frames, size, size), true well inside of it."""
    texture = textured((size, size), grain=3)
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    clip, inner = [], []
    for frame in range(frames):
        centre = size / 2 + dx * (frame - (frames - 1) / 2)
        depth = radius - torch.hypot(x - centre, y - size / 2)
        opacity = torch.sigmoid(2 * depth)
        clip.append(opacity * shifted(texture, dx * frame, 0) + (1 - opacity) * 0.85)
        inner.append(depth > 2)
    return torch.cat(clip), torch.stack(inner)


def vision_model(folder: Path, model_type: str = "clip_vision_model", projection_dim: int | None = WIDTH) -> Any:
    """ComfyUI's own, without weights yet, of a size that none of its loader's tables has."""
    import comfy.clip_vision  # here, since most that import this file know no ComfyUI

    config = VISION | {"model_type": model_type}
    if projection_dim:
        config["projection_dim"] = projection_dim
    file = folder / "clip_vision.json"
    file.write_text(json.dumps(config))
    return comfy.clip_vision.ClipVisionModel(str(file))
