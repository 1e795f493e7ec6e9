"""Touches comfy. Per-frame inputs such as ControlNet hints: one for all frames, or one for each that follows it.

ComfyUI gives every context window all hints, and repeats or cuts a batch of another length without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from comfy.controlnet import ControlBase
    from torch import Tensor

# What a prompt's dictionary may hold for each frame, and its name for people.
PER_FRAME = {
    "cross_attn": "prompts",
    "pooled_output": "pooled prompts",
    "mask": "masks",
    "concat_latent_image": "inpaint latents",
    "concat_mask": "inpaint masks",
}


def check_frames(conds: Iterable[dict[str, Any]], frames: int) -> None:
    """Raise ValueError, with both numbers, if a per-frame input is neither one for all frames nor one for each."""
    conds = list(conds)
    for cond in conds:
        for key, name in PER_FRAME.items():
            if isinstance(cond.get(key), torch.Tensor):
                check_count(len(cond[key]), name, frames)
    for control in controls_of([conds]):
        for images in images_to_slice(control):
            check_count(len(images), "ControlNet hints", frames)


def check_count(count: int, name: str, frames: int) -> None:
    if count not in (1, frames):
        raise ValueError(f"{count} {name} for {frames} frames: give one, or one for every frame.")


def controls_of(conds: Iterable[list[dict[str, Any]] | None]) -> list[ControlBase]:
    """Return every ControlNet of the conditioning once, with those it is chained to."""
    controls: dict[int, ControlBase] = {}
    for cond in (cond for kind in conds for cond in kind or ()):
        control = cond.get("control")
        while control is not None:
            controls[id(control)] = control
            control = control.previous_controlnet
    return list(controls.values())


def images_to_slice(control: ControlBase) -> list[Tensor]:
    """Return the images of a control that are given for all frames or for each.

    Advanced-ControlNet cuts its hints to the window itself, so its images are left to it.
    """
    if hasattr(control, "sub_idxs") or control.cond_hint_original is None:
        return []
    return [control.cond_hint_original, *control.extra_concat_orig]


@contextmanager
def hints_of_window(controls: Sequence[ControlBase], frames: int, indices: list[int]) -> Iterator[None]:
    """Within the context, controls that have one image per frame hold those of the frames `indices` alone."""
    whole_clip = [
        (control, control.cond_hint_original, control.extra_concat_orig)
        for control in controls
        if any(len(images) == frames > 1 for images in images_to_slice(control))
    ]

    def of_window(images: Any) -> Any:
        return images[indices] if len(images) == frames else images

    try:
        for control, hint, masks in whole_clip:
            control.cond_hint_original, control.cond_hint = of_window(hint), None
            control.extra_concat_orig = [of_window(mask) for mask in masks]
        yield
    finally:
        for control, hint, masks in whole_clip:
            control.cond_hint_original, control.cond_hint, control.extra_concat_orig = hint, None, masks
