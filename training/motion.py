"""Training motion on clips while the image model stays frozen (arXiv 2307.04725, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .data import Data, Item, Prompt
from .diffusion import TIMESTEPS, add_noise, structure_weight, velocity
from .image_model import ImageModel
from .loop import Losses
from .processes import OneProcess

# Puts motion into the UNet for the calls within the context, which hold so many frames of each clip.
Moving = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class MotionOptions:
    """[objective] of a configuration: what is learned from a clip. Everything random comes from the seed and the number
    of the clip's item."""

    __pydantic_config__ = {"extra": "forbid"}
    batch: int = 1
    """Clips in a call of the UNet."""
    accumulate: int = 1
    """Calls of the UNet for a step."""
    seed: int = 0
    loss: Literal["noise", "velocity"] = "noise"
    """"noise": the squared error of the predicted noise; "velocity": of the velocity, which minds high noise more."""
    least: float = 0.001
    """Smallest ratio of signal to noise that the velocity's weight tells apart: it is at most 1 / least."""
    first_timestep: int = 0
    """Where things go is settled at the highest noise: a camera movement is learned faster from a later one on."""
    caption_dropout: float = 0.1
    """Share of the clips that come with an empty prompt, for classifier-free guidance."""
    appearance_debiased: bool = False
    """Add MotionDirector's loss on differences to a frame of the same clip (arXiv 2310.08465, section 4.2)."""
    bf16: bool = False
    """Compute in bfloat16; the weights in training stay float32."""

    def __post_init__(self):
        if self.batch < 1 or self.accumulate < 1:
            raise ValueError(f"'batch' is {self.batch} and 'accumulate' {self.accumulate}: both have to be 1 or more.")
        if not 0 <= self.first_timestep < TIMESTEPS:
            raise ValueError(f"'first_timestep' is {self.first_timestep}, but timesteps go from 0 to {TIMESTEPS - 1}.")

    @property
    def dtype(self) -> torch.dtype:
        """Of the frozen weights."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def per_step(self, processes: OneProcess) -> int:
        """Items in a step."""
        return self.batch * self.accumulate * processes.count


def weights(model: nn.Module) -> dict[str, Parameter]:
    """What of a motion model is trained: all but its positions."""
    return {name: p for name, p in model.named_parameters() if not name.endswith("pos_encoder.pe")}


def motion_losses(
    image_model: ImageModel,
    moving: Moving,
    data: Data,
    empty: Prompt | None,
    alphas: Tensor,
    options: MotionOptions,
    processes: OneProcess,
) -> Losses:
    """For `fit`: in a step, each process takes its share of the items. `alphas` (1000,) is the noise schedule; without
    an `empty` prompt none is dropped."""

    def losses(first: int) -> Iterator[Iterator[Tensor]]:
        items = data.stream(first * options.per_step(processes), processes.index, processes.count)
        while True:
            yield (loss(list(islice(items, options.batch))) for _ in range(options.accumulate))

    def loss(items: list[Item]) -> Tensor:
        draws = [draw(item, options, empty) for item in items]
        device, frames = processes.device, len(items[0].latents)
        latents = torch.stack([item.latents for item in items]).to(device)
        noise = torch.stack([each.noise for each in draws]).to(device)
        time = torch.stack([each.time for each in draws])
        alpha = alphas[time].to(device)
        noisy = add_noise(latents, noise, alpha)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16), moving(frames):
            out = image_model(noisy.flatten(0, 1), time.to(device).repeat_interleave(frames), [d.prompt for d in draws])
        target = velocity(latents, noise, alpha) if image_model.velocity else noise
        error = out.float().view_as(target) - target
        squares = error.square().mean((1, 2, 3, 4))
        if options.appearance_debiased:
            anchors = torch.tensor([each.anchor % frames for each in draws], device=device)
            squares = squares + debiased(error, anchors).square().mean((1, 2, 3, 4))
        return (weight(alpha, image_model.velocity, options) * squares).mean()

    return losses


@dataclass(frozen=True)
class Draw:
    """What is random about an item."""

    time: Tensor
    """The same for all of a clip's frames, each of which has noise of its own."""
    noise: Tensor
    prompt: Prompt
    anchor: int


def draw(item: Item, options: MotionOptions, empty: Prompt | None) -> Draw:
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + item.number)
    time = torch.randint(options.first_timestep, TIMESTEPS, (), generator=generator)
    noise = torch.randn(item.latents.shape, generator=generator)
    anchor = int(torch.randint(1 << 30, (), generator=generator))
    dropped = empty is not None and float(torch.rand((), generator=generator)) < options.caption_dropout
    return Draw(time, noise, empty if dropped and empty is not None else item.prompt, anchor)


def debiased(error: Tensor, anchors: Tensor) -> Tensor:
    """The error of sqrt(2) e - e_anchor, for e of shape (b, f, c, h, w): what frames share, their look, weighs less."""
    anchor = error[torch.arange(len(error), device=error.device), anchors]
    return math.sqrt(2) * error - anchor[:, None]


def weight(alpha: Tensor, predicts_velocity: bool, options: MotionOptions) -> Tensor:
    """Of squared errors of what the model predicts. An error e of the velocity is sqrt(alpha) e of the noise."""
    of_noise = torch.ones_like(alpha) if options.loss == "noise" else structure_weight(alpha, options.least)
    return of_noise * alpha if predicts_velocity else of_noise
