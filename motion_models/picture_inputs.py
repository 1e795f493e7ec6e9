"""The parts of PIA and AnimateLCM-I2V that see pictures, beside the motion modules and under the files' own keys.

Plain PyTorch that needs no ComfyUI; its weight-casting layers come in through `operations`.
Shapes: `n` frames of all conds, `c` channels, `h w` latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

MASKED_PICTURE = 5
"""Channels of PIA's picture: how much a frame is to be like it, then its latent."""


def pia_conv(channels: Sequence[int], operations: Any, **factory: Any) -> nn.Module:
    """Return PIA's first convolution of the UNet (arXiv 2312.13964, section 3.2), for the part that sees pictures.

    The file's weight, (c, 9, 3, 3), begins with the noisy latent's 4 channels. Those and the bias are left to the
    checkpoint: a convolution is linear, so what it makes of the picture is added to what the checkpoint's own makes of
    the latent. It takes n 5 h w and gives n c h w.
    """

    class PictureConv(operations.Conv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(input, weight[:, -MASKED_PICTURE:], None)

    return PictureConv(4 + MASKED_PICTURE, channels[0], 3, padding=1, **factory)


class EncoderBlock(nn.Module):
    """A residual block of AnimateLCM-I2V's encoder; the first one of every level but the finest halves the size."""

    def __init__(self, before: int, channels: int, halve: bool, operations: Any, **factory: Any):
        super().__init__()
        self.halve = halve
        self.in_conv = operations.Conv2d(before, channels, 1, **factory) if before != channels else None
        self.block1 = operations.Conv2d(channels, channels, 3, padding=1, **factory)
        self.block2 = operations.Conv2d(channels, channels, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        if self.halve:  # odd sizes are rounded up, as by the UNet
            x = F.avg_pool2d(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate"), 2)
        if self.in_conv is not None:
            x = self.in_conv(x)
        return self.block2(F.relu(self.block1(x))) + x


class PictureEncoder(nn.Module):
    """AnimateLCM-I2V's encoder, `Adapter` in the code of its authors (arXiv 2402.00769, section 4.3)."""

    def __init__(self, channels: Sequence[int], operations: Any, **factory: Any):
        super().__init__()
        self.conv_in = operations.Conv2d(4, channels[0], 3, padding=1, **factory)
        self.body = nn.ModuleList()
        for level, (before, after) in enumerate(zip((channels[0], *channels), channels, strict=False)):
            self.body.append(EncoderBlock(before, after, level > 0, operations, **factory))
            self.body.append(EncoderBlock(after, after, False, operations, **factory))

    def forward(self, latents: Tensor, positions: Tensor) -> list[Tensor]:
        """Return the features of each level, n c h w, for latents n 4 h w and the frames' encodings n c."""
        x, features = self.conv_in(latents) + positions[:, :, None, None], []
        for block in self.body:
            x = block(x)
            features.append(x)
        return features[1::2]


PIA_CONV, LCM_ENCODER = "conv_in", "img_encoder"
PICTURE_INPUTS: dict[str, Callable[..., nn.Module]] = {PIA_CONV: pia_conv, LCM_ENCODER: PictureEncoder}
"""By their path in a motion model, which is also how their keys begin in the published files."""
