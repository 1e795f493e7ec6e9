"""Losses of a task on random clips."""

from __future__ import annotations

import torch
from comfy_support import CONTEXT
from torch import Tensor

from animatediff_native.training.data import EncodedClips, MemoryClip, Prompt
from animatediff_native.training.loop import Losses
from animatediff_native.training.motion import MotionLoss, MotionOptions
from animatediff_native.training.processes import OneProcess
from animatediff_native.training.tasks import Task


def losses_of(task: Task) -> Losses:
    """Two clips of four frames in each step."""
    generator = torch.Generator().manual_seed(3)
    prompt = Prompt(torch.randn(4, CONTEXT, generator=generator), None)
    data = EncodedClips([MemoryClip(torch.randn(4, 4, 8, 8, generator=generator), prompt) for _ in range(2)], frames=4)
    return MotionLoss(task.unet, task.alphas, MotionOptions(batch=2)).steps(data, OneProcess())


def first_loss(task: Task) -> Tensor:
    return next(iter(next(losses_of(task)(0))))
