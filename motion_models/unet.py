"""Touches comfy. Where motion modules sit in ComfyUI's UNet, and how they run there for the length of one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, Upsample
from torch import Tensor, nn

if TYPE_CHECKING:
    from .motion_model import Amount, AttentionWindows, MotionModel


class Slot(NamedTuple):
    """A place for a motion module: its path in the motion model, and the layer of the UNet that it follows."""

    name: str
    layer: nn.Module
    channels: int


def unet_slots(unet: Any) -> list[Slot]:
    """Every place for a motion module; none in a UNet that is not built like Stable Diffusion's.

    A module follows the SpatialTransformer of its block, or the ResBlock where there is none, and so comes before an
    Upsample and before the features are kept for the way up (arXiv 2307.04725, section 4.2).
    """
    if not all(hasattr(unet, name) for name in ("input_blocks", "middle_block", "output_blocks")):
        return []
    slots = []
    for way, blocks in (("down_blocks", unet.input_blocks), ("up_blocks", unet.output_blocks)):
        level = index = 0
        for block in blocks:
            if find(block, ResBlock):
                slots.append(make_slot(f"{way}.{level}.motion_modules.{index}", block))
                index += 1
            if find(block, Downsample) or find(block, Upsample):
                level, index = level + 1, 0
    if unet.middle_block is not None:
        slots.append(make_slot("mid_block.motion_modules.0", unet.middle_block))
    return slots


def make_slot(name: str, block: Any) -> Slot:
    res_block = find(block, ResBlock)
    return Slot(name, find(block, SpatialTransformer) or res_block, res_block.out_channels)


def find(block: nn.Module, layer_type: type[nn.Module]) -> Any:
    return next((layer for layer in block.children() if isinstance(layer, layer_type)), None)


def full_strength(_slot: str, _features: Tensor) -> tuple[Amount, Amount]:
    return 1.0, 1.0


@contextmanager
def motion_in_unet(
    unet: Any,
    motion_model: MotionModel,
    frames: int,
    strength: Callable[[str, Tensor], tuple[Amount, Amount]] = full_strength,
    windows: AttentionWindows | None = None,
) -> Iterator[None]:
    """Within the context, the output of each slot's layer goes through its motion module; see `MotionModule.forward`.
    `strength` gives effect and scale for a slot's name and its features.

    By PyTorch's forward hooks, taken off again however the context ends. ComfyUI's `forward_timestep_embed_patch` would
    do the same, but 0.18 does not ask it for these layers, and of several patches for a layer it runs only the first.
    """
    places = motion_model.config.channels_by_name()

    def hook(slot: Slot):
        module = motion_model.get_submodule(slot.name)
        return lambda _layer, _args, out: module(out, frames, *strength(slot.name, out), windows)

    with ExitStack() as hooks:
        for slot in unet_slots(unet):
            if slot.name in places:
                hooks.callback(slot.layer.register_forward_hook(hook(slot)).remove)
        yield


@contextmanager
def group_norms_over_frames(unet: Any, frames: int) -> Iterator[None]:
    """Within the context, the ResBlocks' norms and the UNet's last norm take their statistics over all frames of a
    cond, as v1 was trained (the official configuration's `use_inflated_groupnorm: false`); no other norm does."""

    def fold(_norm: nn.Module, args: tuple[Tensor, ...]):
        c, h, w = args[0].shape[1:]
        return (args[0].reshape(-1, frames, c, h, w).transpose(1, 2).reshape(-1, c, frames * h, w),)

    def unfold(_norm: nn.Module, _args: tuple[Tensor, ...], out: Tensor):
        b, c, fh, w = out.shape
        return out.reshape(b, c, frames, fh // frames, w).transpose(1, 2).reshape(b * frames, c, fh // frames, w)

    res_blocks = [layer for layer in unet.modules() if isinstance(layer, ResBlock)]
    with ExitStack() as hooks:
        for norm in [*(norm for r in res_blocks for norm in (r.in_layers[0], r.out_layers[0])), unet.out[0]]:
            hooks.callback(norm.register_forward_pre_hook(fold).remove)
            hooks.callback(norm.register_forward_hook(unfold).remove)
        yield
