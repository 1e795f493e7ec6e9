"""Touches comfy. Find the places of motion modules in ComfyUI's UNet, and run them there for one call.

A caller finds the slots and norms of a UNet once, and hangs hooks on them around each call. A ControlNet is a UNet
without its way up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, Upsample
from torch import Tensor, nn

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .loader import LoadedMotionModel
    from .motion_model import Amount, AttentionWindows, MotionModel


class Slot(NamedTuple):
    """A place for a motion module: its path in the motion model, and the layer of the UNet that it follows."""

    name: str
    layer: nn.Module
    channels: int


def unet_slots(unet: Any) -> tuple[Slot, ...]:
    """Return every place for a motion module; none in a UNet that is not built like Stable Diffusion's.

    A module follows the SpatialTransformer of its block, or the ResBlock if there is none. It comes before an Upsample
    and before the skip connection to the way up (arXiv 2307.04725, section 4.2).
    """
    if not all(hasattr(unet, name) for name in ("input_blocks", "middle_block")):
        return ()
    slots = []
    ways = (("down_blocks", unet.input_blocks), ("up_blocks", getattr(unet, "output_blocks", ())))
    for direction, blocks in ways:
        level = index = 0
        for block in blocks:
            if find(block, ResBlock):
                slots.append(make_slot(f"{direction}.{level}.motion_modules.{index}", block))
                index += 1
            if find(block, Downsample) or find(block, Upsample):
                level, index = level + 1, 0
    if unet.middle_block is not None:
        slots.append(make_slot("mid_block.motion_modules.0", unet.middle_block))
    return tuple(slots)


def make_slot(name: str, block: Any) -> Slot:
    res_block = find(block, ResBlock)
    return Slot(name, find(block, SpatialTransformer) or res_block, res_block.out_channels)


def find(block: nn.Module, layer_type: type[nn.Module]) -> Any:
    return next((layer for layer in block.children() if isinstance(layer, layer_type)), None)


def check_base(model: ModelPatcher, motion: LoadedMotionModel) -> None:
    """Raise ValueError if the UNet's channels are not those that the motion model was made for."""
    expected = motion.config.channels_by_name()
    channels = {slot.name: slot.channels for slot in unet_slots(model.get_model_object("diffusion_model"))}
    if not motion.config.mid:
        channels.pop("mid_block.motion_modules.0", None)
    article = "an" if motion.family.name[0] in "AEIOU" else "a"
    kind = f"{motion.name} is {article} {motion.family.name} module for {motion.family.base}"
    if channels != expected:
        raise ValueError(
            f"{kind}, a UNet with {channels_of_levels(expected)} channels, but this {type(model.model).__name__} model "
            f"has {channels_of_levels(channels)}: use a checkpoint of the base it was made for."
        )
    if is_stable_diffusion_2(model):
        raise ValueError(
            f"{kind}, but this is a Stable Diffusion 2 model: use a checkpoint of the base it was made for."
        )


def is_stable_diffusion_2(model: ModelPatcher) -> bool:
    """Return whether the text encoder gives 1024 features a token; the channels are those of Stable Diffusion 1.5."""
    return model.model.model_config.unet_config.get("context_dim") == 1024


def channels_of_levels(channels_by_name: dict[str, int]) -> str:
    """Return the channels per level of the way down, for people: "320/640/1280/1280"."""
    down = {name.split(".")[1]: c for name, c in channels_by_name.items() if name.startswith("down_blocks.")}
    return "/".join(map(str, down.values())) or "no SD-like blocks"


def full_strength(_slot: str, _features: Tensor) -> tuple[Amount, Amount]:
    return 1.0, 1.0


@contextmanager
def motion_hooks(
    slots: Iterable[Slot],
    motion_model: MotionModel,
    frames: int,
    strength: Callable[[str, Tensor], tuple[Amount, Amount]] = full_strength,
    windows: AttentionWindows | None = None,
) -> Iterator[None]:
    """Pass the output of each slot's layer through its motion module within the context; see `MotionModule.forward`.

    `strength` returns the strength and the motion scale for a slot's name and features. A slot without a module in this
    motion model stays bare.

    The forward hooks are PyTorch's and are removed however the context ends. ComfyUI's `forward_timestep_embed_patch`
    is no alternative: 0.18 does not call it for these layers, and of several patches for a layer only the first runs.
    """
    names = motion_model.config.channels_by_name()

    def hook(slot: Slot):
        module = motion_model.get_submodule(slot.name)
        return lambda _layer, _args, out: module(out, frames, *strength(slot.name, out), windows)

    with ExitStack() as hooks:
        for slot in slots:
            if slot.name in names:
                hooks.callback(slot.layer.register_forward_hook(hook(slot)).remove)
        yield


def unet_norms(unet: Any) -> tuple[nn.Module, ...]:
    """Return the norms of a UNet's ResBlocks and its last norm: those that v1 was trained with over all frames."""
    res_blocks = (layer for layer in unet.modules() if isinstance(layer, ResBlock))
    return (*(norm for block in res_blocks for norm in (block.in_layers[0], block.out_layers[0])), unet.out[0])


@contextmanager
def group_norms_over_frames(norms: Iterable[nn.Module], frames: int) -> Iterator[None]:
    """Let these norms, within the context, take their statistics over all frames of a cond
    (`use_inflated_groupnorm: false` in the official configuration of v1)."""

    def fold(_norm: nn.Module, args: tuple[Tensor, ...]):
        c, h, w = args[0].shape[1:]
        return (args[0].reshape(-1, frames, c, h, w).transpose(1, 2).reshape(-1, c, frames * h, w),)

    def unfold(_norm: nn.Module, _args: tuple[Tensor, ...], out: Tensor):
        b, c, fh, w = out.shape
        return out.reshape(b, c, frames, fh // frames, w).transpose(1, 2).reshape(b * frames, c, fh // frames, w)

    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(fold).remove)
            hooks.callback(norm.register_forward_hook(unfold).remove)
        yield
