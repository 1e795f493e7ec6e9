"""Low-rank adaptation of a frozen model's layers (LoRA, arXiv 2106.09685)."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """A weight with `up @ down` of rank `rank` added; `up` starts at zero, so training starts at the model itself."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        self.down = Parameter(torch.randn(rank, *weight.shape[1:]) / weight[0].numel() ** 0.5)
        self.up = Parameter(torch.zeros(weight.shape[0], rank, *[1] * (weight.ndim - 2)))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up.flatten(1) @ self.down.flatten(1)).view_as(weight)


@contextmanager
def lora(model: nn.Module, layers: Iterable[str], rank: int) -> Iterator[dict[str, Parameter]]:
    """Within the context the weights of the named linear and convolution layers of `model` are adapted; freeze the
    model itself. Gives the parameters to train, `<layer>.lora_up.weight` and `<layer>.lora_down.weight`."""
    parameters: dict[str, Parameter] = {}
    with ExitStack() as undo:
        for name in layers:
            layer = model.get_submodule(name)
            change = LowRank(layer.get_parameter("weight"), rank)
            parametrize.register_parametrization(layer, "weight", change)
            undo.callback(parametrize.remove_parametrizations, layer, "weight", leave_parametrized=False)
            parameters |= {f"{name}.lora_down.weight": change.down, f"{name}.lora_up.weight": change.up}
        yield parameters
