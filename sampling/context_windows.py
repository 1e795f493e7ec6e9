"""Touches comfy. Sliding context: clips of any length, in overlapping windows that the motion module can hold.

A handler for ComfyUI's own context windows. Windows, weights and the noise levels at which they change are worked out
once, before the first step, and no step waits for the GPU to learn how far it is.
"""

from __future__ import annotations

import copy
import inspect
import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from comfy.context_windows import (
    IndexListContextHandler,
    IndexListContextWindow,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from comfy.model_management import throw_exception_if_processing_interrupted

from .devices import spread_over_devices
from .noise import FreeNoise
from .per_frame import controls_of, hints_of_window
from .windows import fuse_weights, windows

if TYPE_CHECKING:
    from torch import Tensor

    from .progress import Progress

UNET, MOTION = "whole UNet", "motion module"
WITHIN = (UNET, MOTION)
CLOSING = 0.25  # part of the sampling in which it is settled what moves where
WHOLE_LOOP = 32  # as a stride: windows as far apart as the clip allows


@dataclass(frozen=True)
class ContextOptions:
    """What one Sliding Context node sets, from `start_percent` of the sampling on until another takes over."""

    length: int = 16
    overlap: int = 4
    schedule: str = "static"
    fuse: str = "pyramid"
    stride: int = 0
    """0 is 1, but in closed loops more at first: a clip that sees all of itself early finds a way back to its start."""
    within: str = UNET
    at_once: int = 1
    """Windows that share a call of the model, if memory allows."""
    free_noise: bool = True
    start_percent: float = 0.0
    node: str | None = None
    """The id of the node, which shows its windows."""

    def __post_init__(self):
        if not 0 <= self.overlap < self.length:
            raise ValueError(
                f"The overlap of {self.overlap} frames has to be smaller than the context length of {self.length}."
            )

    @classmethod
    def of_length(cls, length: int) -> ContextOptions:
        """The defaults, for a motion module that was trained on that many frames."""
        return cls(length, length // 4)

    def windows(self, frames: int, step: int, steps: int) -> WeightedWindows:
        """At one of the sampler's steps."""
        closing = self.schedule == "closed loop" and step < CLOSING * steps
        stride = self.stride or (WHOLE_LOOP if closing else 1)
        found = windows(self.schedule, frames, self.length, self.overlap, stride, step)
        return found, fuse_weights(self.fuse, found, frames, self.overlap)

    def frames_in_flight(self, frames: int) -> int:
        return frames if self.within == MOTION else min(frames, self.length * self.at_once)


class Window(IndexListContextWindow):
    """The frames of one call of the model: one window's, or those of several windows one after the other."""

    def __init__(self, windows: Sequence[Sequence[int]], frames: int):
        super().__init__([i for window in windows for i in window], dim=0, total_frames=frames)
        self.clips = len(windows)
        self.indices: dict[torch.device, Tensor] = {}
        self.prompts: dict[uuid.UUID, uuid.UUID] = {}
        """From the names that prompts have in this window to their own."""

    def get_tensor(self, full: Tensor, device=None, dim=None, retain_index_list=()) -> Tensor:
        dim = dim or 0
        if full.shape[dim] == 1:
            return full
        if full.device not in self.indices:
            self.indices[full.device] = torch.tensor(self.index_list, device=full.device)
        return full.index_select(dim, self.indices[full.device]).to(device)

    def renamed(self, prompt: uuid.UUID) -> uuid.UUID:
        """EasyCache keeps what it found for a prompt under its name, which has to be another in each window."""
        name = uuid.uuid5(prompt, str(self.index_list))
        self.prompts[name] = prompt
        return name


class Call(NamedTuple):
    """One call of the model: its frames, and for each window of them index (length) and weight (length, 1, 1, 1)."""

    window: Window
    parts: list[tuple[Tensor, Tensor]]


# Windows of frames, and the weights (length,) of each.
WeightedWindows = tuple[list[list[int]], list["Tensor"]]


class Plan(NamedTuple):
    """What happens in one step: calls of the model, or one call with windows inside of the motion modules."""

    options: ContextOptions
    windows: list[list[int]]
    calls: Sequence[Call] = ()
    inside: WeightedWindows | None = None


class SlidingContext(IndexListContextHandler):
    """Windows over the frames (dimension 0). On a MODEL it holds options alone; what samples is made by `for_run`."""

    def __init__(self, *options: ContextOptions):
        self.options = sorted(options, key=lambda each: each.start_percent)
        self.plans: list[Plan] = []
        self.sigmas: Sequence[float] = ()
        self.step = 0
        self.progress: Progress | None = None
        longest = max(options, key=lambda each: each.length)
        core: dict[str, Any] = {"context_length": longest.length, "context_overlap": longest.overlap, "dim": 0}
        if "causal_window_fix" in inspect.signature(IndexListContextHandler.__init__).parameters:
            core["causal_window_fix"] = False  # it puts one more frame into a window than the user asked for
        super().__init__(get_matching_context_schedule("standard_static"), get_matching_fuse_method("flat"), **core)

    def with_options(self, options: ContextOptions) -> SlidingContext:
        """A new handler that changes to these options at their start; they replace earlier ones with the same start."""
        kept = (each for each in self.options if each.start_percent != options.start_percent)
        return SlidingContext(*kept, options)

    def for_run(self, progress: Progress | None) -> SlidingContext:
        """Clones of a MODEL share its handler, but a run counts its steps and holds the model."""
        own = copy.copy(self)
        own.progress = progress
        return own

    def noise(self, frames: int) -> tuple[FreeNoise, ...]:
        first = self.options[0]
        if not first.free_noise or frames <= first.length:
            return ()
        return (FreeNoise(first.length, first.length - first.overlap),)

    def frames_in_flight(self, frames: int) -> int:
        """Frames of the largest call of the model, for ComfyUI's estimate of memory."""
        return max(options.frames_in_flight(frames) for options in self.options)

    def begin(self, guider: Any, noise: Tensor, sigmas: Sequence[float]) -> None:
        """Work out every step of a run, from `sigmas` and noise (f, c, h, w). A sampler may begin several times."""
        to_sigma = guider.model_patcher.get_model_object("model_sampling").percent_to_sigma
        starts = [(to_sigma(options.start_percent), options) for options in self.options]
        made: dict[Any, Plan] = {}
        first, self.step, self.plans, self.sigmas = not self.plans, 0, [], sigmas[:-1]
        for step, sigma in enumerate(self.sigmas):
            options = next((each for start, each in reversed(starts) if sigma <= start), self.options[0])
            found = options.windows(len(noise), step, len(sigmas) - 1)
            key = (options, str(found[0]))
            if key not in made:
                at_once = fitting(options, guider.inner_model, guider.conds, noise)
                made[key] = make_plan(options, found, at_once, noise)
            self.plans.append(made[key])
        if first:
            logging.info(f"Sliding Context: {describe(self.plans[0], len(noise))}")
        self.show_windows(None, len(noise))

    def next_step(self, step: int, frames: int) -> None:
        """After the sampler's report of step `step`."""
        if len(self.options) == 1:
            self.go_to(step + 1, frames)

    def go_to(self, step: int, frames: int) -> None:
        before, self.step = self.plan, step
        self.show_windows(before, frames)

    def step_at(self, sigma: float) -> int:
        """The first step with no more noise than that."""
        return next((step for step, each in enumerate(self.sigmas) if each <= sigma * (1 + 1e-6)), len(self.sigmas))

    def show_windows(self, before: Plan | None, frames: int) -> None:
        """On the node, if they are others than `before`."""
        plan = self.plan
        if self.progress is not None and plan is not None and plan is not before:
            self.progress.show_windows(plan.options.node, plan.windows, frames)

    @property
    def plan(self) -> Plan | None:
        return self.plans[min(self.step, len(self.plans) - 1)] if self.plans else None

    @property
    def inside(self) -> WeightedWindows | None:
        """Windows for the motion modules alone, None where the UNet sees windows or the whole clip. The same object
        for the same windows."""
        return self.plan.inside if self.plan else None

    def should_use_context(self, model, conds, x_in: Tensor, timestep, model_options) -> bool:
        if len(self.options) > 1:  # dpm_fast and dpm_adaptive report too few steps to change the options by them
            self.go_to(self.step_at(timestep[0].item()), len(x_in))
        return self.plan is not None and len(self.plan.calls) > 0

    def execute(
        self, calc_cond_batch, model, conds: list[Any], x_in: Tensor, timestep: Tensor, model_options
    ) -> list[Tensor]:
        """The prediction for each of `conds` in every frame of x_in: the weighted mean of what the windows give."""
        assert self.plan is not None
        self._model = model  # core's get_resized_cond asks it
        results = [torch.zeros_like(x_in) for _ in conds]

        def evaluate(call: Call, model, conds, x_in: Tensor, timestep: Tensor, model_options) -> list[Tensor]:
            throw_exception_if_processing_interrupted()
            window = call.window
            sub_conds = [self.get_resized_cond(cond, x_in, window) for cond in conds]
            for cond in (cond for kind in sub_conds for cond in kind or ()):
                cond["uuid"] = window.renamed(cond["uuid"])
            with hints_of_window(controls_of(sub_conds), len(x_in), window.index_list):
                x, t = window.get_tensor(x_in), window.get_tensor(timestep)
                return calc_cond_batch(model, sub_conds, x, t, options_of_window(model_options, window))

        parts = spread_over_devices(evaluate, self.plan.calls, model, conds, x_in, timestep, model_options)
        for done, (call, outs) in enumerate(parts, start=1):
            if self.progress is not None:
                self.progress.within_step(done, len(self.plan.calls))
            for result, out in zip(results, outs, strict=True):
                for (index, weight), part in zip(call.parts, out.chunk(len(call.parts)), strict=True):
                    result.index_add_(0, index, part * weight)
        return results


def options_of_window(model_options: dict[str, Any], window: Window) -> dict[str, Any]:
    """Tells the motion modules, and other packs, which frames a call holds."""
    ad_params = {
        "full_length": window.total_frames,
        "context_length": len(window.index_list),
        "sub_idxs": window.index_list,
    }
    told = {**model_options["transformer_options"], "context_window": window, "ad_params": ad_params}
    return {**model_options, "transformer_options": told}


def make_plan(options: ContextOptions, weighted: WeightedWindows, at_once: int, noise: Tensor) -> Plan:
    """For windows over noise (f, c, h, w)."""
    found, _ = weighted
    if len(found) == 1:
        return Plan(options, found)
    if options.within == MOTION:
        return Plan(options, found, inside=weighted)
    return Plan(options, found, list(calls(weighted, at_once, noise)))


def calls(weighted: WeightedWindows, at_once: int, noise: Tensor) -> Iterator[Call]:
    found, weights = weighted
    for first in range(0, len(found), at_once):
        group = slice(first, first + at_once)
        parts = [
            (torch.tensor(frames, device=noise.device), weight.to(noise).view(-1, 1, 1, 1))
            for frames, weight in zip(found[group], weights[group], strict=True)
        ]
        window = Window(found[group], len(noise))
        window.indices[noise.device] = torch.cat([index for index, _ in parts])
        yield Call(window, parts)


def fitting(options: ContextOptions, model: Any, conds: dict[str, list[Any]], noise: Tensor) -> int:
    """How many windows share a call: as many as asked for, or fewer if they would not fit into the free memory, by the
    same estimate with which ComfyUI decides how many prompts share one."""
    count, at_once = sum(map(len, conds.values())), options.at_once
    free = model.current_patcher.get_free_memory(noise.device) if at_once > 1 else 0
    while at_once > 1:
        shape = [count * at_once * options.length, *noise.shape[1:]]
        if model.memory_required(shape) * 1.5 < free:
            break
        at_once -= 1
    return at_once


def describe(plan: Plan, frames: int) -> str:
    if plan.inside is not None:
        found = plan.inside[0]
        return f"{frames} frames, in {len(found)} windows of {len(found[0])} inside of the motion modules."
    if not plan.calls:
        return f"{frames} frames fit into one window."
    count, length = sum(call.window.clips for call in plan.calls), len(plan.calls[0].parts[0][0])
    return f"{frames} frames, in {count} windows of {length}, {plan.calls[0].window.clips} at once."
