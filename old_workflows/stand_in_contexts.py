"""Touches comfy. Context options of old workflows: what Sliding Context does, as a side input of the node that applies.

Sockets hold a tuple of `OldContextOptions`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ..sampling.context_windows import ContextOptions, WeightedWindows


@dataclass(frozen=True)
class OldContextOptions(ContextOptions):
    """Windows that leave a clip whole if it fits into one, even as a closed loop. With `on_equal_length`, a clip that
    just fits becomes a closed loop."""

    on_equal_length: bool = False

    def windows(self, frames: int, step: int, steps: int) -> WeightedWindows:
        whole = frames < self.length or (frames == self.length and not self.on_equal_length)
        return ContextOptions.windows(replace(self, schedule="static") if whole else self, frames, step, steps)


def looped(closed_loop: bool, use_on_equal_length: bool = False, **inputs) -> tuple[ContextOptions, ...]:
    if use_on_equal_length and not closed_loop:
        logging.warning("AnimateDiff: use_on_equal_length has no effect while closed_loop is off.")
    schedule = "closed loop" if closed_loop else "looped"
    return context_options(schedule, use_on_equal_length=use_on_equal_length, **inputs)


def context_options(
    schedule: str,
    context_length: int,
    context_overlap: int = 0,
    context_stride: int = 1,
    fuse_method: str = "pyramid",
    use_on_equal_length: bool = False,
    start_percent: float = 0.0,
    guarantee_steps: int = 1,
    prev_context: tuple[ContextOptions, ...] = (),
) -> tuple[ContextOptions, ...]:
    if guarantee_steps > 1:
        logging.warning(f"AnimateDiff: guarantee_steps {guarantee_steps} is ignored; windows change at start_percent.")
    if any(options.start_percent == start_percent for options in prev_context):
        logging.warning(f"AnimateDiff: several context options start at {start_percent:g}; only the last are used.")
    options = OldContextOptions(
        length=context_length,
        overlap=context_overlap,
        schedule=schedule,
        fuse=fuse_method,
        stride=context_stride,
        free_noise=False,  # Sample Settings turns it on
        start_percent=start_percent,
        on_equal_length=use_on_equal_length,
    )
    return (*prev_context, options)
