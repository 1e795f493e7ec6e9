"""Trains the miniature text-to-image model: Stable Diffusion 1.5's UNet with 64 channels and a small text encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.ops
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from ..training.diffusion import TIMESTEPS, add_noise, alphas_cumprod
from ..training.loop import FitOptions, Training, seeded
from . import autoencoder, shapes
from .companion import companion

UNET = {  # what ComfyUI's detection derives from the checkpoint, and num_heads of the companion pack
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 64,
    "num_heads": 2,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}
BATCH = 48


class TextEncoder(nn.Module):
    """Turns prompts into token features (n, 16, 64)."""

    def __init__(self):
        super().__init__()
        self.words = companion().words
        self.model = CLIPTextModel(CLIPTextConfig(**self.words.TEXT_ENCODER))
        self.tokenizer = self.words.WordTokenizer()

    def forward(self, prompts: list[str]) -> Tensor:
        length = self.words.TEXT_ENCODER["max_position_embeddings"]
        ids = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        ids = [row + [self.words.TOKENS["<end>"]] * (length - len(row)) for row in ids]
        return self.model(torch.tensor(ids)).last_hidden_state


def build_unet() -> UNetModel:
    """Return a UNet with fresh weights. As in latent diffusion, the last layer of every residual branch is zero."""
    config: dict[str, Any] = {key: list(value) if isinstance(value, list) else value for key, value in UNET.items()}
    unet = UNetModel(**config, operations=comfy.ops.disable_weight_init)
    for module in unet.modules():  # ComfyUI's layers skip their own initialisation
        for layer_type in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm):
            if isinstance(module, layer_type):
                super(type(module), module).reset_parameters()  # type: ignore[attr-defined]
    branches = [module.out_layers[-1] for module in unet.modules() if isinstance(module, ResBlock)]
    branches += [module.proj_out for module in unet.modules() if isinstance(module, SpatialTransformer)]
    for layer in (*branches, unet.out[-1]):
        for parameter in layer.parameters():
            parameter.data.zero_()
    return unet


def train(run_dir: Path, steps: int) -> tuple[UNetModel, TextEncoder]:
    """Train UNet and text encoder together on stills."""
    torch.manual_seed(0)
    unet, text_encoder = build_unet(), TextEncoder()
    projection = autoencoder.projection()
    alphas = torch.stack([alphas_cumprod("image"), alphas_cumprod("motion")])
    parameters = dict(nn.ModuleDict({"unet": unet, "text": text_encoder}).named_parameters())
    training = Training(run_dir / "text-to-image.pt", parameters, FitOptions(steps, learning_rate=1e-3))
    training.run(
        seeded(lambda generator: picture_loss(unet, text_encoder, projection, alphas, "paper", generator), seed=0)
    )
    return unet, text_encoder


def picture_loss(
    unet: Callable[..., Tensor],
    text_encoder: TextEncoder,
    projection: tuple[Tensor, Tensor],
    alphas: Tensor,
    look: str,
    generator: torch.Generator,
    weight: Callable[[Tensor], Tensor] = torch.ones_like,
) -> Tensor:
    """Return the noise-prediction loss on a batch of stills.

    Every sample uses one of the m noise schedules in `alphas` (m, 1000). A model of Stable Diffusion's size copes with
    the small change of schedule that AnimateDiff asks for; a model of this size has to see both in training.
    `weight` maps a sample's alpha to the weight of its error.
    """
    scene = shapes.random_scene(BATCH, generator)
    latents = autoencoder.encode(shapes.draw(scene, look), *projection)
    time = torch.randint(TIMESTEPS, (BATCH,), generator=generator)
    alpha = alphas[torch.randint(len(alphas), (BATCH,), generator=generator), time]
    noise = torch.randn(latents.shape, generator=generator)
    context = text_encoder(prompts(scene, generator))
    predicted = unet(add_noise(latents, noise, alpha), time.float(), context)
    return (weight(alpha) * (predicted - noise).square().mean((1, 2, 3))).mean()


def prompts(scene: shapes.Scene, generator: torch.Generator) -> list[str]:
    """Return captions: one in ten is empty, for classifier-free guidance, and one in ten lacks colour or shape."""
    chances = torch.rand(len(scene.shape), generator=generator).tolist()
    return [_shorten(caption, chance) for caption, chance in zip(shapes.captions(scene), chances, strict=True)]


def _shorten(caption: str, chance: float) -> str:
    article, colour, shape = caption.split()
    if chance < 0.10:
        return ""
    if chance < 0.15:
        return f"{article} {shape}"
    if chance < 0.20:
        return f"{article} {colour} shape"
    return f"{colour} {shape}" if chance < 0.30 else caption
