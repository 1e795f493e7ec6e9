"""Touches comfy. CLIP embeddings of frames, reference pictures and a text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.utils
import torch
from safetensors import safe_open
from torch import Tensor

from .score import Embeddings

BATCH = 8  # pictures in a call of the image model


def embed(
    clip_vision: Any,
    images: Tensor | Iterable[Tensor],
    *,
    references: Iterable[Tensor] = (),
    clip: Any = None,
    text: str = "",
) -> Embeddings:
    """Return embeddings of images (f, h, w, 3) in [0, 1], of references (n, h, w, 3) of any sizes, and of a text.

    Images may come in parts. ValueError for models that have no embedding of a whole picture or text.
    """
    frames = torch.cat(
        [image_embeddings(clip_vision, pictures) for pictures in ([images] if isinstance(images, Tensor) else images)]
    )
    parts = [image_embeddings(clip_vision, pictures) for pictures in references]
    stills = torch.cat(parts) if parts else None
    if clip is None or not text.strip():
        return Embeddings(frames, stills)
    note = why_no_text_embedding(clip)
    return Embeddings(frames, stills, text=None if note else text_embedding(clip, text), note=note)


def image_embeddings(clip_vision: Any, images: Tensor) -> Tensor:
    """Return (n, d), float32 on the CPU, of the middle square of every picture (n, h, w, 3), as CLIP crops it."""
    if images.ndim != 4 or images.shape[3] < 3 or not len(images) or not images.isfinite().all():
        raise ValueError(
            f"Reference images of shape {tuple(images.shape)} cannot be compared: connect one or more colour pictures "
            "without NaN."
        )
    parts = [clip_vision.encode_image(part.float())["image_embeds"] for part in images.split(BATCH)]
    embeddings = torch.cat(parts).float().cpu()
    if embeddings.ndim != 2:
        raise ValueError(
            "This CLIP vision model (SigLIP or similar) has no embedding of a whole picture: load a CLIP ViT."
        )
    if not embeddings.isfinite().all():
        raise ValueError("This CLIP vision model gives NaN or infinite values: load another file of it.")
    return embeddings


def text_embedding(clip: Any, text: str) -> Tensor:
    """Return (d,) in the space that CLIP shares between texts and pictures; the first 75 tokens count.

    ComfyUI's pooled output of SD1.5's text encoder is not projected into it. ValueError for an encoder that is not
    CLIP's.
    """
    _, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled="unprojected")
    return tower(clip).transformer.text_projection(pooled.float())[0].float().cpu()


def tower(clip: Any) -> Any:
    """Return the part of a text encoder that its pooled output comes from: CLIP L of SD1.5, H of SD2, bigG of SDXL."""
    model = clip.cond_stage_model
    if isinstance(model, comfy.sdxl_clip.SDXLClipModel):
        return model.clip_g
    if isinstance(model, comfy.sd1_clip.SD1ClipModel):
        return getattr(model, model.clip)
    raise ValueError(
        f"The embeddings of {type(model).__name__} cannot be compared with pictures: use a CLIP text encoder, such "
        "as clip_l.safetensors."
    )


def why_no_text_embedding(clip: Any) -> str:
    """Return a sentence if a CLIP lacks the projection into the space of pictures, else nothing.

    ComfyUI leaves a projection that is in no file uninitialised, and its numbers would look like any others.
    """
    remedy = "load clip_l.safetensors with Load CLIP for this."
    if clip.patcher.cached_patcher_init is None:
        return f"Text agreement was not measured: whether the text encoder has a text projection is unknown; {remedy}"
    files = clip.patcher.cached_patcher_init[1][0]
    if all(has_text_projection(file) for file in ([files] if isinstance(files, str) else files)):
        return ""
    return f"Text agreement was not measured: the text encoder's file holds no text projection; {remedy}"


def has_text_projection(file: str) -> bool:
    """Return whether ComfyUI reads a text projection from a file."""
    if file.lower().endswith((".safetensors", ".sft")):
        with safe_open(file, "pt") as weights:
            keys = list(weights.keys())
    else:
        loaded: Any = comfy.utils.load_torch_file(file, safe_load=True)
        keys = list(loaded)
    # ComfyUI does not read the projection of an SD1.5 checkpoint, even if there is one.
    return any("text_projection" in key and not key.startswith("cond_stage_model.transformer.") for key in keys)
