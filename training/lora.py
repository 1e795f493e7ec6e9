"""Low-rank adaptation of a frozen model's layers (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize

from ..motion_models.key_layouts import PROJECTIONS


@dataclass(frozen=True)
class LoraOptions:
    """[lora] of a configuration, for a motion LoRA or a domain adapter."""

    __pydantic_config__ = {"extra": "forbid"}
    rank: int = 32
    alpha: float = 0.0
    """The learned change is multiplied by alpha / rank; 0 stands for the rank."""
    projections: Literal["attention", "attention and feed-forward"] = "attention"
    layout: Literal["AnimateDiff", "MotionDirector", "diffusers"] = "AnimateDiff"
    """Key names in a motion LoRA's file."""

    @property
    def scale(self) -> float:
        """Return the factor of the learned change."""
        return self.alpha / self.rank if self.alpha else 1.0

    def notes(self) -> dict[str, str]:
        """Return the metadata of the file."""
        return {"rank": str(self.rank), "alpha": f"{self.alpha or self.rank:g}"}


def layers_of(model: nn.Module, projections: str) -> list[str]:
    """Return the paths of the layers that a LoRA changes.

    These are the attention's, as in AnimateDiff's own LoRAs, or the feed-forward's too, as in MotionDirector's.
    """
    return [name for name, _ in model.named_modules() if re.search(PROJECTIONS[projections], name)]


class LowRank(nn.Module):
    """A weight with `scale * up @ down` added; `up` starts at zero, so training starts at the model itself."""

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator | None):
        super().__init__()
        down = torch.randn(rank, *weight.shape[1:], generator=generator) / weight[0].numel() ** 0.5
        self.down = Parameter(down.to(weight.device))
        self.up = Parameter(torch.zeros(weight.shape[0], rank, *[1] * (weight.ndim - 2), device=weight.device))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.scale * self.up.flatten(1) @ self.down.flatten(1)).view_as(weight).to(weight.dtype)


@contextmanager
def lora(
    model: nn.Module,
    layers: Iterable[str],
    rank: int,
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[dict[str, Parameter]]:
    """Yield the parameters to train, `<layer>.lora_up.weight` and `<layer>.lora_down.weight`.

    Within the context the weights of the named linear and convolution layers of `model` have `scale` times the product
    of these added. Freeze the model itself.
    """
    parameters: dict[str, Parameter] = {}
    with ExitStack() as undo:
        for name in layers:
            layer = model.get_submodule(name)
            change = LowRank(layer.get_parameter("weight"), rank, scale=scale, generator=generator)
            parametrize.register_parametrization(layer, "weight", change)
            undo.callback(parametrize.remove_parametrizations, layer, "weight", leave_parametrized=False)
            parameters |= {f"{name}.lora_down.weight": change.down, f"{name}.lora_up.weight": change.up}
        yield parameters
