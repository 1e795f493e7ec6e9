"""The processes of a training: one, or several that train together on several GPUs or machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class OneProcess:
    """A training in one process, and the interface of several."""

    index, count = 0, 1

    def __init__(self, device: torch.device | None = None):
        self.device = device or torch.device("cpu")

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all processes."""

    def from_first(self, value: Any) -> Any:
        """Return the value that the first process gave, in all processes."""
        return value

    def log(self, values: dict[str, float], step: int) -> None:
        """Report the numbers of a step, from the first process."""

    def show(self, name: str, frames: Tensor, step: int) -> None:
        """Report a clip (f, h, w, 3) in [0, 1], from the first process."""

    def end(self) -> None:
        """End the reports, after the last step."""


class Accelerated(OneProcess):
    """The processes that `accelerate launch` started, or one; reports go to TensorBoard, into `folder`."""

    def __init__(self, name: str, folder: Path):
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration

        config = ProjectConfiguration(str(folder), logging_dir=str(folder))
        patience = InitProcessGroupKwargs(timeout=timedelta(days=1))  # while the first process encodes
        self.accelerator = Accelerator(log_with="tensorboard", project_config=config, kwargs_handlers=[patience])
        self.accelerator.init_trackers(name)
        self.index, self.count = self.accelerator.process_index, self.accelerator.num_processes
        super().__init__(self.accelerator.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        if self.count == 1:
            return
        # In one message, since a motion LoRA has hundreds of small tensors.
        mean: Any = self.accelerator.reduce(torch.cat([tensor.flatten() for tensor in tensors]), "mean")
        for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def from_first(self, value: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0] if self.count > 1 else value

    def log(self, values: dict[str, float], step: int) -> None:
        self.accelerator.log(values, step)

    def show(self, name: str, frames: Tensor, step: int) -> None:
        for tracker in self.accelerator.trackers:
            tracker.log_images({name: frames.cpu().numpy()}, step, dataformats="NHWC")

    def end(self) -> None:
        self.accelerator.end_training()
