"""Touches comfy. The UNet under a motion model in training: frozen, and a copy, so that no graph sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, SpatialTransformer, UNetModel
from comfy.model_sampling import EDM, EPS, V_PREDICTION, X0
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..motion_models.saving import patched_weights
from ..sampling.prompt_blending import same_length
from .data import Prompt

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class CleanClips(NamedTuple):
    """The clips of a call without noise, for models that see some of their frames."""

    latents: Tensor
    """(b, f, c, h, w)."""
    generators: Sequence[torch.Generator]
    """The randomness of each clip."""


Moving = Callable[[int, CleanClips | None], AbstractContextManager[None]]
"""Puts motion into a UNet for the calls within the context, which hold this number of frames of each clip."""


@dataclass(frozen=True)
class FrozenUNet:
    """A UNet whose weights are not trained."""

    module: nn.Module
    moving: Moving = lambda _frames, _clips: nullcontext()
    predicts_velocity: bool = False
    """Whether it predicts the velocity instead of the noise."""
    label: Callable[[Tensor, int, int], Tensor | None] = lambda _pooled, _height, _width: None
    """Returns the conditions of a UNet like SDXL's beside the prompt: (b, p) pooled prompts and a size in pixels ->
    (b, n)."""

    def __call__(
        self, noisy: Tensor, time: Tensor, prompts: Sequence[Prompt], clips: CleanClips | None = None
    ) -> Tensor:
        """Return the prediction for noisy (b f) c h w at timesteps (b f), with one prompt for each clip."""
        frames = len(noisy) // len(prompts)
        context = torch.cat(same_length([prompt.context[None] for prompt in prompts])).to(noisy.device)
        label = None
        if prompts[0].pooled is not None:
            pooled = torch.stack([prompt.pooled for prompt in prompts if prompt.pooled is not None])
            label = self.label(pooled.to(noisy.device), *(8 * side for side in noisy.shape[2:]))
        label = None if label is None else label.to(noisy.device).repeat_interleave(frames, 0)
        context, options = context.repeat_interleave(frames, 0), {"optimized_attention_override": attention}
        with self.moving(frames, clips):
            return self.module(noisy, time.float(), context, y=label, transformer_options=options)


def attention(_chosen: Any, *args: Any, **options: Any) -> Tensor:
    """Return PyTorch's attention, since gradients may not flow through the one that the user chose."""
    return attention_pytorch(*args, **options)


def frozen_copy(model: ModelPatcher, device: torch.device, dtype: torch.dtype) -> FrozenUNet:
    """Return a copy of a MODEL's UNet, with the LoRAs on it in its weights; the MODEL is only read.

    ValueError for a model that is not Stable Diffusion.
    """
    base: Any = model.model
    shape, sampling = base.model_config.unet_config, model.get_model_object("model_sampling")
    if not isinstance(base.diffusion_model, UNetModel) or shape.get("in_channels") != 4:
        raise ValueError(
            f"This {type(base).__name__} model has no UNet in which motion modules could be trained: use a checkpoint "
            "of Stable Diffusion 1.5 or SDXL that is not for inpainting."
        )
    if not isinstance(sampling, EPS) or isinstance(sampling, (EDM, X0)):
        raise ValueError(
            "This MODEL predicts neither noise nor velocity: use a checkpoint of Stable Diffusion 1.5 or SDXL, without "
            "nodes that change what it predicts."
        )
    config = {**base.model_config.unet_config, "dtype": dtype, "device": torch.device("meta")}
    unet = UNetModel(**config, operations=comfy.ops.disable_weight_init)
    weights = patched_weights(model, "diffusion_model.")
    unet.load_state_dict({key: w.to(device, dtype, copy=True) for key, w in weights}, assign=True)
    for layer in unet.modules():
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm)):
            layer.float()  # autocast's other layers give bfloat16, and a CPU has no norm that mixes the two
    unet.requires_grad_(False).eval()

    def label(pooled: Tensor, height: int, width: int) -> Tensor | None:
        return base.encode_adm(pooled_output=pooled, width=width, height=height, device=pooled.device)

    return FrozenUNet(unet, predicts_velocity=isinstance(sampling, V_PREDICTION), label=label)


@contextmanager
def recomputed(*models: nn.Module) -> Iterator[None]:
    """Checkpoint gradients within the context: a third more time, a fraction of the memory.

    Only the inputs and outputs of the layers of a UNet and a motion model, both copies of our own, are kept; the rest
    is computed again in the backward pass.
    """
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
