"""Motion LoRA files in the spellings that they are published in, and the weights that ComfyUI makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers_oracle as oracle
import safetensors.torch
import torch
from comfy_support import CHANNELS, CPU, motion_state_dict
from torch import Tensor

RANK = 4
Change = dict[str, tuple[Tensor, Tensor]]  # layer of a motion model -> up, down


def change(
    family: str = "v2", feed_forward: bool = False, seed: int = 3, channels: tuple[int, ...] = CHANNELS
) -> Change:
    """A random low-rank change of all attention layers of a family, and of the feed-forward ones if asked for."""
    generator = torch.Generator().manual_seed(seed)
    parts = (".to_", ".ff.net.") if feed_forward else (".to_",)
    shapes = {
        key.removesuffix(".weight"): tensor.shape
        for key, tensor in motion_state_dict(family, channels=channels).items()
        if key.endswith(".weight") and any(part in key for part in parts)
    }
    return {
        layer: (torch.randn(o, RANK, generator=generator) / o, torch.randn(RANK, i, generator=generator))
        for layer, (o, i) in shapes.items()
    }


def official(layer: str) -> tuple[str, str]:
    block, name = layer.removesuffix(".0").rsplit(".", 1)
    return f"{block}.processor.{name}_lora.up.weight", f"{block}.processor.{name}_lora.down.weight"


def motion_director(layer: str) -> tuple[str, str]:
    """Puts `processor` before the last part of any layer's name."""
    block, name = layer.rsplit(".", 1)
    return f"{block}.processor.{name}_lora.up.weight", f"{block}.processor.{name}_lora.down.weight"


def diffusers(layer: str) -> tuple[str, str]:
    block, name = oracle.rename(layer + ".").rstrip(".").removesuffix(".0").rsplit(".", 1)
    return f"unet.{block}.processor.{name}_lora.up.weight", f"unet.{block}.processor.{name}_lora.down.weight"


def peft(layer: str) -> tuple[str, str]:
    layer = oracle.rename(layer + ".").rstrip(".")
    return f"unet.{layer}.lora_B.weight", f"unet.{layer}.lora_A.weight"


def kohya(layer: str) -> tuple[str, str]:
    layer = f"lora_unet_{layer.replace('.', '_')}"
    return f"{layer}.lora_up.weight", f"{layer}.lora_down.weight"


SPELLINGS: dict[str, tuple[bool, Callable[[str], tuple[str, str]]]] = {
    "official": (False, official),
    "MotionDirector": (True, motion_director),
    "diffusers": (False, diffusers),
    "PEFT": (True, peft),
    "kohya": (True, kohya),
}


def write(file: Path, layers: Change, spelling: Callable[[str], tuple[str, str]], extra: dict | None = None) -> str:
    state_dict = {
        name: tensor for layer, pair in layers.items() for name, tensor in zip(spelling(layer), pair, strict=True)
    } | (extra or {})
    if file.suffix == ".ckpt":
        torch.save({"state_dict": state_dict, "animatediff_config": {}}, file)
    else:
        safetensors.torch.save_file(state_dict, file)
    return str(file)


def weights(motion: Any) -> dict[str, Tensor]:
    """The weights that ComfyUI computes from a motion model and the patches on it."""
    motion.patcher.patch_model(device_to=CPU)
    patched = {key: tensor.clone() for key, tensor in motion.patcher.model.state_dict().items()}
    motion.patcher.unpatch_model()
    return patched
