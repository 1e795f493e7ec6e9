"""Touches comfy. The image model under a motion model in training: frozen, and a copy, so that no graph sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, SpatialTransformer, UNetModel
from comfy.model_sampling import EDM, EPS, V_PREDICTION, X0
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .data import Prompt

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@dataclass(frozen=True)
class ImageModel:
    unet: nn.Module
    velocity: bool = False
    """It predicts the velocity, not the noise."""
    label: Callable[[Tensor, int, int], Tensor | None] = lambda _pooled, _height, _width: None
    """What a UNet like SDXL's is told beside the prompt: (b, p) pooled prompts and a size in pixels -> (b, n)."""

    def __call__(self, noisy: Tensor, time: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """The prediction for noisy (b f) c h w at timesteps (b f), with one prompt for each clip."""
        frames = len(noisy) // len(prompts)
        context = same_length([prompt.context for prompt in prompts]).to(noisy.device)
        label = None
        if prompts[0].pooled is not None:
            pooled = torch.stack([prompt.pooled for prompt in prompts if prompt.pooled is not None])
            label = self.label(pooled.to(noisy.device), *(8 * side for side in noisy.shape[2:]))
        label = None if label is None else label.to(noisy.device).repeat_interleave(frames, 0)
        options = {"optimized_attention_override": attention}
        return self.unet(
            noisy, time.float(), context.repeat_interleave(frames, 0), y=label, transformer_options=options
        )


def attention(_chosen: Any, *args: Any, **options: Any) -> Tensor:
    """Instead of the one that the user chose, through which no gradient may flow."""
    return attention_pytorch(*args, **options)


def same_length(contexts: list[Tensor]) -> Tensor:
    """(b, tokens, features) of prompts (tokens, features), repeated to one length, which changes no attention."""
    tokens = math.lcm(*(len(context) for context in contexts))
    return torch.stack([context.repeat(tokens // len(context), 1) for context in contexts])


def frozen_copy(
    model: ModelPatcher, weights: Iterable[tuple[str, Tensor]], device: torch.device, dtype: torch.dtype
) -> ImageModel:
    """A MODEL's UNet with `weights`, which are its own ones and the LoRAs on it; the MODEL itself is only read.
    ValueError for what is not Stable Diffusion."""
    base: Any = model.model
    shape, sampling = base.model_config.unet_config, model.get_model_object("model_sampling")
    if not isinstance(base.diffusion_model, UNetModel) or shape.get("in_channels") != 4:
        raise ValueError(
            f"This {type(base).__name__} model has no UNet in which motion modules could be trained: use a checkpoint "
            "of Stable Diffusion 1.5 or SDXL, and none for inpainting."
        )
    if not isinstance(sampling, EPS) or isinstance(sampling, (EDM, X0)):
        raise ValueError(
            "This MODEL predicts neither noise nor velocity: use a checkpoint of Stable Diffusion 1.5 or SDXL, and no "
            "node that makes it sample in another way."
        )
    config = {**base.model_config.unet_config, "dtype": dtype, "device": torch.device("meta")}
    unet = UNetModel(**config, operations=comfy.ops.disable_weight_init)
    unet.load_state_dict({key: w.to(device, dtype, copy=True) for key, w in weights}, assign=True)
    for layer in unet.modules():
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm)):
            layer.float()  # what comes out of autocast's other layers is bfloat16, and a CPU takes no norm of both
    unet.requires_grad_(False).eval()

    def label(pooled: Tensor, height: int, width: int) -> Tensor | None:
        return base.encode_adm(pooled_output=pooled, width=width, height=height, device=pooled.device)

    return ImageModel(unet, isinstance(sampling, V_PREDICTION), label)


@contextmanager
def recomputed(*models: nn.Module) -> Iterator[None]:
    """Within the context, keep only what goes in and out of the layers of a UNet and a motion model, both copies of our
    own, and compute the rest again in the backward pass: a third more time, a fraction of the memory."""
    layers = [
        layer
        for model in models
        for name, layer in model.named_modules()
        if isinstance(layer, (ResBlock, SpatialTransformer)) or name.endswith(".temporal_transformer")
    ]
    for layer in layers:
        own = layer.forward
        layer.forward = lambda *args, own=own, **kw: checkpoint(own, *args, use_reentrant=False, **kw)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
