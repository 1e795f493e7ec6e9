"""Blend the conditionings of a schedule's prompts. Needs no ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .prompt_schedule import Blend, distinct_prompts

Conditioning = list[list[Any]]
"""Conditioning as in ComfyUI: [[tensor (b, tokens, c), {"pooled_output": (b, c), ...}], ...]."""

MOST_TOKENS = 1 << 15  # 425 times CLIP's 77
NEARLY_PARALLEL = 0.9995  # cosine from which an arc is as good as straight, and its sine too small to divide by


def blend(encoded: Mapping[str, Conditioning], shown: Sequence[Blend], interpolation: str) -> Conditioning:
    """Return one conditioning for all frames, with tensors (frames, tokens, c) and pooled outputs (frames, c).

    `encoded` holds every prompt's own conditioning of batch 1. Where these have several entries, as from a text encoder
    with hooks, every entry is blended with its counterparts. All else in an entry comes from the first frame's prompt.
    """
    mix, prompts, result = INTERPOLATIONS[interpolation], distinct_prompts(shown), []
    for entries in zip(*(encoded[prompt] for prompt in prompts), strict=True):
        tokens, values = same_length([entry[0] for entry in entries]), dict(entries[0][1])
        if values.get("pooled_output") is not None:
            pooled = (entry[1]["pooled_output"] for entry in entries)
            values["pooled_output"] = over_frames(dict(zip(prompts, pooled, strict=True)), shown, mix)
        result.append([over_frames(dict(zip(prompts, tokens, strict=True)), shown, mix), values])
    return result


def over_frames(vectors: Mapping[str, Any], shown: Sequence[Blend], mix: Callable[..., Tensor]) -> Tensor:
    """Return the vectors of all frames: (frames, ...) of (1, ...) for each prompt."""
    return torch.cat([mix(vectors[b.first], vectors[b.second], b.t) if b.t else vectors[b.first] for b in shown])


def same_length(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors (..., tokens, c) repeated to the least common multiple of their lengths.

    Attention over a prompt's tokens is the same however often they are repeated. ValueError if that takes too many.
    """
    lengths = {prompt.shape[-2] for prompt in tokens}
    length = math.lcm(*lengths)
    if length > MOST_TOKENS:
        raise ValueError(
            f"The prompts have {len(lengths)} different lengths, which cannot be blended: shorten the longest."
        )
    return [torch.cat([prompt] * (length // prompt.shape[-2]), dim=-2) for prompt in tokens]


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Return vectors (last dimension) turned along the great circle, with linearly interpolated lengths.

    Vectors nearly parallel or opposite are interpolated linearly. Shoemake, "Animating rotation with quaternion
    curves", SIGGRAPH 1985.
    """
    if t in (0.0, 1.0):
        return b if t else a
    x, y = a.float(), b.float()
    lengths = [vectors.norm(dim=-1, keepdim=True) for vectors in (x, y)]
    u, v = (vectors / length.clamp_min(1e-12) for vectors, length in zip((x, y), lengths, strict=True))
    cosine = (u * v).sum(-1, keepdim=True)
    angle = cosine.clamp(-NEARLY_PARALLEL, NEARLY_PARALLEL).acos()
    turned = (torch.sin((1.0 - t) * angle) * u + torch.sin(t * angle) * v) / angle.sin()
    straight = (cosine.abs() > NEARLY_PARALLEL) | (lengths[0] * lengths[1] == 0)
    return torch.where(straight, x.lerp(y, t), turned * lengths[0].lerp(lengths[1], t)).to(a.dtype)


INTERPOLATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"linear": torch.lerp, "slerp": slerp}
