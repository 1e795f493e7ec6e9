"""The loss that motion is trained with, on clips and a frozen image model (arXiv 2307.04725, section 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from .data import Data, Item, Prompt
from .diffusion import TIMESTEPS, add_noise, structure_weight, velocity, without_signal
from .frozen_unet import CleanClips, FrozenUNet
from .loop import Losses
from .processes import OneProcess


@dataclass(frozen=True)
class MotionOptions:
    """[objective] of a configuration. All randomness comes from the seed and the number of the clip's item."""

    __pydantic_config__ = {"extra": "forbid"}
    batch: int = 1
    """Clips in a call of the UNet."""
    accumulate: int = 1
    """Calls of the UNet in a step."""
    seed: int = 0
    loss: Literal["noise", "velocity"] = "noise"
    """"noise": the squared error of the predicted noise. "velocity": of the velocity, which weights noisy timesteps
    more, where motion is decided."""
    least: float = 0.001
    """Smallest signal-to-noise ratio that the velocity's weight tells apart: the weight is at most 1 / least."""
    first_timestep: int = 0
    """Train at this timestep and noisier ones. Camera movements, which are decided at high noise, are learned faster
    from a later one on."""
    noise_offset: float = 0.0
    """Size of the random shift that a clip's noise gets in each channel, such as 0.05. A noisy clip still shows its
    mean colour, so without a shift nothing learns to tell it from a picture."""
    from_noise: float = 0.0
    """Largest share, 0 to 1, of a clip that its noise lacks: each clip's is random. Sampling begins with noise alone,
    but a noisy clip of any timestep shows where things are and their colours (arXiv 2305.08891, section 3.1), so
    without this the model never learns to take them from a picture. 1 suits modules that see pictures and SparseCtrl.
    """
    caption_dropout: float = 0.1
    """Share of the clips that come with an empty prompt, for classifier-free guidance."""
    appearance_debiased: bool = False
    """Add MotionDirector's loss on differences to a frame of the same clip (arXiv 2310.08465, section 4.2)."""
    bf16: bool = False
    """Compute in bfloat16; the weights in training stay float32."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the frozen weights."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def per_step(self, processes: OneProcess) -> int:
        """Return the number of items in a step."""
        return self.batch * self.accumulate * processes.count


def weights(model: nn.Module) -> dict[str, Parameter]:
    """Return the parameters of a motion model that are trained: all but its positions."""
    return {name: p for name, p in model.named_parameters() if not name.endswith("pos_encoder.pe")}


@dataclass(frozen=True)
class MotionLoss:
    """The loss of a frozen UNet, with motion or a LoRA in it."""

    unet: FrozenUNet
    alphas: Tensor
    """(1000,) the noise schedule."""
    options: MotionOptions
    empty: Prompt | None = None
    """Replaces dropped captions; without it none are dropped."""

    def steps(self, data: Data, processes: OneProcess) -> Losses:
        """Return the losses of each step's share of items that this process has, for `Training.run`."""
        options = self.options

        def losses(first: int) -> Iterator[Iterator[Tensor]]:
            items = data.stream(first * options.per_step(processes), processes.index, processes.count)
            while True:
                yield (self(list(islice(items, options.batch)), processes.device) for _ in range(options.accumulate))

        return losses

    def __call__(self, items: list[Item], device: torch.device) -> Tensor:
        """Return the mean loss of items of one size, on the device of the UNet."""
        draws = [draw(item, self.options, self.empty) for item in items]
        frames, prompts = len(items[0].latents), [drawn.prompt for drawn in draws]
        latents = torch.stack([item.latents for item in items]).to(device)
        noise = torch.stack([drawn.noise for drawn in draws]).to(device)
        time = torch.stack([drawn.time for drawn in draws])
        if self.options.from_noise:
            lacking = torch.stack([drawn.lacking for drawn in draws]).to(device)
            noise = without_signal(noise, latents, self.alphas[-1].to(device), share=lacking)
        alpha = self.alphas[time].to(device)
        noisy = add_noise(latents, noise, alpha)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.options.bf16):
            clips = CleanClips(latents, [drawn.generator for drawn in draws])
            out = self.unet(noisy.flatten(0, 1), time.to(device).repeat_interleave(frames), prompts, clips=clips)
        target = velocity(latents, noise, alpha) if self.unet.predicts_velocity else noise
        error = out.float().view_as(target) - target
        squares = error.square().mean((1, 2, 3, 4))
        if self.options.appearance_debiased:
            anchors = torch.tensor([drawn.anchor % frames for drawn in draws], device=device)
            squares = squares + debiased(error, anchors).square().mean((1, 2, 3, 4))
        return (weight(alpha, self.unet.predicts_velocity, self.options) * squares).mean()


@dataclass(frozen=True)
class Draw:
    """The randomness of an item."""

    time: Tensor
    """The timestep of all frames of a clip, each of which has its own noise."""
    noise: Tensor
    prompt: Prompt
    anchor: int
    generator: torch.Generator
    """For what else is drawn."""
    lacking: Tensor
    """Share of the clip that its noise lacks."""


def draw(item: Item, options: MotionOptions, empty: Prompt | None) -> Draw:
    """Return the randomness of an item, from the seed and its number."""
    generator = torch.Generator().manual_seed(options.seed * 1_000_003 + item.number)
    time = torch.randint(options.first_timestep, TIMESTEPS, (), generator=generator)
    noise = torch.randn(item.latents.shape, generator=generator)
    anchor = int(torch.randint(1 << 30, (), generator=generator))
    dropped = empty is not None and float(torch.rand((), generator=generator)) < options.caption_dropout
    prompt = empty if dropped and empty is not None else item.prompt
    if options.noise_offset:  # not drawn at 0, so that the draws after it stay what they are
        noise += options.noise_offset * torch.randn(noise.shape[1], 1, 1, generator=generator)
    lacking = options.from_noise * torch.rand((), generator=generator) if options.from_noise else torch.zeros(())
    return Draw(time, noise, prompt=prompt, anchor=anchor, generator=generator, lacking=lacking)


def debiased(error: Tensor, anchors: Tensor) -> Tensor:
    """Return sqrt(2) e - e_anchor for e of shape (b, f, c, h, w), in which the look that frames share weighs less."""
    anchor = error[torch.arange(len(error), device=error.device), anchors]
    return math.sqrt(2) * error - anchor[:, None]


def weight(alpha: Tensor, predicts_velocity: bool, options: MotionOptions) -> Tensor:
    """Return the weights (n,) of squared errors of the prediction.

    An error e of the velocity is sqrt(alpha) e of the noise.
    """
    of_noise = torch.ones_like(alpha) if options.loss == "noise" else structure_weight(alpha, options.least)
    return of_noise * alpha if predicts_velocity else of_noise
