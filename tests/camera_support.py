"""CameraCtrl files under their published keys, and the paper's formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from comfy_support import CHANNELS
from torch import Tensor

from animatediff_native.motion_models.loader import LoadedMotionModel
from animatediff_native.sampling.camera import follow_camera
from animatediff_native.sampling.camera_path import CameraPath

HEADS, LENGTH = 8, 16
PATH = "0: still\n-1: pan 60 up 2 forward 3"


def sinusoids(length: int, channels: int) -> Tensor:
    angles = torch.arange(length)[:, None] / 10000.0 ** (torch.arange(0, channels, 2) / channels)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None]


def camera_weights(channels: tuple[int, ...] = CHANNELS, seed: int = 3) -> dict[str, Tensor]:
    """Random weights, none of which is zero, so that all of them count."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) / (shape[-1] * max(shape[1], 1)) ** 0.5
        if bias:
            weights[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)

    def norm(name: str, c: int) -> None:
        weights[f"{name}.weight"] = 1.0 + 0.1 * torch.randn(c, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(c, generator=generator)

    layer("encoder_conv_in", channels[0], 384, 3, 3)
    for i, c in enumerate(channels):
        before = channels[max(i - 1, 0)]
        if before != c:
            layer(f"encoder_down_conv_blocks.{i}.0.in_conv", c, before, 1, 1)
        for j in range(2):
            layer(f"encoder_down_conv_blocks.{i}.{j}.block1", c, c, 3, 3)
            layer(f"encoder_down_conv_blocks.{i}.{j}.block2", c, c, 1, 1)
            block = f"encoder_down_attention_blocks.{i}.{j}"
            for name in ("to_q", "to_k", "to_v"):
                layer(f"{block}.attention_blocks.0.{name}", c, c, bias=False)
            layer(f"{block}.attention_blocks.0.to_out.0", c, c)
            weights[f"{block}.attention_blocks.0.pos_encoder.pe"] = sinusoids(LENGTH, c)
            norm(f"{block}.norms.0", c)
            norm(f"{block}.ff_norm", c)
            layer(f"{block}.ff.net.0.proj", 8 * c, c)
            layer(f"{block}.ff.net.2", c, 4 * c)
    for direction, modules, levels in (("down", 2, channels), ("up", 3, channels[::-1])):
        for i, c in enumerate(levels):
            for j in range(modules):
                layer(merge_key(f"{direction}_blocks.{i}.motion_modules.{j}"), c, c)
    return weights


def merge_key(module: str) -> str:
    return f"{module}.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.qkv_merge"


def published(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """As the authors' file has them."""
    encoder = {key: t for key, t in weights.items() if key.startswith("encoder")}
    return {
        "pose_encoder_state_dict": encoder,
        "attention_processor_state_dict": {key: t for key, t in weights.items() if key not in encoder},
    }


def follow(
    folder: Path, motion: LoadedMotionModel, text: str = PATH, channels: tuple[int, ...] = CHANNELS, **options: Any
) -> LoadedMotionModel:
    """A motion model with a camera's way, from a file that is written and loaded as a user does."""
    path = folder / "CameraCtrl_pruned.safetensors"
    if not path.exists():
        safetensors.torch.save_file(camera_weights(channels), path)
    return follow_camera(motion, str(path), path=CameraPath.parse(text), **options)


def encoded(w: dict[str, Tensor], rays: Tensor) -> list[Tensor]:
    """The encoder in words of functions: f 6 8h 8w to f c h w for each level (section 3.2, figure 2)."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def attention(x: Tensor, name: str) -> Tensor:
        y = norm(x, f"{name}.norms.0") + w[f"{name}.attention_blocks.0.pos_encoder.pe"][:, : x.shape[1]]
        q, k, v = (
            linear(y, f"{name}.attention_blocks.0.{part}").unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in ("to_q", "to_k", "to_v")
        )
        scores = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + linear((scores @ v).transpose(1, 2).flatten(2), f"{name}.attention_blocks.0.to_out.0")
        value, gate = linear(norm(x, f"{name}.ff_norm"), f"{name}.ff.net.0.proj").chunk(2, dim=-1)
        return x + linear(value * F.gelu(gate), f"{name}.ff.net.2")

    x, features = conv(F.pixel_unshuffle(rays, 8), "encoder_conv_in", padding=1), []
    levels = sum(".1.block1.weight" in key for key in w)
    for i in range(levels):
        for j in range(2):
            if i > 0 and j == 0:  # odd sizes are rounded up, as by the UNet
                h, width = x.shape[-2:]
                x = F.avg_pool2d(F.pad(x, (0, width % 2, 0, h % 2), mode="replicate"), 2)
            if (name := f"encoder_down_conv_blocks.{i}.{j}") and f"{name}.in_conv.weight" in w:
                x = conv(x, f"{name}.in_conv")
            x = x + conv(conv(x, f"{name}.block1", padding=1).relu(), f"{name}.block2")
            f, c, h, width = x.shape
            tokens = attention(x.permute(2, 3, 0, 1).flatten(0, 1), f"encoder_down_attention_blocks.{i}.{j}")
            x = tokens.view(h, width, f, c).permute(2, 3, 0, 1)
        features.append(x)
    return features
