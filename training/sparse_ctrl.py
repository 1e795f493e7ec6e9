"""Touches comfy. The training of a SparseCtrl: a ControlNet that sees pictures at a few frames of a clip.

It begins as a copy of the frozen UNet's encoder whose outputs are zero (arXiv 2311.16933, section 3.2), and its motion
modules as the first half of those on the UNet's way down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import comfy.ops
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy_extras.nodes_canny import Canny
from torch import Generator, Tensor, nn

from ..motion_models.motion_model import MotionModel
from ..motion_models.sparse_ctrl import SparseControlNet, SparseCtrlConfig
from .frozen_unet import attention

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

THRESHOLDS = 0.4, 0.8  # of the Canny node, its defaults


@dataclass(frozen=True)
class SparseCtrlOptions:
    """[sparse_ctrl] of a configuration."""

    __pydantic_config__ = {"extra": "forbid"}
    sees: Literal["rgb", "scribble"] = "rgb"
    """What its keyframes show: the frame as it is, or the edges that ComfyUI's Canny node finds in it."""
    keyframes: int = 4
    """Most keyframes of a clip in training; each clip shows a random number of them, at random frames."""
    start: Path | None = None
    """SparseCtrl file to fine-tune; without one, it starts from the image model."""


class ControlledUNet(nn.Module):
    """A frozen UNet with a SparseCtrl, whose `hint` and number of `frames` are set for each call."""

    def __init__(self, unet: nn.Module, control: SparseControlNet):
        super().__init__()
        self.unet, self.control = unet, control
        self.hint: Tensor = torch.empty(0)
        self.frames = 1

    def forward(self, noisy: Tensor, time: Tensor, context: Tensor, **conditions: Any) -> Tensor:
        control = self.control(noisy, self.hint, timesteps=time, context=context, frames=self.frames)
        return self.unet(noisy, time, context, control=control, **conditions)


def build(unet: Any, motion_model: MotionModel, sees: str) -> SparseControlNet:
    """Return a SparseCtrl with the weights of a UNet's encoder and of a motion model, and with outputs of zero."""
    config = SparseCtrlConfig(
        motion=replace(motion_model.config, mid=(), up=(), attentions=1, transformer_blocks=1),
        text_features=unet.input_blocks[1][1].transformer_blocks[0].attn2.to_k.in_features,
        takes_latents=sees == "rgb",
        heads=unet.input_blocks[1][1].transformer_blocks[0].attn1.heads,
    )
    control = SparseControlNet(
        "", config, dtype=torch.float32, device=torch.device("cpu"), operations=comfy.ops.disable_weight_init
    )
    layers = [layer for layer in control.input_hint_block if isinstance(layer, nn.Conv2d)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for layer in layers:
            nn.Conv2d.reset_parameters(layer)
    encoder = {key: value.float().cpu() for key, value in unet.state_dict().items()}
    motion = {f"motion.{key}": value.cpu() for key, value in motion_model.state_dict().items()}
    own = control.state_dict()
    control.load_state_dict({key: value for key, value in (encoder | motion).items() if key in own}, strict=False)
    for layer in (layers[-1], *control.zero_convs, control.middle_block_out):
        for parameter in layer.parameters():
            parameter.data.zero_()
    return control


def draw_keyframes(frames: int, most: int, generator: Generator) -> list[int]:
    """Return the keyframes of a clip: every second time the first frame or both ends, as people use them most."""
    kind = float(torch.rand((), generator=generator))
    count = 1 + int(torch.randint(min(most, frames), (), generator=generator))
    drawn = sorted(torch.randperm(frames, generator=generator)[:count].tolist())
    return [0] if kind < 0.25 else sorted({0, frames - 1}) if kind < 0.5 and most > 1 else drawn


def latent_hints(latents: Tensor, keyframes: Sequence[Sequence[int]]) -> Tensor:
    """Return latents (b, f, c, h, w) of the keyframes, zeros elsewhere, with a mask of ones: (b, f, c + 1, h, w)."""
    mask = torch.zeros_like(latents[:, :, :1])
    for clip, frames in zip(mask, keyframes, strict=True):
        clip[list(frames)] = 1.0
    return torch.cat((latents * mask, mask), dim=2)


def sketch_hints(model: ModelPatcher, vae: Any):
    """Return the function that does the same with the edges in the pictures, (b, f, 4, height, width)."""

    @torch.no_grad()
    def shown(latents: Tensor, keyframes: Sequence[Sequence[int]]) -> Tensor:
        chosen = torch.cat([clip[list(frames)] for clip, frames in zip(latents, keyframes, strict=True)])
        pictures = vae.decode(model.model.process_latent_out(chosen.cpu())).clamp(0.0, 1.0)
        edges = Canny.execute(pictures, *THRESHOLDS).args[0].movedim(-1, 1)
        hint = torch.zeros(*latents.shape[:2], 4, *edges.shape[2:])
        parts = edges.split([len(frames) for frames in keyframes])
        for clip, frames, sketches in zip(hint, keyframes, parts, strict=True):
            clip[list(frames)] = torch.cat((sketches, torch.ones_like(sketches[:, :1])), dim=1).to(clip)
        return hint.to(latents)

    return shown


@contextmanager
def pytorch_attention(control: SparseControlNet) -> Iterator[None]:
    """Let the control's layers use PyTorch's attention within the context, since others may have no gradients."""

    def use(_layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x, context, *_ = args
        return x, context, {"optimized_attention_override": attention}

    layers = [layer for layer in control.modules() if isinstance(layer, SpatialTransformer)]
    hooks = [layer.register_forward_pre_hook(use) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
