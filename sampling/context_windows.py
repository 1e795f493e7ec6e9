"""Touches comfy. Sliding context: clips of any length, in overlapping windows that the motion module can hold.

ComfyUI's own context windows do the work; what they leave out for animations is added here.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension
from comfy.context_windows import (
    IndexListContextHandler,
    create_prepare_sampling_wrapper,
    get_matching_context_schedule,
    get_matching_fuse_method,
)

if TYPE_CHECKING:
    from comfy.controlnet import ControlBase
    from comfy.model_patcher import ModelPatcher
    from torch import Tensor

KEY = "animatediff_native.sliding_context"
DEFAULT_LENGTH = 16
DEFAULT_OVERLAP = 4
SCHEDULES = {"static": "standard_static", "uniform": "standard_uniform"}
Wrapper = comfy.patcher_extension.WrappersMP


class SlidingContext(IndexListContextHandler):
    """Windows over the frames (dimension 0), blended with pyramid weights.

    "static" uses the same windows at every step; "uniform" shifts them from step to step, which spreads the seams.
    """

    def __init__(self, length: int, overlap: int, schedule: str = "static"):
        if not 0 <= overlap < length:
            raise ValueError(f"The overlap of {overlap} frames has to be smaller than the context length of {length}.")
        options: dict[str, Any] = {"context_length": length, "context_overlap": overlap, "dim": 0}
        if "causal_window_fix" in inspect.signature(IndexListContextHandler.__init__).parameters:
            options["causal_window_fix"] = False  # it puts one more frame into a window than the user asked for
        super().__init__(
            get_matching_context_schedule(SCHEDULES[schedule]), get_matching_fuse_method("pyramid"), **options
        )

    def should_use_context(self, model, conds, x_in: Tensor, timestep, model_options) -> bool:
        return x_in.shape[0] > self.context_length

    def evaluate_context_windows(
        self, calc_cond_batch, model, x_in, conds, timestep, enumerated_context_windows, model_options, *args, **kwargs
    ):
        """Per window: tell other packs which frames these are, and let ControlNet hints follow their frames."""
        frames, results = x_in.shape[0], []
        for number, window in enumerated_context_windows:
            model_options["transformer_options"]["ad_params"] = {
                "full_length": frames,
                "context_length": self.context_length,
                "sub_idxs": window.index_list,
            }
            with hints_of_window(controls_of(conds), frames, window.index_list):
                results += super().evaluate_context_windows(
                    calc_cond_batch, model, x_in, conds, timestep, [(number, window)], model_options, *args, **kwargs
                )
        return results


def controls_of(conds: list[list[dict[str, Any]] | None]) -> list[ControlBase]:
    """Every ControlNet of the conditioning once, with those it is chained to and its copies on other GPUs."""
    found: dict[int, ControlBase] = {}
    for cond in (cond for conds_of_kind in conds for cond in conds_of_kind or ()):
        control = cond.get("control")
        while control is not None:
            for each in (control, *getattr(control, "multigpu_clones", {}).values()):
                found[id(each)] = each
            control = control.previous_controlnet
    return list(found.values())


@contextmanager
def hints_of_window(controls: list[ControlBase], frames: int, indices: list[int]) -> Iterator[None]:
    """Within the context, hints that have one image per frame hold the window's images alone.

    Raises ValueError if the number of hints is neither one nor that of the frames. Controls that slice by themselves,
    those of Advanced-ControlNet, are left to it.
    """
    hints = {c: c.cond_hint_original for c in controls if not hasattr(c, "sub_idxs")}
    hints = {control: hint for control, hint in hints.items() if hint is not None and hint.shape[0] > 1}
    for hint in hints.values():
        if hint.shape[0] != frames:
            raise ValueError(f"{hint.shape[0]} ControlNet hints for {frames} frames: give one hint, or one per frame.")
    try:
        for control, hint in hints.items():
            control.cond_hint_original, control.cond_hint = hint[indices], None
        yield
    finally:
        for control, hint in hints.items():
            control.cond_hint_original, control.cond_hint = hint, None


def apply_sliding_context(model: ModelPatcher, handler: SlidingContext) -> ModelPatcher:
    """A clone of `model` that samples clips longer than the context length in windows."""
    model = model.clone()
    options: dict[str, Any] = model.model_options
    options["context_handler"] = handler
    create_prepare_sampling_wrapper(model)  # budgets memory for one window
    model.add_wrapper_with_key(Wrapper.OUTER_SAMPLE, KEY, own_handler)
    return model


def own_handler(executor, *args, **kwargs):
    """Give this run a handler of its own: it counts steps and holds the model, and clones of a MODEL share it."""
    options = executor.class_obj.model_options
    options["context_handler"] = copy.copy(options["context_handler"])
    return executor(*args, **kwargs)


def use_default_windows(model_options: dict[str, Any], limit: int) -> None:
    """Give one run, by its own options, Sliding Context with its defaults and windows of at most `limit` frames."""
    length = min(DEFAULT_LENGTH, limit)
    model_options["context_handler"] = SlidingContext(length, min(DEFAULT_OVERLAP, length // 4))
    comfy.patcher_extension.add_wrapper_with_key(
        Wrapper.PREPARE_SAMPLING, KEY, one_window, model_options, is_model_options=True
    )


def one_window(executor, model, noise_shape, conds, *args, **kwargs):
    """Budget memory for one window. Core's wrapper of this kind goes onto a MODEL, this one onto a run's options."""
    length = kwargs["model_options"]["context_handler"].context_length
    return executor(model, [min(noise_shape[0], length), *noise_shape[1:]], conds, *args, **kwargs)
