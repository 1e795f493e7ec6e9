"""The picture input of PIA in training (arXiv 2312.13964, section 3.2): every frame sees a picture of its own clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..motion_models.motion_model import MotionModel
from ..motion_models.picture_inputs import PIA_CONV
from .frozen_unet import CleanClips

WITHOUT = 0.2
"""Share of the clips that see no picture, so that the module stays one for text alone."""
LEAST = 0.2
"""Affinity of a frame that has nothing in common with the picture."""


def with_picture_input(model: MotionModel, conv_in: Any) -> MotionModel:
    """Return a copy of a motion model with a picture input that changes nothing yet.

    `conv_in` is the UNet's first convolution, which PIA's files hold as well.
    """
    seeing = MotionModel(replace(model.config, picture_input=PIA_CONV))
    device = next(model.parameters()).device
    picture_input: Any = seeing.get_submodule(PIA_CONV)
    channels = conv_in.in_channels
    with torch.no_grad():
        picture_input.weight.zero_()
        picture_input.weight[:, :channels] = conv_in.weight
        picture_input.bias.copy_(conv_in.bias)
    seeing.load_state_dict(model.state_dict(), strict=False)
    return seeing.to(device).requires_grad_(False)


@contextmanager
def pictures(unet: Any, model: MotionModel, clips: CleanClips | None) -> Iterator[None]:
    """Let a UNet call within the context see one of the clean latents of each clip, if the motion model can."""
    if model.config.picture_input != PIA_CONV or clips is None:
        yield
        return
    seen = torch.cat([masked_picture(clip, generator) for clip, generator in zip(*clips, strict=True)])
    conv: nn.Module = model.get_submodule(PIA_CONV)
    hook = unet.input_blocks[0][0].register_forward_hook(lambda _layer, _args, out: out + conv(seen))
    try:
        yield
    finally:
        hook.remove()


def masked_picture(clip: Tensor, generator: Generator) -> Tensor:
    """Return what each frame of a clip, (f, c, h, w), sees: its affinity to a random frame, and that frame; zeros
    for some clips. (f, 1 + c, h, w).

    The affinity falls from 1 with the mean difference of the latents, whose variance is 1.
    """
    draw = float(torch.rand((), generator=generator))
    first = float(torch.rand((), generator=generator)) < 0.5
    frame = int(torch.randint(len(clip), (), generator=generator))
    picture = clip[0 if first else frame]
    difference = (clip - picture).abs().mean((1, 2, 3), keepdim=True)
    affinity = 1.0 - (1.0 - LEAST) * difference.clamp(max=1.0)
    seen = torch.cat((affinity.expand(-1, 1, *clip.shape[2:]), picture.expand_as(clip)), dim=1)
    return torch.zeros_like(seen) if draw < WITHOUT else seen
