"""diffusers as the oracle: the same weights in code that nobody here wrote.

diffusers differs from the official SD1.5 code in one point: its motion modules normalise over all frames. The oracle
gets per-frame statistics there, and for v1 statistics over frames in the ResNet blocks, which diffusers lacks.
"""

from __future__ import annotations

import re
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy_support import CHANNELS, CONTEXT, POOLED, SDXL_CHANNELS, conditioning, sdxl_config, unet_config
from diffusers import UNetMotionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

FRAMES, CFG, TIMESTEP = 6, 3.0, 500
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


SDXL: dict[str, Any] = {
    "block_out_channels": SDXL_CHANNELS,
    "num_attention_heads": (1, 1, 2),  # of 64 channels each
    "down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
    "up_block_types": ("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
    "transformer_layers_per_block": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": POOLED + 6 * 256,
}


def make_oracle(unet: Any, motion: dict[str, Tensor], *, per_frame: bool = True) -> UNetMotionModel:
    """A diffusers UNet with the weights of ComfyUI's `unet` and of a motion model in the original layout."""
    is_sdxl = unet.num_classes == "sequential"
    with torch.device("meta"):  # it gets all its weights below
        oracle = UNetMotionModel(
            **(SDXL if is_sdxl else {"block_out_channels": CHANNELS, "num_attention_heads": 8}),
            cross_attention_dim=CONTEXT,
            motion_num_attention_heads=8,
            motion_max_seq_length=next(t.shape[1] for key, t in motion.items() if key.endswith(".pe")),
            use_motion_mid_block=any(key.startswith("mid_block") for key in motion),
            layers_per_block=2,
            norm_num_groups=32,
        ).eval()
    spatial = comfy.utils.unet_to_diffusers(sdxl_config() if is_sdxl else unet_config())
    weights = unet.state_dict()
    state_dict = {theirs: weights[ours] for theirs, ours in spatial.items() if ours in weights}
    state_dict |= {rename(key): tensor for key, tensor in motion.items() if ".motion_modules." in key}
    expected = oracle.state_dict()
    own = {key: tensor.clone() for key, tensor in state_dict.items() if key in expected}
    oracle.load_state_dict(own, strict=True, assign=True)
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


def predict(oracle: UNetMotionModel, x: Tensor, timestep: Tensor, prompt: list) -> Tensor:
    """The oracle's noise for frames x, (f, c, h, w), of one clip under one prompt, in ComfyUI's form."""
    frames, (context, options) = x.shape[0], prompt[0]
    size = 8.0 * x.shape[-1]  # of the picture: height, width, two crops, height and width again
    added = {"text_embeds": options["pooled_output"], "time_ids": torch.tensor([[size, size, 0, 0, size, size]])}
    noise = oracle(
        x.transpose(0, 1).unsqueeze(0),
        timestep.reshape(1),
        encoder_hidden_states=context.repeat_interleave(frames, 0),
        added_cond_kwargs=added,  # SD1.5 does not look at it
    ).sample
    return noise.squeeze(0).transpose(0, 1)


def compare_step(
    plain: Any, animated: Any, motion: dict[str, Tensor], *, per_frame: bool = True, res_over_frames: bool = False
) -> tuple[Tensor, Tensor]:
    """The noise that ComfyUI's sampler finds in FRAMES frames with an animated MODEL, and the noise that the oracle
    finds with the same weights. `plain` is the MODEL without motion, `motion` has the original layout."""
    predicted, x, timestep = noise_found(animated, CFG)
    oracle = make_oracle(plain.model.diffusion_model, motion, per_frame=per_frame)
    if res_over_frames:
        res_norms_over_frames(oracle, FRAMES)
    positive, negative = (predict(oracle, x, timestep, conditioning(seed)) for seed in (5, 6))
    return predicted, negative + (positive - negative) * CFG


def noise_found(model: Any, cfg: float) -> tuple[Tensor, Tensor, Tensor]:
    """One Euler step to zero from TIMESTEP: the noise that the sampler found, the UNet's input, the timestep."""
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.stack((sampling.sigmas[TIMESTEP], torch.zeros(())))
    noise = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    sampler = comfy.samplers.sampler_object("euler")
    latent = comfy.sample.sample_custom(
        model, noise, cfg, sampler, sigmas, conditioning(5), conditioning(6), torch.zeros_like(noise)
    )
    sigma, x = sigmas[0], noise * sigmas[0]
    denoised = model.model.process_latent_in(latent)
    return (x - denoised) / sigma, x / (sigma**2 + 1) ** 0.5, torch.tensor(TIMESTEP)


def relative_error(x: Tensor, reference: Tensor) -> float:
    return ((x - reference).norm() / reference.norm()).item()
