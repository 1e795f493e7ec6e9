"""Touches comfy. CameraCtrl: lets the temporal attention of a motion model see where the camera is in each frame.

"CameraCtrl: Enabling Camera Control for Text-to-Video Generation" (arXiv 2404.02101, section 3.2 and figure 2). An
encoder makes features of the camera's rays, one for each level of the UNet. In the first attention of every motion
module but the middle block's, a linear layer merges them with the features that queries, keys and values come from.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .formats import (
    CAMERA_CTRL,
    CHOOSE,
    LONGEST_ENCODING,
    OTHER_NODE,
    TABLE,
    V3,
    Keys,
    check_weights,
    damaged,
    incomplete,
    is_pe,
)
from .key_layouts import unwrap
from .loader import LoadedMotionModel, build_model, build_patcher, load_weights
from .motion_model import AttentionWindows, MotionModelConfig, TransformerBlock, chunk_rows, sinusoids
from .picture_inputs import EncoderBlock

CHOOSE_CAMERA_CTRL = "choose a CameraCtrl file, such as CameraCtrl.ckpt"
CELL = 8
"""Pixels of a side of what the VAE makes one of the latent."""
MERGE = re.compile(
    r"((?:down|up)_blocks\.\d\.motion_modules\.\d)\.temporal_transformer\.transformer_blocks\.0\.attention_blocks\.0\."
    r"processor\.qkv_merge\.(weight|bias)"
)
OWN = re.compile(r"encoder_(conv_in|down_conv_blocks\.\d\.\d|down_attention_blocks\.\d\.\d)\.")
LEVEL = re.compile(r"encoder_down_conv_blocks\.(\d)\.")


@dataclass(frozen=True)
class CameraCtrlConfig:
    channels: tuple[int, ...]
    """Of the UNet's levels."""
    pe_length: int = 16
    """Frames that the encoder sees at once."""

    @property
    def merges(self) -> dict[str, int]:
        """Return the channels of every motion module that sees the camera, by its path."""
        return MotionModelConfig.for_unet(self.channels, mid=False).channels_by_name()


class CameraCtrl(nn.Module):
    """The encoder of rays under the published keys, and the layers that merge its features with a motion model's."""

    def __init__(
        self,
        config: CameraCtrlConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        operations: Any = nn,
    ):
        super().__init__()
        self.config, self.dtype = config, dtype
        factory = {"dtype": dtype, "device": device}
        temporal = MotionModelConfig((), (), (), pe_length=config.pe_length, attentions=1)
        channels = config.channels
        self.encoder_conv_in = operations.Conv2d(6 * CELL**2, channels[0], 3, padding=1, **factory)
        self.encoder_down_conv_blocks, self.encoder_down_attention_blocks = nn.ModuleList(), nn.ModuleList()
        for level, (before, c) in enumerate(zip((channels[0], *channels), channels, strict=False)):
            blocks = (EncoderBlock(before, c, level > 0, operations, **factory),
                      EncoderBlock(c, c, False, operations, **factory))  # fmt: skip
            self.encoder_down_conv_blocks.append(nn.ModuleList(blocks))
            self.encoder_down_attention_blocks.append(
                nn.ModuleList(TransformerBlock(c, temporal, operations, **factory) for _ in blocks)
            )
        self.qkv_merge = nn.ModuleDict(
            {own_name(name): operations.Linear(c, c, **factory) for name, c in config.merges.items()}
        )

    def forward(self, rays: Tensor, windows: AttentionWindows | None = None) -> list[Tensor]:
        """Return the features of each level, f c h w, for Pluecker coordinates, f 6 and eight times h and w.

        Windows are needed for more frames than `pe_length`.
        """
        x = torch.cat([self.encoder_conv_in(F.pixel_unshuffle(frame, CELL)) for frame in rays.split(1)])
        features = []
        levels: Any = zip(self.encoder_down_conv_blocks, self.encoder_down_attention_blocks, strict=True)
        for convs, attentions in levels:
            for conv, attention in zip(convs, attentions, strict=True):
                x = conv(x)
                tokens = x.flatten(2).permute(2, 0, 1).contiguous()
                for chunk in tokens.split(chunk_rows(tokens)):  # exact: no operation crosses pixels
                    chunk.copy_(attention(chunk, 1.0, windows))
                x = tokens.permute(1, 2, 0).reshape(x.shape)
            features.append(x)
        return features

    def merge_of(self, name: str) -> nn.Module | None:
        """Return the layer for a motion module's path; None for the middle block's."""
        return None if name.startswith("mid_block") else self.qkv_merge[own_name(name)]


def own_name(name: str) -> str:
    return name.replace(".", "-")  # PyTorch's names have no dots


def load_camera_ctrl(path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Load a CameraCtrl file into a ModelPatcher. ValueError, one sentence for the user, if it holds something else."""
    config, state_dict = read_camera_ctrl_file(load_weights(path)[0], os.path.basename(path))
    model = build_model(CameraCtrl, config, state_dict)
    return build_patcher(model, path, reload=(load_camera_ctrl, (path,)), disable_dynamic=disable_dynamic)


def read_camera_ctrl_file(loaded: Any, name: str) -> tuple[CameraCtrlConfig, dict[str, Tensor]]:
    """Return the layout of the CameraCtrl that was loaded from the file `name`, and its weights by the network's keys.

    Raises ValueError, one sentence for the user, for anything but a complete and finite CameraCtrl.
    """
    keys = Keys(unwrap(loaded))
    kind = next(result for test, result in TABLE if test(keys))
    if kind != CAMERA_CTRL:
        kind = kind if isinstance(kind, str) else f"a motion module, {OTHER_NODE} Load Motion Module"
        kind = kind.replace("not a motion module", "not a CameraCtrl file").replace(CHOOSE, CHOOSE_CAMERA_CTRL)
        raise ValueError(f"{name} is {kind}.")
    weights = {MERGE.sub(own_key, key): t for key, t in keys.state_dict.items() if OWN.match(key) or MERGE.match(key)}
    config = CameraCtrlConfig(channels_of_levels(weights, name), keys_pe_length(weights))
    shapes = {key: w.shape for key, w in CameraCtrl(config, device=torch.device("meta")).state_dict().items()}
    weights |= {key: sinusoids(*shape[1:]) for key, shape in shapes.items() if is_pe(key) and key not in weights}
    check_weights(weights, shapes, name)
    return config, {key: t.to(torch.float32, copy=True) if is_pe(key) else t for key, t in weights.items()}


def own_key(match: re.Match[str]) -> str:
    return f"qkv_merge.{own_name(match[1])}.{match[2]}"


def channels_of_levels(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the channels of each level of the encoder. ValueError if they are missing or of no use."""
    levels = 1 + max((int(level) for key in weights for level in LEVEL.findall(key)), default=-1)
    keys = [f"encoder_down_conv_blocks.{level}.1.block1.weight" for level in range(max(levels, 1))]
    for key in keys:
        if key not in weights:
            raise ValueError(incomplete(name, key))
        if weights[key].ndim != 4 or not weights[key].shape[0] or weights[key].shape[0] % MotionModelConfig.heads:
            raise ValueError(damaged(name, f"{key} has the shape {list(weights[key].shape)}"))
    return tuple(weights[key].shape[0] for key in keys)


def keys_pe_length(weights: Mapping[str, Tensor]) -> int:
    """Return the length of the positional encoding, the published one's if the file has none."""
    lengths = (t.shape[1] for key, t in weights.items() if is_pe(key) and t.ndim == 3 and t.shape[1])
    return min(next(lengths, CameraCtrlConfig.pe_length), LONGEST_ENCODING)


def check_fits(network: CameraCtrl, name: str, motion: LoadedMotionModel) -> None:
    """Raise ValueError unless the motion model has a module wherever the camera is seen; log if it is not v3."""
    channels = motion.config.channels_by_name()
    channels.pop("mid_block.motion_modules.0", None)
    if channels != network.config.merges:
        raise ValueError(
            f"{name} is a CameraCtrl for Stable Diffusion 1.5, but {motion.name} is for {motion.family.base}, with "
            "other blocks: load a motion module such as v3_sd15_mm.ckpt."
        )
    if motion.family.name != V3.name:
        logging.info(
            f"AnimateDiff: {name} was trained with {V3.name}; {motion.name}, of {motion.family.name}, follows the "
            "camera less closely."
        )
