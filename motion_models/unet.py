"""Touches comfy. Where a motion model sits in ComfyUI's UNet, and the UNet norms that v1 computes over frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, Upsample
from torch import nn

Block = tuple[str, int]


@dataclass(frozen=True)
class Slot:
    """A place for a motion module: its path in the motion model and the layer it follows."""

    name: str
    after: type[nn.Module]
    channels: int


def unet_slots(unet: nn.Module) -> dict[Block, Slot]:
    """Every place for a motion module, by the block's name in `transformer_options["block"]`.

    A module follows the SpatialTransformer of its block, or the ResBlock where there is none, and comes before an
    Upsample (arXiv 2307.04725, section 4.2). A UNet without such blocks gives an empty table.
    """
    if not all(hasattr(unet, name) for name in ("input_blocks", "middle_block", "output_blocks")):
        return {}
    slots: dict[Block, Slot] = {}
    for side, blocks, name in (("input", unet.input_blocks, "down_blocks"), ("output", unet.output_blocks, "up_blocks")):
        level = index = 0
        for i, block in enumerate(blocks):
            if has(block, ResBlock):
                slots[side, i] = slot(f"{name}.{level}.motion_modules.{index}", block)
                index += 1
            if has(block, Downsample) or has(block, Upsample):
                level, index = level + 1, 0
    if unet.middle_block is not None:
        slots["middle", 0] = slot("mid_block.motion_modules.0", unet.middle_block)
    return slots


def has(block: nn.Module, layer_type: type[nn.Module]) -> bool:
    return any(isinstance(layer, layer_type) for layer in block)


def slot(name: str, block: nn.Module) -> Slot:
    channels = next(layer.out_channels for layer in block if isinstance(layer, ResBlock))
    return Slot(name, SpatialTransformer if has(block, SpatialTransformer) else ResBlock, channels)


@contextmanager
def group_norms_over_frames(unet: nn.Module, frames: int) -> Iterator[None]:
    """Within the context, the ResBlocks' norms and the UNet's last norm take their statistics over all frames of a
    cond, as v1 was trained (the official configuration's `use_inflated_groupnorm: false`); no other norm does."""

    def fold(_, args: tuple[torch.Tensor, ...]):
        x = args[0]
        n, c, h, w = x.shape
        return (x.view(-1, frames, c, h, w).transpose(1, 2).reshape(-1, c, frames * h, w),)

    def unfold(_, args: tuple[torch.Tensor, ...], out: torch.Tensor):
        b, c, fh, w = out.shape
        return out.view(b, c, frames, fh // frames, w).transpose(1, 2).reshape(b * frames, c, fh // frames, w)

    norms = [norm for m in unet.modules() if isinstance(m, ResBlock) for norm in (m.in_layers[0], m.out_layers[0])]
    hooks = []
    try:
        for norm in [*norms, unet.out[0]]:
            hooks += [norm.register_forward_pre_hook(fold), norm.register_forward_hook(unfold)]
        yield
    finally:
        for hook in hooks:
            hook.remove()
