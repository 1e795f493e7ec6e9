"""diffusers as the oracle: the same weights in code that nobody here wrote.

diffusers differs from the official SD1.5 code in one point: its motion modules normalise over all frames. The oracle
gets per-frame statistics there, and for v1 statistics over frames in the ResNet blocks, which diffusers lacks.
"""

from __future__ import annotations

import re

import comfy.utils
from comfy_support import CHANNELS, CONTEXT, unet_config
from diffusers import UNetMotionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

RENAMES = (
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)


class PerFrame(nn.GroupNorm):
    """A motion module's norm, given b c f h w, as the official code computes it."""

    def forward(self, x: Tensor) -> Tensor:
        b, f = x.shape[0], x.shape[2]
        return super().forward(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, f)).transpose(1, 2)


class OverFrames(nn.GroupNorm):
    """A ResNet block's norm, given (b f) c h w, as v1 was trained with it."""

    frames = 0

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        return super().forward(x).transpose(1, 2).flatten(0, 1)


def rename(key: str) -> str:
    """An original motion key in diffusers' words."""
    for old, new in RENAMES:
        key = key.replace(old, new)
    return re.sub(r"\.attn\d\.pos_encoder\.pe", ".pos_embed.pe", key)


def make_oracle(unet: nn.Module, motion: dict[str, Tensor], *, per_frame: bool = True) -> UNetMotionModel:
    """A diffusers UNet with the weights of ComfyUI's `unet` and of a motion model in the original layout."""
    oracle = UNetMotionModel(
        block_out_channels=CHANNELS,
        cross_attention_dim=CONTEXT,
        num_attention_heads=8,
        motion_num_attention_heads=8,
        motion_max_seq_length=next(t.shape[1] for key, t in motion.items() if key.endswith(".pe")),
        use_motion_mid_block=any(key.startswith("mid_block") for key in motion),
        layers_per_block=2,
        norm_num_groups=32,
    ).eval()
    spatial, weights = comfy.utils.unet_to_diffusers(unet_config()), unet.state_dict()
    state_dict = {theirs: weights[ours] for theirs, ours in spatial.items() if ours in weights}
    state_dict |= {rename(key): tensor for key, tensor in motion.items()}
    expected = oracle.state_dict()
    oracle.load_state_dict({key: tensor for key, tensor in state_dict.items() if key in expected}, strict=True)
    if per_frame:
        for module in oracle.modules():
            if isinstance(module, AnimateDiffTransformer3D):
                module.norm.__class__ = PerFrame
    return oracle


def res_norms_over_frames(oracle: UNetMotionModel, frames: int) -> None:
    """The official configuration of v1, `use_inflated_groupnorm: false`."""
    blocks = [module for module in oracle.modules() if isinstance(module, ResnetBlock2D)]
    for norm in [*(norm for block in blocks for norm in (block.norm1, block.norm2)), oracle.conv_norm_out]:
        norm.__class__ = OverFrames
        norm.frames = frames


def predict(oracle: UNetMotionModel, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """The oracle's noise for frames x, (f, c, h, w), of one clip under one prompt, (1, tokens, features)."""
    frames = x.shape[0]
    clip = x.transpose(0, 1).unsqueeze(0)
    noise = oracle(clip, timestep.reshape(1), encoder_hidden_states=context.repeat_interleave(frames, 0)).sample
    return noise.squeeze(0).transpose(0, 1)


def relative_error(x: Tensor, reference: Tensor) -> float:
    return ((x - reference).norm() / reference.norm()).item()
