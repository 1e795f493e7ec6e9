"""Touches comfy. Scores a clip in a graph with the models that the graph supplies."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
from torch import Tensor

from .embeddings import embed
from .optical_flow import LucasKanade, OpticalFlow, Raft
from .plot import plot
from .score import Embeddings, Score, check, score


def score_clip(
    images: Tensor, *, optical_flow: Any, context_length: int, context_overlap: int, **compared: Any
) -> tuple[Score, Tensor]:
    """Return the score of images (f, h, w, 3) in [0, 1], and its plot (1, h, w, 3). ValueError as `score` has it.

    `compared` is what the images are compared with; see `embedded`.
    """
    check(images)
    embeddings = embedded(images, **compared)
    bar = comfy.utils.ProgressBar(len(images))

    def on_progress(done: int, steps: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, steps)

    result = score(
        images,
        estimator(optical_flow),
        embeddings,
        context_length=context_length,
        context_overlap=context_overlap,
        on_progress=on_progress,
    )
    return result, plot(result).unsqueeze(0)


def embedded(
    images: Tensor, *, text: str, clip_vision: Any, clip: Any, reference_images: Tensor | None
) -> Embeddings | None:
    """Return the embeddings to compare, None without a CLIP vision model. ValueError if a model is missing."""
    if text.strip() and clip is None:
        raise ValueError("Text agreement needs a CLIP text encoder: connect clip, or clear the text.")
    if clip_vision is None:
        if text.strip() or reference_images is not None:
            raise ValueError("Text agreement and look compare CLIP embeddings: connect clip_vision too.")
        return None
    stills = () if reference_images is None else (reference_images,)
    return embed(clip_vision, images, references=stills, clip=clip, text=text)


def estimator(optical_flow: Any) -> OpticalFlow:
    """Return RAFT on its device, from a ModelPatcher around torchvision's module, or Lucas-Kanade without one."""
    if optical_flow is None:
        return LucasKanade()
    comfy.model_management.load_models_gpu([optical_flow])
    return Raft(optical_flow.model, optical_flow.load_device)
