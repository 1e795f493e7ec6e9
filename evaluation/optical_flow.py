"""Optical flow: how far every pixel moves from one picture to another. Needs no ComfyUI.

Pictures are (n, 3, h, w) in [0, 1]. Flow is (n, 2, h, w), x and y in pixels: the point p of the first picture is at
p + flow(p) in the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class OpticalFlow(Protocol):
    """An estimator of flow."""

    name: ClassVar[str]

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow from `first` to `second`, on their device."""
        ...


def brightness(pictures: Tensor) -> Tensor:
    """Return the brightness (n, 1, h, w) of pictures (n, 3, h, w)."""
    return (pictures * pictures.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def warp(second: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Return `second` (n, c, h, w) pulled back along the flow onto the first picture; edges are repeated outside."""
    h, w = flow.shape[2:]
    y, x = torch.meshgrid(torch.arange(h).to(flow), torch.arange(w).to(flow), indexing="ij")
    grid = torch.stack(((x + flow[:, 0] + 0.5) * 2 / w - 1, (y + flow[:, 1] + 0.5) * 2 / h - 1), dim=-1)
    return F.grid_sample(second, grid, mode=mode, padding_mode="border", align_corners=False)


def inside(flow: Tensor) -> Tensor:
    """Return (n, 1, h, w): whether a pixel of the first picture lies within the second."""
    h, w = flow.shape[2:]
    y, x = torch.meshgrid(torch.arange(h).to(flow), torch.arange(w).to(flow), indexing="ij")
    x, y = x + flow[:, 0], y + flow[:, 1]
    return ((x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)).unsqueeze(1)


def resized(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the flow for pictures of another size (h, w)."""
    h, w = flow.shape[2:]
    if (h, w) == size:
        return flow
    scale = flow.new_tensor((size[1] / w, size[0] / h)).view(2, 1, 1)
    return F.interpolate(flow, size, mode="bilinear", align_corners=False) * scale


@dataclass(frozen=True)
class Raft:
    """torchvision's RAFT (arXiv 2003.12039), with its weights in `model` and on `device`."""

    model: Any
    device: torch.device
    name: ClassVar[str] = "RAFT"
    smallest: ClassVar[int] = 128  # pixels of a side; RAFT halves pictures seven times

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow, pair by pair: the memory grows with the fourth power of a picture's side."""
        return torch.cat([self.of_pair(*pair) for pair in zip(first.split(1), second.split(1), strict=True)])

    def of_pair(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow of one pair."""
        h, w = first.shape[2:]
        size = [max(self.smallest, round(side / 8) * 8) for side in (h, w)]
        pair = [F.interpolate(picture.to(self.device), size, mode="bilinear") * 2 - 1 for picture in (first, second)]
        try:
            with torch.no_grad():
                flow = self.model(*pair)[-1]
        finally:
            block: Any = getattr(self.model, "corr_block", None)
            if hasattr(block, "corr_pyramid"):  # torchvision keeps it in a list, which no .to() moves
                block.corr_pyramid = []
        return resized(flow, (h, w)).to(first)


@dataclass(frozen=True)
class LucasKanade:
    """Coarse-to-fine Lucas-Kanade at every pixel ("Pyramidal implementation of the Lucas Kanade feature tracker",
    Bouguet 2001), which needs no weights.

    Flat regions cannot be seen to move and count as still. A change of the light of a whole picture is not motion.
    """

    name: ClassVar[str] = "Lucas-Kanade"
    largest: ClassVar[int] = 256  # pixels of a side at which flow is estimated; finer differences are lost
    coarsest: ClassVar[int] = 12  # pixels of a side at the pyramid's top
    iterations: ClassVar[int] = 3  # at each level

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        h, w = first.shape[2:]
        shrink = min(1.0, self.largest / max(h, w))
        size = (max(1, round(h * shrink)), max(1, round(w * shrink)))
        one, other = (F.interpolate(brightness(picture), size, mode="area") for picture in (first, second))
        levels = [(one, in_light_of(one, other))]
        while min(levels[-1][0].shape[2:]) >= 2 * self.coarsest:
            one, other = (F.avg_pool2d(level, 2) for level in levels[-1])
            levels.append((one, other))
        flow = first.new_zeros(len(first), 2, *one.shape[2:])
        for one, other in reversed(levels):
            flow = resized(flow, (one.shape[2], one.shape[3]))
            for _ in range(self.iterations):
                flow = flow + lucas_kanade_step(one, other, flow)
        return resized(flow * moves(*levels[0], flow), (h, w))


def in_light_of(first: Tensor, second: Tensor) -> Tensor:
    """Return `second` (n, 1, h, w) with the mean and the contrast of `first`."""
    mean, second_mean = (picture.mean(dim=(2, 3), keepdim=True) for picture in (first, second))
    contrast, second_contrast = (picture.std(dim=(2, 3), keepdim=True) + 1e-3 for picture in (first, second))
    return (second - second_mean) * (contrast / second_contrast) + mean


def lucas_kanade_step(first: Tensor, second: Tensor, flow: Tensor, flat: float = 1e-5) -> Tensor:
    """Return the change of the flow between pictures (n, 1, h, w), by least squares in a window around every pixel.

    Where squared gradients are below `flat` the flow does not change.
    """
    pulled = warp(second, flow)
    between = F.pad((first + pulled) / 2, (1, 1, 1, 1), mode="replicate")
    x = (between[:, :, 1:-1, 2:] - between[:, :, 1:-1, :-2]) / 2
    y = (between[:, :, 2:, 1:-1] - between[:, :, :-2, 1:-1]) / 2
    t = pulled - first
    products = torch.cat((x * x, x * y, y * y, x * t, y * t), dim=1) * inside(flow)
    xx, xy, yy, xt, yt = window_mean(window_mean(products, 9), 9).unbind(1)  # twice, so that near pixels count more
    xx, yy = xx + flat, yy + flat
    step = torch.stack((xy * yt - yy * xt, xy * xt - xx * yt), dim=1) / (xx * yy - xy * xy).unsqueeze(1)
    return step.clamp(-1, 1)  # beyond a pixel the picture's gradient says nothing


def moves(first: Tensor, second: Tensor, flow: Tensor, *, least: float = 1e-5, noise: float = 2.25) -> Tensor:
    """Return (n, 1, h, w): where the flow explains the pictures (n, 1, h, w) better than stillness does.

    Windows reach from the edge of an object into the flat ground around it, which does not move with the object.
    In a wider window, what stillness leaves unexplained is also to be `noise` times what the flow does: flow fits noise
    too, and pulling a picture along it averages noise away, but not to less than half.
    """
    still, moved = (second - first).square(), (warp(second, flow) - first).square()
    near = window_mean(still, 5) > window_mean(moved, 5) + least
    return near & (window_mean(still, 15) > noise * window_mean(moved, 15) + least)


def window_mean(values: Tensor, size: int) -> Tensor:
    """Return the mean of the `size` x `size` pixels around each pixel, without those beyond the edge."""
    for across, reach in (((size, 1), (size // 2, 0)), ((1, size), (0, size // 2))):  # faster than both at once
        values = F.avg_pool2d(values, across, stride=1, padding=reach, count_include_pad=False)
    return values
