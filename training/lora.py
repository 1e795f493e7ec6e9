"""Low-rank adaptation of a frozen model's linear and convolution layers (LoRA, arXiv 2106.09685)."""

import torch
from torch import Tensor, nn
from torch.nn import Parameter


class Lora:
    """`up @ down` of rank `rank` for every linear and convolution layer of `model`.

    `up` starts at zero, so training starts at the model itself.
    """

    def __init__(self, model: nn.Module, rank: int):
        self.model = model
        self.layers = [name for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        self.parameters: dict[str, Parameter] = {}
        for name in self.layers:
            weight = model.get_parameter(f"{name}.weight")
            down = torch.randn(rank, *weight.shape[1:]) / weight[0].numel() ** 0.5
            up = torch.zeros(weight.shape[0], rank, *[1] * (weight.ndim - 2))
            self.parameters[f"{name}.lora_down.weight"] = Parameter(down)
            self.parameters[f"{name}.lora_up.weight"] = Parameter(up)

    def weights(self) -> dict[str, Tensor]:
        """The model's weights with the adaptation added, by parameter name."""
        names = {name: f"{name}.weight" for name in self.layers}
        return {weight: self.model.get_parameter(weight) + self._delta(name) for name, weight in names.items()}

    def __call__(self, *args, **kwargs) -> Tensor:
        """The adapted model's output; gradients reach the adaptation only."""
        return torch.func.functional_call(self.model, self.weights(), args, kwargs)

    def _delta(self, name: str) -> Tensor:
        up, down = (self.parameters[f"{name}.lora_{part}.weight"] for part in ("up", "down"))
        return (up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])
