"""Touches comfy. What belongs to frames, such as ControlNet hints: one for all, or each with its frame into a window.

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
    """ValueError with both numbers if anything that belongs to frames is neither one for all nor one for each."""
    conds = list(conds)
    for cond in conds:
        for key, name in PER_FRAME.items():
            if isinstance(cond.get(key), torch.Tensor):
                check_count(len(cond[key]), name, frames)
    for control in controls_of([conds]):
        for images in sliced_by_us(control):
            check_count(len(images), "ControlNet hints", frames)


def check_count(count: int, name: str, frames: int) -> None:
    if count not in (1, frames):
        raise ValueError(f"{count} {name} for {frames} frames: give one, or one for every frame.")


def controls_of(conds: Iterable[list[dict[str, Any]] | None]) -> list[ControlBase]:
    """Every ControlNet of the conditioning once, with those it is chained to."""
    found: dict[int, ControlBase] = {}
    for cond in (cond for kind in conds for cond in kind or ()):
        control = cond.get("control")
        while control is not None:
            found[id(control)] = control
            control = control.previous_controlnet
    return list(found.values())


def sliced_by_us(control: ControlBase) -> list[Tensor]:
    """The images of a control that are given for all frames or for each. Those of Advanced-ControlNet, which cuts its
    hints to the window itself, are left to it."""
    if hasattr(control, "sub_idxs") or control.cond_hint_original is None:
        return []
    return [control.cond_hint_original, *control.extra_concat_orig]


@contextmanager
def hints_of_window(controls: Sequence[ControlBase], frames: int, indices: list[int]) -> Iterator[None]:
    """Within the context, controls that have one image per frame hold those of the frames `indices` alone."""
    with_own = [control for control in controls if any(len(images) == frames > 1 for images in sliced_by_us(control))]
    kept = [(control, control.cond_hint_original, control.extra_concat_orig) for control in with_own]

    def of_window(images: Any) -> Any:
        return images[indices] if len(images) == frames else images

    try:
        for control, hint, masks in kept:
            control.cond_hint_original, control.cond_hint = of_window(hint), None
            control.extra_concat_orig = [of_window(mask) for mask in masks]
        yield
    finally:
        for control, hint, masks in kept:
            control.cond_hint_original, control.cond_hint, control.extra_concat_orig = hint, None, masks
