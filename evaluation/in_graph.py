"""Touches comfy. Scores a clip of a graph with the models that the graph supplies."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
from torch import Tensor

from .embeddings import embed
from .optical_flow import LucasKanade, OpticalFlow, Raft
from .plot import plot
from .score import Embeddings, Score, score


def score_clip(
    images: Tensor,
    text: str,
    clip_vision: Any,
    clip: Any,
    reference_images: Tensor | None,
    optical_flow: Any,
    context_length: int,
    context_overlap: int,
) -> tuple[Score, Tensor]:
    """The score of images (f, h, w, 3) in [0, 1], and its plot (1, h, w, 3)."""
    embeddings = embedded(images, clip_vision, clip, text, reference_images)
    bar = comfy.utils.ProgressBar(len(images))

    def on_progress(done: int, steps: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, steps)

    found = score(images, estimator(optical_flow), embeddings, context_length, context_overlap, on_progress)
    return found, plot(found).unsqueeze(0)


def embedded(
    images: Tensor, clip_vision: Any, clip: Any, text: str, reference_images: Tensor | None
) -> Embeddings | None:
    """ValueError if what shall be compared lacks a model."""
    if text.strip() and clip is None:
        raise ValueError("Text agreement needs a CLIP text encoder: connect clip, or empty the text.")
    if clip_vision is None:
        if text.strip() or reference_images is not None:
            raise ValueError("Text agreement and look compare CLIP embeddings: connect clip_vision too.")
        return None
    return embed(clip_vision, images, () if reference_images is None else (reference_images,), clip, text)


def estimator(optical_flow: Any) -> OpticalFlow:
    """RAFT on its device if it is connected, a ModelPatcher around torchvision's module."""
    if optical_flow is None:
        return LucasKanade()
    comfy.model_management.load_models_gpu([optical_flow])
    return Raft(optical_flow.model, optical_flow.load_device)
