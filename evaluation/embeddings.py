"""Touches comfy. CLIP embeddings of frames, reference pictures and a text, from the models that a graph supplies."""

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

AT_ONCE = 8  # pictures in a call of the image model


def embed(
    clip_vision: Any, images: Tensor, references: Iterable[Tensor] = (), clip: Any = None, text: str = ""
) -> Embeddings:
    """Of images (f, h, w, 3) in [0, 1], of references (n, h, w, 3) of any sizes, and of a text.

    Raises ValueError for models that give no embedding of a whole picture or text.
    """
    frames = image_embeddings(clip_vision, images)
    likened = [image_embeddings(clip_vision, each) for each in references]
    stills = torch.cat(likened) if likened else None
    if clip is None or not text.strip():
        return Embeddings(frames, stills)
    note = why_no_text_embedding(clip)
    return Embeddings(frames, stills, None if note else text_embedding(clip, text), note)


def image_embeddings(clip_vision: Any, images: Tensor) -> Tensor:
    """(n, d) in float32 and on the CPU, of the middle square of every picture (n, h, w, 3), as CLIP crops it."""
    parts = [clip_vision.encode_image(part)["image_embeds"] for part in images.split(AT_ONCE)]
    embeddings = torch.cat(parts).float().cpu()
    if embeddings.ndim != 2:
        raise ValueError(
            "This CLIP vision model (of SigLIP's kind) gives no embedding of a whole picture: load a CLIP ViT."
        )
    return embeddings


def text_embedding(clip: Any, text: str) -> Tensor:
    """(d,) in the space that CLIP shares between texts and pictures; its first 75 tokens count.

    ComfyUI's pooled output is not there yet for SD1.5's text encoder. ValueError for an encoder that is not CLIP's.
    """
    _, pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled="unprojected")
    return tower(clip).transformer.text_projection(pooled.float())[0].float().cpu()


def tower(clip: Any) -> Any:
    """The part of a text encoder that its pooled output is from: CLIP L of SD1.5, H of SD2, bigG of SDXL."""
    model = clip.cond_stage_model
    if isinstance(model, comfy.sdxl_clip.SDXLClipModel):
        return model.clip_g
    if isinstance(model, comfy.sd1_clip.SD1ClipModel):
        return getattr(model, model.clip)
    raise ValueError(
        f"A {type(model).__name__} shares no space with pictures: use a CLIP text encoder, such as clip_l.safetensors."
    )


def why_no_text_embedding(clip: Any) -> str:
    """Empty if the file of a CLIP gave the projection into the space of pictures, else a sentence.

    ComfyUI leaves a projection that is in no file uninitialised, and its numbers would look like any others.
    """
    made_by = clip.patcher.cached_patcher_init
    cure = "load clip_l.safetensors with Load CLIP for this."
    if made_by is None:
        return f"Text agreement was not measured, as it is not known if the text encoder has a text projection: {cure}"
    files = made_by[1][0]
    if all(has_text_projection(file) for file in ([files] if isinstance(files, str) else files)):
        return ""
    return f"Text agreement was not measured, as the text encoder's file holds no text projection: {cure}"


def has_text_projection(file: str) -> bool:
    if file.lower().endswith((".safetensors", ".sft")):
        with safe_open(file, "pt") as weights:
            keys = list(weights.keys())
    else:
        loaded: Any = comfy.utils.load_torch_file(file, safe_load=True)
        keys = list(loaded)
    # Of an SD1.5 checkpoint ComfyUI reads no projection, even if there is one.
    return any("text_projection" in key and not key.startswith("cond_stage_model.transformer.") for key in keys)
