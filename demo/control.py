"""Trains the miniature's ControlNet (arXiv 2302.05543): pictures follow the outlines of ComfyUI's Canny node.

It is stored as a Control-LoRA: layers that it shares with the checkpoint's UNet are read from there and changed by a
low rank.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import comfy.ops
import torch
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential, UNetModel
from comfy_extras.nodes_canny import Canny
from torch import Tensor, nn

from ..training.diffusion import TIMESTEPS, add_noise, alphas_cumprod, structure_weight
from ..training.loop import FitOptions, Training, seeded
from ..training.lora import lora
from . import autoencoder, shapes
from .text_to_image import UNET, TextEncoder, prompts

BATCH = 16
RANK = 4
HINT_CHANNELS = (16, 16, 32, 32, 64, 64, 64)  # every second convolution halves the size; ControlNet's go up to 256
THRESHOLDS = 0.4, 0.8  # of the Canny node, its defaults


def build(unet: UNetModel) -> ControlNet:
    """Return a ControlNet with the encoder of `unet`, an input for hints, and outputs that start at zero."""
    config: dict[str, Any] = {key: list(value) if isinstance(value, list) else value for key, value in UNET.items()}
    model = ControlNet(**config, hint_channels=3, operations=comfy.ops.disable_weight_init)
    model.load_state_dict(unet.state_dict(), strict=False)
    model.input_hint_block = hint_block()
    for parameter in (*model.zero_convs.parameters(), *model.middle_block_out.parameters()):
        parameter.data.zero_()
    return model.requires_grad_(False)


def hint_block() -> TimestepEmbedSequential:
    """Return the layers from hints (n, 3, h, w) to features (n, 64, h / 8, w / 8): ControlNet's with fewer channels."""
    channels = (3, *HINT_CHANNELS, UNET["model_channels"])
    layers: list[nn.Module] = []
    for level, (before, after) in enumerate(pairwise(channels)):
        stride = 2 if level in (2, 4, 6) else 1
        layers += [nn.Conv2d(before, after, 3, padding=1, stride=stride), nn.SiLU()]
    return TimestepEmbedSequential(*layers[:-1])


def train(unet: UNetModel, text_encoder: TextEncoder, run_dir: Path, steps: int) -> dict[str, Tensor]:
    """Train the ControlNet and return the state dict that ComfyUI's Load ControlNet Model reads."""
    torch.manual_seed(4)
    unet.requires_grad_(False)
    model = build(unet)
    layers = [name for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    shared = [name for name in layers if not is_own(name)]
    own = {name: parameter for name, parameter in model.named_parameters() if is_own(name)}
    projection = autoencoder.projection()
    alphas = torch.stack([alphas_cumprod("image"), alphas_cumprod("motion")])

    def loss(generator: torch.Generator) -> Tensor:
        return outline_loss(unet, model, text_encoder, projection, alphas, generator)

    with lora(model, shared, RANK) as changes:
        training = Training(run_dir / "control.pt", own | changes, FitOptions(steps, learning_rate=2e-3))
        training.run(seeded(loss, seed=4))
    return {"lora_controlnet": torch.empty(0)} | own | {control_lora(key): value for key, value in changes.items()}


def is_own(name: str) -> bool:
    """Return whether a layer is the ControlNet's own, not one that it shares with the UNet."""
    return name.startswith(("input_hint_block.", "zero_convs.", "middle_block_out."))


def control_lora(key: str) -> str:
    """Return the key of a Control-LoRA: `x.lora_up.weight` -> `x.up`."""
    return key.replace(".lora_", ".").removesuffix(".weight")


def outline_loss(
    unet: UNetModel,
    model: ControlNet,
    text_encoder: TextEncoder,
    projection: tuple[Tensor, Tensor],
    alphas: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return the noise-prediction loss on a batch of stills of the base model's look, given their outlines.

    Half of the prompts are empty, so that the model learns to read from the hint what the prompt does not say (section
    3.3 of the paper).
    """
    scene = shapes.random_scene(BATCH, generator)
    latents = autoencoder.encode(shapes.draw(scene), *projection)
    time = torch.randint(TIMESTEPS, (BATCH,), generator=generator)
    alpha = alphas[torch.randint(len(alphas), (BATCH,), generator=generator), time]
    noise = torch.randn(latents.shape, generator=generator)
    noisy = add_noise(latents, noise, alpha)
    prompted = torch.rand(BATCH, generator=generator) < 0.5
    words = [prompt if keep else "" for prompt, keep in zip(prompts(scene, generator), prompted, strict=True)]
    with torch.no_grad():
        context = text_encoder(words)
    control = model(noisy, hints(scene, generator), time.float(), context)
    predicted = unet(noisy, time.float(), context, control=control)
    return (structure_weight(alpha, least=0.02) * (predicted - noise).square().mean((1, 2, 3))).mean()


def hints(scene: shapes.Scene, generator: torch.Generator) -> Tensor:
    """Return the outlines (n, 3, SIZE, SIZE) of the scenes, drawn in another colour and half of them in each look.

    Pale colours on paper leave gaps or no outline at all; then the hint leaves the picture free.
    """
    scene = replace(scene, colour=torch.randint(len(shapes.COLOURS), scene.colour.shape, generator=generator))
    look = torch.randint(len(shapes.LOOKS), scene.colour.shape, generator=generator)
    pictures = torch.stack([shapes.draw(scene, name) for name in shapes.LOOKS])
    return outlines(pictures[look, torch.arange(len(look))])


def outlines(pictures: Tensor) -> Tensor:
    """Return the edges (n, 3, h, w), 0 or 1, that ComfyUI's Canny node finds in pictures (n, 3, h, w)."""
    edges = Canny.execute(pictures.movedim(1, -1), *THRESHOLDS).args[0]
    return edges.movedim(-1, 1)
