"""Context options of old workflows: what Sliding Context does, as a side input of the node that applies."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from comfy_api.latest import io

from ...sampling.context_windows import ContextOptions, WeightedWindows
from ...sampling.windows import FUSES
from . import sockets

DESCRIPTION = "From an old workflow. In new graphs Sliding Context does this, in front of the sampler."


@dataclass(frozen=True)
class OldContextOptions(ContextOptions):
    """A clip that fits into one window stays whole, also where it is to be a closed loop; one that just fits does with
    `on_equal_length` become one."""

    on_equal_length: bool = False

    def windows(self, frames: int, step: int, steps: int) -> WeightedWindows:
        whole = frames < self.length or (frames == self.length and not self.on_equal_length)
        return ContextOptions.windows(replace(self, schedule="static") if whole else self, frames, step, steps)


LENGTH = io.Int.Input("context_length", default=16, min=1, max=128, tooltip="Frames in a window.")
OVERLAP = io.Int.Input("context_overlap", default=4, min=0, max=128, tooltip="Frames shared with the next window.")
STRIDE = io.Int.Input(
    "context_stride", default=1, min=1, max=32, tooltip="From 2 on, also windows of every 2nd, 4th ... frame."
)
FUSE = io.Combo.Input(
    "fuse_method",
    options=list(FUSES),
    default="pyramid",
    optional=True,
    tooltip="How overlapping windows are blended. Experimental methods are not carried over: choose another.",
)
ON_EQUAL_LENGTH = io.Boolean.Input(
    "use_on_equal_length",
    default=False,
    optional=True,
    tooltip="A closed loop also of clips that are exactly as long as a window.",
)
WHEN: list[io.Input] = [
    io.Float.Input(
        "start_percent",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.001,
        optional=True,
        tooltip="From where in the sampling on these windows are used.",
    ),
    io.Int.Input(
        "guarantee_steps",
        default=1,
        min=0,
        max=2**53 - 1,
        optional=True,
        tooltip="Not carried over: windows change where the next ones start.",
    ),
    sockets.ContextOptions.Input("prev_context", optional=True, tooltip="Windows that are used before these start."),
]
BLEND: list[io.Input] = [FUSE, ON_EQUAL_LENGTH]
VIEWS = sockets.not_carried_over("view_opts")
OUTPUT = sockets.ContextOptions.Output(display_name="CONTEXT_OPTS", tooltip="For Use Evolved Sampling or a loader.")


class OldStandardStaticContextOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        name, inputs = "Context Options: Standard Static", [LENGTH, OVERLAP, *BLEND, *WHEN, *VIEWS]
        return sockets.old_node("StandardStaticContextOptions", name, DESCRIPTION, inputs, OUTPUT)

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        return context_options("static", **inputs)


class OldStandardUniformContextOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        name, inputs = "Context Options: Standard Uniform", [LENGTH, STRIDE, OVERLAP, *BLEND, *WHEN, *VIEWS]
        return sockets.old_node("StandardUniformContextOptions", name, DESCRIPTION, inputs, OUTPUT)

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        return context_options("uniform", **inputs)


class OldLoopedUniformContextOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        closed_loop = io.Boolean.Input("closed_loop", default=False, tooltip="The last frame leads to the first.")
        inputs = [LENGTH, STRIDE, OVERLAP, closed_loop, *BLEND, *WHEN, *VIEWS]
        name = "Context Options: Looped Uniform"
        return sockets.old_node("LoopedUniformContextOptions", name, DESCRIPTION, inputs, OUTPUT)

    @classmethod
    def execute(cls, closed_loop: bool, use_on_equal_length: bool = False, **inputs) -> io.NodeOutput:
        if use_on_equal_length and not closed_loop:
            logging.warning("AnimateDiff: use_on_equal_length changes nothing where closed_loop is off.")
        schedule = "closed loop" if closed_loop else "looped"
        return context_options(schedule, use_on_equal_length=use_on_equal_length, **inputs)


class OldBatchedContextOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        name = "Context Options: Batched"
        return sockets.old_node("BatchedContextOptions", name, DESCRIPTION, [LENGTH, *WHEN], OUTPUT)

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        return context_options("batched", context_overlap=0, **inputs)


def context_options(
    schedule: str,
    context_length: int,
    context_overlap: int,
    context_stride: int = 1,
    fuse_method: str = "pyramid",
    use_on_equal_length: bool = False,
    start_percent: float = 0.0,
    guarantee_steps: int = 1,
    prev_context: tuple[ContextOptions, ...] = (),
    **others,
) -> io.NodeOutput:
    sockets.refuse(others)
    if guarantee_steps > 1:
        logging.warning(f"AnimateDiff: guarantee_steps of {guarantee_steps} are not kept, start_percent counts.")
    if any(each.start_percent == start_percent for each in prev_context):
        logging.warning(f"AnimateDiff: of context options that start at {start_percent:g} only the last are used.")
    options = OldContextOptions(
        context_length,
        context_overlap,
        schedule,
        fuse_method,
        context_stride,
        free_noise=False,  # Sample Settings turns it on
        start_percent=start_percent,
        on_equal_length=use_on_equal_length,
    )
    return io.NodeOutput((*prev_context, options))
