"""Touches comfy. Sliding context: clips of any length, in overlapping windows that the motion module can hold.

A handler for ComfyUI's own context windows. Windows, weights and the noise levels at which they change are worked out
once, before the first step, so no step waits for the GPU to learn how far it is.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import logging
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from comfy.context_windows import (
    IndexListContextHandler,
    IndexListContextWindow,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_management import throw_exception_if_processing_interrupted

from ..motion_models.motion_model import AttentionWindows
from .calls import KEY, CallFrames
from .devices import spread_over_devices
from .noise import FreeNoise
from .per_frame import controls_of, hints_of_window
from .reference import END, FirstWindow
from .windows import fuse_weights, windows, wraps

if TYPE_CHECKING:
    from torch import Tensor

    from .progress import Progress

UNET, MOTION = "whole UNet", "motion module"
WITHIN = (UNET, MOTION)
IN_PLACE = ("static", "batched")  # schedules without a stride
CLOSING = 0.25  # part of the sampling in which large movements are decided
WHOLE_LOOP = 32  # as a stride: windows as far apart as the clip allows


@dataclass(frozen=True)
class ContextOptions:
    """The values of one Sliding Context node, which hold from `start_percent` on until another takes over."""

    length: int = 16
    overlap: int = 4
    schedule: str = "static"
    fuse: str = "pyramid"
    stride: int = 0
    """0 means 1, and more at first in closed loops: a clip that sees all of itself early finds back to its start."""
    within: str = UNET
    at_once: int = 1
    """Windows that share a call of the model, if memory allows."""
    free_noise: bool = True
    reference: float = 0.0
    """How much of the first window's features later windows attend to in the first steps, 0 to 1."""
    start_percent: float = 0.0
    node: str | None = None
    """Id of the node, which shows its windows."""

    def __post_init__(self):
        if not 0 <= self.overlap < self.length:
            raise ValueError(
                f"The overlap of {self.overlap} frames must be smaller than the context length of {self.length}."
            )

    def idle_settings(self) -> list[str]:
        """Return what was set and does nothing, for the log."""
        idle = {
            f"context_stride {self.stride} does nothing with {self.schedule} windows": self.stride > 1
            and self.schedule in IN_PLACE,
            f"context_overlap {self.overlap} does nothing with batched windows": self.overlap != ContextOptions.overlap
            and self.schedule == "batched"
            and not self.free_noise,
            f"windows_at_once {self.at_once} does nothing within the {MOTION}": self.at_once > 1
            and self.within == MOTION,
            f"reference {self.reference:g} does nothing within the {MOTION}": self.reference > 0
            and self.within == MOTION,
        }
        return [sentence for sentence, holds in idle.items() if holds]

    def idle_in_clip(self, frames: int, steps: int) -> list[str]:
        """Return what was set and changes nothing in the windows of a clip, for the log."""
        lists = [self.windows(frames, step, steps)[0] for step in range(steps)]
        apart = all(sum(map(len, step_lists)) == frames for step_lists in lists)
        fewer = replace(self, stride=max(self.stride - 1, 1))
        idle = {
            f"fuse {self.fuse} does nothing with windows that do not overlap, as in {frames} frames": apart
            and self.fuse != ContextOptions.fuse,
            f"context_stride {self.stride} adds no windows in {frames} frames": self.stride > 1
            and self.schedule not in IN_PLACE
            and lists == [fewer.windows(frames, step, steps)[0] for step in range(steps)],
        }
        return [sentence for sentence, holds in idle.items() if holds and len(lists[0]) > 1]

    @classmethod
    def of_length(cls, length: int) -> ContextOptions:
        """Return the defaults for a motion module that was trained on that many frames."""
        return cls(length, length // 4)

    def windows(self, frames: int, step: int, steps: int) -> WeightedWindows:
        """Return the windows at one of the `steps` noise levels of a run, the highest being step 0."""
        closing = self.schedule == "closed loop" and step < CLOSING * steps
        stride = self.stride or (WHOLE_LOOP if closing else 1)
        frame_lists = windows(self.schedule, frames, length=self.length, overlap=self.overlap, stride=stride, step=step)
        return frame_lists, fuse_weights(self.fuse, frame_lists, frames, overlap=self.overlap)

    def frames_in_flight(self, frames: int) -> int:
        if self.within == MOTION:
            return frames
        features = self.length // 3 if self.reference else 0  # of the first window, which take about as much memory
        return min(frames, self.length * self.at_once + features)


class Window(IndexListContextWindow):
    """The frames of one call of the model: one window's, or those of several windows one after the other."""

    def __init__(self, windows: Sequence[Sequence[int]], frames: int, loop: bool = False):
        super().__init__([i for window in windows for i in window], dim=0, total_frames=frames)
        self.count, self.loop = len(windows), loop
        self.indices: dict[torch.device, Tensor] = {}

    def get_tensor(self, full: Tensor, device=None, dim=None, retain_index_list=()) -> Tensor:
        dim = dim or 0
        if full.shape[dim] == 1:
            return full
        if full.device not in self.indices:
            self.indices[full.device] = torch.tensor(self.index_list, device=full.device)
        return full.index_select(dim, self.indices[full.device]).to(device)

    def call_frames(self, conds: Sequence[list[dict[str, Any]] | None]) -> CallFrames:
        """Return what the call holds, after giving the prompts in `conds` names of their own in this window.

        EasyCache keeps its results under a prompt's name, so that has to differ from window to window.
        """
        prompts = {}
        for cond in (cond for kind in conds for cond in kind or ()):
            name = uuid.uuid5(cond["uuid"], str(self.index_list))
            prompts[name], cond["uuid"] = cond["uuid"], name
        indices = tuple(self.index_list)
        return CallFrames(
            clip=self.total_frames,
            length=len(indices) // self.count,
            indices=indices,
            windows=self.count,
            loop=self.loop,
            prompts=prompts,
        )


class Call(NamedTuple):
    """One call of the model: its frames, and for each window of them index (length) and weight (length, 1, 1, 1)."""

    window: Window
    parts: list[tuple[Tensor, Tensor]]


# Windows of frames, and the weights (length,) of each.
WeightedWindows = tuple[list[list[int]], list["Tensor"]]


class Plan(NamedTuple):
    """The plan of one noise level: calls of the model, or one call with windows inside the motion modules."""

    options: ContextOptions
    windows: list[list[int]]
    calls: Sequence[Call] = ()
    inside: Callable[[torch.device], AttentionWindows] | None = None


class SlidingContext(IndexListContextHandler):
    """Windows over the frames (dimension 0). A MODEL carries one with options alone; `for_run` gives one to sample."""

    def __init__(self, *options: ContextOptions):
        self.options = sorted(options, key=lambda of_node: of_node.start_percent)
        self.plans: list[Plan] = []
        self.levels: Sequence[float] = ()  # noise levels, falling, each with its plan; a run may take them in any order
        self.steps: Sequence[int] = ()  # places of the sampler's steps among them
        self.step = 0
        self.reference_end = math.inf  # noise level
        self.progress: Progress | None = None
        longest = max(options, key=lambda of_node: of_node.length)
        core: dict[str, Any] = {"context_length": longest.length, "context_overlap": longest.overlap, "dim": 0}
        if "causal_window_fix" in inspect.signature(IndexListContextHandler.__init__).parameters:
            core["causal_window_fix"] = False  # it puts one more frame into a window than the user asked for
        super().__init__(get_matching_context_schedule("standard_static"), get_matching_fuse_method("flat"), **core)

    def with_options(self, options: ContextOptions) -> SlidingContext:
        """Return a handler that changes to these options at their start, where they replace earlier ones."""
        earlier = (of_node for of_node in self.options if of_node.start_percent != options.start_percent)
        return SlidingContext(*earlier, options)

    def for_run(self, progress: Progress | None) -> SlidingContext:
        """Return a copy for one run, since clones of a MODEL share their handler and a run counts its steps."""
        running = copy.copy(self)
        running.progress = progress
        return running

    def noise(self, frames: int) -> tuple[FreeNoise, ...]:
        first = self.options[0]
        if not first.free_noise or frames <= first.length:
            return ()
        return (FreeNoise(first.length, first.length - first.overlap),)

    def frames_in_flight(self, frames: int) -> int:
        """Return the frames of the largest call of the model, for ComfyUI's estimate of memory."""
        return max(options.frames_in_flight(frames) for options in self.options)

    def begin(self, guider: Any, noise: Tensor, sigmas: Sequence[float]) -> None:
        """Plan a run's noise levels, from `sigmas` and noise (f, c, h, w). A sampler may begin several times."""
        to_sigma = guider.model_patcher.get_model_object("model_sampling").percent_to_sigma
        starts = [(to_sigma(options.start_percent), options) for options in self.options]
        unet = isinstance(guider.inner_model.diffusion_model, UNetModel)
        self.reference_end = to_sigma(END) if unet else math.inf
        plan_by_windows: dict[Any, Plan] = {}
        first_time, self.plans = not self.plans, []
        self.levels = sorted(set(sigmas), reverse=True)[:-1] or list(sigmas[:1])
        self.steps = [self.step_at(sigma) for sigma in sigmas[:-1]]
        self.step = self.steps[0] if self.steps else 0
        for step, sigma in enumerate(self.levels):
            options = next((options for start, options in reversed(starts) if sigma <= start), self.options[0])
            weighted = options.windows(len(noise), step, len(self.levels))
            key = (options, str(weighted[0]))
            if key not in plan_by_windows:
                at_once = windows_that_fit(options, model=guider.inner_model, conds=guider.conds, noise=noise)
                plan_by_windows[key] = make_plan(options, weighted, at_once=at_once, noise=noise)
            self.plans.append(plan_by_windows[key])
        if first_time:
            logging.info(f"Sliding Context: {describe(self.plans[self.step], len(noise))}")
            idle = (of_node.idle_in_clip(len(noise), len(self.levels)) for of_node in self.options)
            referring = [step for step, plan in enumerate(self.plans) if plan.options.reference and plan.calls]
            if referring and not any(map(self.refers_at, referring)):
                reason = "when sampling begins after its first quarter" if unet else "with a model that is no UNet"
                logging.info(f"Sliding Context: reference does nothing {reason}.")
            for sentence in itertools.chain.from_iterable(idle):
                logging.info(f"Sliding Context: {sentence}.")
        self.show_windows(None, len(noise))

    @property
    def refers(self) -> bool:
        return any(options.reference > 0 for options in self.options)

    @property
    def follows_levels(self) -> bool:
        """Return whether steps are told by their noise levels, which asks the GPU, and not by the sampler's reports."""
        return len(self.options) > 1 or self.refers

    def refers_at(self, step: int) -> bool:
        """Return whether windows attend to the first one at one of the noise levels."""
        plan = self.plans[step]
        return plan.options.reference > 0 and bool(plan.calls) and self.levels[step] >= self.reference_end

    def next_step(self, step: int, frames: int) -> None:
        """Follow the sampler's report of step `step`."""
        if not self.follows_levels:
            self.go_to(self.steps[min(step + 1, len(self.steps) - 1)], frames)

    def go_to(self, step: int, frames: int) -> None:
        before, self.step = self.plan, step
        self.show_windows(before, frames)

    def step_at(self, sigma: float) -> int:
        """Return the highest of the noise levels that is not above that one."""
        below = (step for step, level in enumerate(self.levels) if level <= sigma * (1 + 1e-6))
        return next(below, len(self.levels) - 1)

    def show_windows(self, before: Plan | None, frames: int) -> None:
        """Show the windows on the node if they differ from those of `before`."""
        plan = self.plan
        if self.progress is not None and plan is not None and plan is not before:
            self.progress.show_windows(plan.options.node, plan.windows, frames)

    @property
    def plan(self) -> Plan | None:
        return self.plans[self.step] if self.plans else None

    def attention_windows(self, device: torch.device) -> AttentionWindows | None:
        """Return the windows inside the motion modules; None where the UNet sees windows or the whole clip."""
        return self.plan.inside(device) if self.plan and self.plan.inside else None

    def should_use_context(self, model, conds, x_in: Tensor, timestep, model_options) -> bool:
        if self.follows_levels:  # dpm_fast and dpm_adaptive report too few steps to count them
            self.go_to(self.step_at(timestep[0].item()), len(x_in))
        return self.plan is not None and len(self.plan.calls) > 0

    def execute(
        self, calc_cond_batch, model, conds: list[Any], x_in: Tensor, timestep: Tensor, model_options
    ) -> list[Tensor]:
        """Return the prediction for each of `conds` in every frame of x_in: the weighted mean over the windows."""
        assert self.plan is not None
        self._model = model  # core's get_resized_cond asks it
        results = [torch.zeros_like(x_in) for _ in conds]
        first = self.plan.calls[0]
        reference = FirstWindow(self.plan.options.reference) if self.refers_at(self.step) else None

        def evaluate(call: Call, model, conds, x_in: Tensor, timestep: Tensor, model_options) -> list[Tensor]:
            throw_exception_if_processing_interrupted()
            window = call.window
            sub_conds = [self.get_resized_cond(cond, x_in, window) for cond in conds]
            options = options_of_window(model_options, window, window.call_frames(sub_conds))
            if reference is not None:
                options["transformer_options"] |= reference.patches(options["transformer_options"], call is first)
            with hints_of_window(controls_of(sub_conds), len(x_in), window.index_list):
                return calc_cond_batch(model, sub_conds, window.get_tensor(x_in), window.get_tensor(timestep), options)

        groups = (self.plan.calls[:1], self.plan.calls[1:]) if reference is not None else (self.plan.calls,)
        outputs = itertools.chain.from_iterable(
            spread_over_devices(
                evaluate,
                calls=group,
                model=model,
                conds=conds,
                x=x_in,
                timestep=timestep,
                model_options=model_options,
            )
            for group in groups
        )
        for done, (call, predictions) in enumerate(outputs, start=1):
            if self.progress is not None:
                self.progress.within_step(done, len(self.plan.calls))
            for result, prediction in zip(results, predictions, strict=True):
                for (index, weight), part in zip(call.parts, prediction.chunk(len(call.parts)), strict=True):
                    result.index_add_(0, index, part * weight)
        return results


def options_of_window(model_options: dict[str, Any], window: Window, frames: CallFrames) -> dict[str, Any]:
    """Return options that tell motion modules, ComfyUI and other packs which frames a call holds."""
    of_window = {"context_window": window, KEY: frames, "ad_params": frames.ad_params()}
    return {**model_options, "transformer_options": {**model_options["transformer_options"], **of_window}}


def make_plan(options: ContextOptions, weighted: WeightedWindows, at_once: int, noise: Tensor) -> Plan:
    """Plan a step with windows over noise (f, c, h, w)."""
    frame_lists, weights = weighted
    if len(frame_lists) == 1:
        return Plan(options, frame_lists)
    if options.within == MOTION:
        inside = functools.cache(lambda device: AttentionWindows.of(frame_lists, weights, device))
        return Plan(options, frame_lists, inside=inside)
    return Plan(options, frame_lists, list(calls(weighted, at_once, noise)))


def calls(weighted: WeightedWindows, at_once: int, noise: Tensor) -> Iterator[Call]:
    frame_lists, weights = weighted
    loop = any(map(wraps, frame_lists))
    for first in range(0, len(frame_lists), at_once):
        group = slice(first, first + at_once)
        parts = [
            (torch.tensor(frames, device=noise.device), weight.to(noise).view(-1, 1, 1, 1))
            for frames, weight in zip(frame_lists[group], weights[group], strict=True)
        ]
        window = Window(frame_lists[group], len(noise), loop)
        window.indices[noise.device] = torch.cat([index for index, _ in parts])
        yield Call(window, parts)


def windows_that_fit(options: ContextOptions, model: Any, conds: dict[str, list[Any]], noise: Tensor) -> int:
    """Return how many windows share a call: as many as asked for, or fewer if they would not fit into free memory.

    The estimate is the one by which ComfyUI decides how many prompts share a call.
    """
    prompts, at_once = sum(map(len, conds.values())), options.at_once
    free = model.current_patcher.get_free_memory(noise.device) if at_once > 1 else 0
    while at_once > 1:
        shape = [prompts * at_once * options.length, *noise.shape[1:]]
        if model.memory_required(shape) * 1.5 < free:
            break
        at_once -= 1
    return at_once


def describe(plan: Plan, frames: int) -> str:
    """Return what a plan does, for the log."""
    length = len(plan.windows[0])
    if plan.inside is not None:
        return f"{frames} frames, in {len(plan.windows)} windows of {length} inside the motion modules."
    if not plan.calls:
        return f"{frames} frames fit into one window."
    return f"{frames} frames, in {len(plan.windows)} windows of {length}, {plan.calls[0].window.count} at once."
