"""Touches comfy. SparseCtrl: a ControlNet with temporal layers that sees pictures at a few frames of a clip.

"SparseCtrl: Adding Sparse Controls to Text-to-Video Diffusion Models" (arXiv 2311.16933, section 3).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import comfy.cldm.cldm
import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential
from torch import Tensor

from .formats import (
    CHOOSE,
    OTHER_NODE,
    SPARSE_CTRL,
    TABLE,
    V3,
    Keys,
    check_weights,
    damaged,
    incomplete,
    is_pe,
    read_config,
)
from .key_layouts import unwrap
from .loader import load_weights
from .motion_model import AttentionWindows, MotionModel, MotionModelConfig, sinusoids
from .unet import Slot, motion_hooks, unet_slots

CHOOSE_SPARSE_CTRL = "choose a SparseCtrl model, such as v3_sd15_sparsectrl_rgb.ckpt"
LATENTS = "controlnet_cond_embedding.weight"
"""The key of the one layer that takes latents of pictures; models that take the pictures themselves have several."""
TEXT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@dataclass(frozen=True)
class SparseCtrlConfig:
    """The layout of a SparseCtrl model; all of them have Stable Diffusion 1.5's blocks."""

    motion: MotionModelConfig
    text_features: int
    takes_latents: bool
    """Whether it sees pictures as latents (rgb), or as they are (scribble)."""
    heads: int = 8
    """Heads of its spatial attention."""

    def encoder(self) -> dict[str, Any]:
        """Return the arguments of ComfyUI's ControlNet, which takes from their lists."""
        channels = [level[0] for level in self.motion.down]
        attention = [1, 1] * (len(channels) - 1) + [0, 0]
        return {
            "image_size": 32,
            "in_channels": 4,
            "model_channels": channels[0],
            "hint_channels": 4,
            "num_res_blocks": [2] * len(channels),
            "channel_mult": [max(c // channels[0], 1) for c in channels],
            "transformer_depth": attention,
            "transformer_depth_output": [0] * 3 * len(channels),
            "transformer_depth_middle": 1,
            "context_dim": self.text_features,
            "num_heads": self.heads,
            "legacy": False,
            "use_spatial_transformer": True,
        }


class SparseControlNet(comfy.cldm.cldm.ControlNet):
    """ComfyUI's ControlNet with a motion model on its way down.

    Its hint is (b f) c h w: a picture and a mask of ones in frames that have one, zeros elsewhere. In place of the
    noisy latent it sees zeros.
    """

    def __init__(
        self, name: str, config: SparseCtrlConfig, dtype: torch.dtype, device: torch.device, operations: Any
    ) -> None:
        factory = {"dtype": dtype, "device": device}
        super().__init__(**config.encoder(), operations=operations, **factory)
        if config.takes_latents:
            conv = operations.Conv2d(5, self.model_channels, 3, padding=1, **factory)
            self.input_hint_block = TimestepEmbedSequential(conv)
        self.name, self.config = name, config
        self.motion = MotionModel(config.motion, operations=operations, **factory)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Return the places of its motion modules, which are looked up once."""
        return unet_slots(self)

    def forward(
        self,
        x: Tensor,
        hint: Tensor,
        timesteps: Tensor,
        context: Tensor,
        frames: int = 1,
        amounts: tuple[float, float] = (1.0, 1.0),
        windows: AttentionWindows | None = None,
        **_: Any,
    ) -> dict[str, list[Tensor]]:
        """Return what to add to the UNet's features, for x (b f) c h w with frames running fastest.

        `amounts` are strength and motion scale of the motion model.
        """
        with motion_hooks(self.slots, self.motion, frames, lambda *_: amounts, windows):
            return super().forward(torch.zeros_like(x), hint, timesteps, context)


def load_sparse_ctrl(path: str) -> SparseControlNet:
    """Load a SparseCtrl file in the type that ComfyUI chooses. ValueError, one sentence for the user, if it is none."""
    weights, metadata = load_weights(path)
    name = os.path.basename(path)
    config, state_dict = read_sparse_ctrl_file(weights, name, metadata)
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(state_dict), weight_dtype=comfy.utils.weight_dtype(state_dict)
    )
    model = SparseControlNet(name, config, dtype=dtype, device=torch.device("meta"), operations=comfy.ops.manual_cast)
    comfy.model_management.archive_model_dtypes(model)
    model.load_state_dict(state_dict, assign=True)
    return model


def read_sparse_ctrl_file(
    loaded: Any, name: str, metadata: Mapping[str, str] | None = None
) -> tuple[SparseCtrlConfig, dict[str, Tensor]]:
    """Return the layout and the weights, by the keys of `SparseControlNet`, that were loaded from the file `name`.

    Raises ValueError, one sentence for the user, for anything but a complete and finite SparseCtrl model.
    """
    keys = Keys(unwrap(loaded))
    refuse_others(keys, name)
    weights = {key: t for key, t in keys.state_dict.items() if not is_pe(key) or query_of(key) in keys.state_dict}
    config = read_sparse_ctrl_config(weights, keys.pe_length or V3.pe_length, name)
    heads = (metadata or {}).get("heads", "")  # of a trained one; its weights do not show how many there are
    if re.fullmatch("[1248]", heads):
        config = replace(config, heads=int(heads))
    own_keys, shapes = own_keys_and_shapes(config)
    if not keys.pe_length:
        weights |= {key: sinusoids(*shape[1:]) for key, shape in shapes.items() if is_pe(key)}
    check_weights(weights, shapes, name)
    weights |= {key: t.to(torch.float32, copy=True) for key, t in weights.items() if is_pe(key)}
    return config, {own_keys[key]: t for key, t in weights.items()}


def refuse_others(keys: Keys, name: str) -> None:
    """Raise ValueError, with the node to use instead, unless these are the keys of a SparseCtrl for SD1.5."""
    kind = next(result for test, result in TABLE if test(keys))
    if not isinstance(kind, str):
        kind = f"a motion module, {OTHER_NODE} Load Motion Module"
    if kind != SPARSE_CTRL:
        kind = kind.replace("not a motion module", "not a SparseCtrl model").replace(CHOOSE, CHOOSE_SPARSE_CTRL)
        raise ValueError(f"{name} is {kind}.")
    if keys.levels == 3:
        raise ValueError(f"{name} is a SparseCtrl model for SDXL, which is not supported: {CHOOSE_SPARSE_CTRL}.")


def query_of(key: str) -> str:
    """Return the key of the queries beside a positional encoding, of which other layouts name one too many."""
    return key.replace("pos_encoder.pe", "to_q.weight")


def read_sparse_ctrl_config(weights: Mapping[str, Tensor], pe_length: int, name: str) -> SparseCtrlConfig:
    motion = read_config(weights, pe_length, family=V3, name=name)
    if not motion.down or TEXT not in weights:
        raise ValueError(incomplete(name, TEXT))
    if weights[TEXT].ndim != 2:
        raise ValueError(damaged(name, f"{TEXT} has the shape {list(weights[TEXT].shape)}"))
    down = tuple((level[0], level[0]) for level in motion.down)
    return SparseCtrlConfig(
        motion=replace(motion, down=down, mid=(), up=()),
        text_features=weights[TEXT].shape[1],
        takes_latents=LATENTS in weights,
    )


def own_keys_and_shapes(config: SparseCtrlConfig) -> tuple[dict[str, str], dict[str, torch.Size]]:
    """Return the network's own keys, and the shapes of its weights, by the keys of files in the original layout."""
    device, operations = torch.device("meta"), comfy.ops.disable_weight_init
    model = SparseControlNet("", config, dtype=torch.float32, device=device, operations=operations)
    layers = {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(len(model.zero_convs))}
    layers["controlnet_mid_block"] = "middle_block_out.0"
    embedding = [""] if config.takes_latents else [".conv_in", *(f".blocks.{i}" for i in range(6)), ".conv_out"]
    layers |= {f"controlnet_cond_embedding{n}": f"input_hint_block.{2 * i}" for i, n in enumerate(embedding)}
    keys = comfy.utils.unet_to_diffusers(config.encoder())
    keys |= {f"{theirs}.{end}": f"{own}.{end}" for theirs, own in layers.items() for end in ("weight", "bias")}
    keys |= {key: f"motion.{key}" for key in model.motion.state_dict()}
    weights = model.state_dict()
    keys = {theirs: own for theirs, own in keys.items() if own in weights}
    return keys, {theirs: weights[own].shape for theirs, own in keys.items()}
