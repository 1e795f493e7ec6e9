"""Touches comfy. A camera's way in a sampling run, as motion models see it that were given a CameraCtrl.

The encoder was trained on clips whose first camera stands in the origin, with frames counted from there. So each
context window is such a clip, as in ComfyUI-AnimateDiff-Evolved.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion_models.camera_ctrl import CELL, CameraCtrl, check_fits, load_camera_ctrl
from ..motion_models.motion_model import AttentionWindows, Merge
from .calls import CallFrames
from .camera_path import CameraPath
from .cameras import Cameras, plucker_embedding
from .curves import Curve
from .strength import Area, Factor
from .windows import fuse_weights, windows

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..motion_models.loader import LoadedMotionModel

MOST_WINDOWS = 64
"""Windows whose features are remembered, about 5 GB of main memory at 512 x 512."""


@dataclass(frozen=True, eq=False)
class CameraSettings:
    """What a motion model follows a camera with."""

    patcher: ModelPatcher
    path: CameraPath
    strength: float | Curve = 1.0
    """Scales what the features of the camera change."""


def follow_camera(
    motion: LoadedMotionModel, file: str, path: CameraPath, strength: float | Curve = 1.0
) -> LoadedMotionModel:
    """Return a motion model that follows a camera's way, with the CameraCtrl in a file.

    ValueError, one sentence for the user, if the file does not fit, or the model follows a camera already.
    """
    if motion.camera is not None:
        raise ValueError(f"{motion.name} follows a camera already: connect only one Load CameraCtrl.")
    patcher = load_camera_ctrl(file)
    network: Any = patcher.model
    check_fits(network, os.path.basename(file), motion)
    return replace(motion, camera=CameraSettings(patcher, path, strength))


@dataclass(frozen=True, eq=False)
class ClipCamera:
    """The cameras of one clip in one sampling run, for one motion model."""

    cameras: Cameras
    strength: Factor
    features: dict[Any, list[Tensor]] = field(default_factory=dict)
    """What the encoder makes of the cameras of a window, f c h w for each level."""

    @classmethod
    def begin(cls, settings: CameraSettings | None, levels: Sequence[str], noise: Tensor) -> ClipCamera | None:
        """Return them for noise (f, c, h, w); None without a camera, or where it changes nothing."""
        if settings is None:
            return None
        size = (noise.shape[-2], noise.shape[-1])
        strength = Factor.product([settings.strength], (), levels=levels, frames=len(noise), latent_size=size)
        camera = cls(settings.path.cameras(len(noise)), strength)
        return camera if any(strength.over_sampling) else None

    def view(self, network: CameraCtrl, call: CallFrames, attention: AttentionWindows | None, **places: Any) -> View:
        """Return what a UNet call sees; `attention` are the windows inside motion modules, and `places` the fields of
        `View` of these names."""
        frames = call.frames if attention is None else attention.frames.tolist()
        length = call.length if attention is None else attention.length
        segments = tuple(tuple(frames[start : start + length]) for start in range(0, len(frames), length))
        return View(self, network, call, segments, side_by_side=attention is not None, **places)

    def features_of(self, network: CameraCtrl, window: tuple[int, ...], area: Area, like: Tensor) -> list[Tensor]:
        """Return the encoder's features of a window in an area of the latent; those of windows wait in main memory."""
        key = (window, area, like.device)
        if key not in self.features:
            (height, width), h, w, top, left = area
            cameras = Cameras(*(of_clip[list(window)] for of_clip in self.cameras))
            rays = plucker_embedding(cameras, CELL * height, CELL * width, like.device)
            rays = rays[..., CELL * top : CELL * (top + h), CELL * left : CELL * (left + w)]
            whole = window == tuple(range(len(self.cameras.lenses)))  # unlike the turns of a closed loop
            features = network(rays.to(like.dtype), encoder_windows(len(window), network.config.pe_length, like.device))
            while len(self.features) >= MOST_WINDOWS:
                self.features.pop(next(iter(self.features)))
            self.features[key] = [level if whole else level.cpu() for level in features]
        return self.features[key]


def encoder_windows(frames: int, length: int, device: torch.device) -> AttentionWindows | None:
    """Return windows inside the encoder for more frames than it has positions for, each half over the next."""
    if frames <= length:
        return None
    parts = windows("static", frames, length, length // 2)
    return AttentionWindows.of(parts, fuse_weights("pyramid", parts, frames, length // 2), device)


@dataclass(frozen=True, eq=False)
class View:
    """What one UNet call sees of the cameras."""

    camera: ClipCamera
    network: CameraCtrl
    call: CallFrames
    segments: tuple[tuple[int, ...], ...]
    """Frames of each window."""
    side_by_side: bool
    """Whether all windows are in each row of the motion modules' tokens, not in rows of their own."""
    areas: Sequence[Area | None]
    """Of each cond."""
    size: tuple[int, int]
    """Of the whole latent."""
    moment: int = 0

    def merges(self) -> Callable[[str, Tensor], Merge | None]:
        """Return the function that gives what a motion module's first attention sees, for its name and features."""
        amount = self.camera.strength.in_call(self.call, self.moment, self.areas)
        tokens_of = functools.cache(self.tokens)

        def merge_of(name: str, x: Tensor) -> Merge | None:
            layer = self.network.merge_of(name)
            if layer is None or self.camera.strength.at(self.moment) == 0.0:
                return None
            number = amount(name, x)
            rows = self.numbers(number, x) if isinstance(number, Tensor) else None
            features = tokens_of(self.level_of(name), (x.shape[-2], x.shape[-1]), x.device, x.dtype)
            windows_in_row = len(self.segments) if self.side_by_side else 1

            def merge(tokens: Tensor, row: int) -> Tensor:
                at = torch.arange(row, row + len(tokens) // windows_in_row, device=tokens.device)
                seen = features[at % len(features)].view(tokens.shape).to(tokens.dtype)
                scale = number if rows is None else rows[at].view(*tokens.shape[:2], 1)
                return tokens + layer(tokens + seen) * scale

            return merge

        return merge_of

    def level_of(self, name: str) -> int:
        level = int(name.split(".")[1])
        return level if name.startswith("down_blocks") else len(self.network.config.channels) - 1 - level

    def tokens(self, level: int, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the features in rows of pixels, as motion modules have them: rows f c.

        Prompts share them, unless they see areas of their own.
        """
        like = torch.empty(0, device=device, dtype=dtype)
        whole = (self.size, *self.size, 0, 0)
        of_areas = []
        for area in self.areas if any(self.areas) else [None]:
            of_windows = []
            for window in self.segments:
                features = self.camera.features_of(self.network, window, area or whole, like)[level].to(like)
                if features.shape[-2:] != size:  # another node samples the UNet's inner levels smaller
                    features = F.interpolate(features, size, mode="bilinear")
                of_windows.append(features.flatten(2).permute(2, 0, 1))
            of_areas.append(torch.cat(of_windows, dim=1 if self.side_by_side else 0))
        return torch.cat(of_areas)

    def numbers(self, number: Tensor, x: Tensor) -> Tensor:
        """Return strengths, (b f) 1 h w or 1 1, in rows of pixels: rows f."""
        f, (h, w) = self.call.length, x.shape[-2:]
        number = number.expand(len(x), 1, h, w).reshape(-1, f, h * w).transpose(1, 2).reshape(-1, f)
        return number[:, [frame for window in self.segments for frame in window]] if self.side_by_side else number
