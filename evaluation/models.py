"""Touches comfy. The models that `python -m evaluation` is given as files; in a graph ComfyUI's nodes load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def load_clip_vision(file: Path) -> Any:
    import comfy.clip_vision

    model = comfy.clip_vision.load(str(file))
    if model is None:
        raise ValueError(f"{file} is no CLIP vision model that ComfyUI knows.")
    return model


def load_clip(file: Path) -> Any:
    import comfy.sd

    return comfy.sd.load_clip([str(file)])


def load_raft(file: Path) -> tuple[torch.nn.Module, torch.device]:
    import comfy.model_management
    import comfy.utils
    from torchvision.models.optical_flow import raft_large

    model, device = raft_large(weights=None, progress=False), comfy.model_management.get_torch_device()
    weights: Any = comfy.utils.load_torch_file(str(file), safe_load=True)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} holds no weights of torchvision's raft_large.") from error
    return model.eval().to(device), device
