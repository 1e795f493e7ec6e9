"""Define Motion Curve: numbers that change over a clip's frames, its picture, or its sampling."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..sampling import curves
from ..sampling.timeline import EASINGS
from .schema import Schema
from .sockets import MotionCurve

Floats = io.Custom("FLOATS")
KEYFRAMES = "0: 0.5\n8 ease: 1\n15: 0.5"
NOT_CONNECTED = object()  # a video without sound gives None


class MotionCurveNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_MotionCurve",
            display_name="Motion Curve",
            category="AnimateDiff",
            description="Varies a number over the frames of a clip, over the picture or over the sampling, for "
            "Motion Strength.",
            search_aliases=["value schedule", "keyframes", "audio reactive", "mask to multival", "easing"],
            inputs=[
                io.String.Input(
                    "keyframes",
                    default=KEYFRAMES,
                    multiline=True,
                    tooltip="One 'frame: number' per line. 0.5 or 50% is half of the clip, -1 the last frame, and "
                    "'10-20: 1' a range. A word before the colon sets how the number changes on the way to "
                    f"the next one: {', '.join(EASINGS)}. Or write only numbers, one per frame.",
                ),
                io.Combo.Input(
                    "over",
                    options=[curves.FRAMES, curves.SAMPLING],
                    default=curves.FRAMES,
                    tooltip="Whether the number changes over the frames or over the sampling. Over the sampling, "
                    "positions go from 0 to 1, like start_percent.",
                ),
                io.MultiType.Input(
                    "source",
                    [io.Curve, io.Mask, io.Audio, Floats, io.Float],
                    optional=True,
                    tooltip="Instead of keyframes: a curve from Curve Editor, one mask or one per frame, the "
                    "loudness of a sound, or a list of numbers.",
                ),
                io.Float.Input(
                    "low",
                    default=0.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    advanced=True,
                    tooltip="The number at the bottom of a curve, where a mask is black, and in silence.",
                ),
                io.Float.Input(
                    "high",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    advanced=True,
                    tooltip="The number at the top of a curve, where a mask is white, and at the loudest frame.",
                ),
                io.Float.Input(
                    "frame_rate",
                    default=8.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Frames per second of the clip, so that a sound matches its frames.",
                ),
            ],
            outputs=[MotionCurve.Output(display_name="curve", tooltip="For Motion Strength.")],
        )

    @classmethod
    def execute(
        cls,
        keyframes: str = KEYFRAMES,
        over: str = curves.FRAMES,
        source: Any = NOT_CONNECTED,
        low: float = 0.0,
        high: float = 1.0,
        frame_rate: float = 8.0,
    ) -> io.NodeOutput:
        if source is NOT_CONNECTED:
            report_idle("keyframes", low=low, high=high, frame_rate=frame_rate)
            numbers = curves.parse(keyframes, over)
        else:
            numbers = read(source, over=over, low=low, high=high, frame_rate=frame_rate)
        return io.NodeOutput(curves.Curve(numbers, over))


def report_idle(source: str, **values: float) -> None:
    """Log the values that were set and do nothing with a source."""
    defaults = {"low": 0.0, "high": 1.0, "frame_rate": 8.0}
    idle = [f"{name} {value:g}" for name, value in values.items() if value != defaults[name]]
    if idle:
        logging.info(f"Motion Curve: {', '.join(idle)} does nothing with {source}.")


def read(source: Any, over: str, low: float, high: float, frame_rate: float) -> curves.Source:
    """Return the numbers of a connected source. ValueError if it is None, or cannot run over the sampling."""
    if source is None:
        raise ValueError("'source' is empty: connect a video that has sound, or disconnect it.")
    if isinstance(source, (int, float, list, tuple)):
        report_idle("numbers", low=low, high=high, frame_rate=frame_rate)
        return curves.from_numbers([source] if isinstance(source, (int, float)) else source, over)
    if not isinstance(source, dict):
        report_idle("a curve or masks", frame_rate=frame_rate)
    if hasattr(source, "interp_array"):
        return curves.from_curve_editor(source, low, high)
    if over == curves.SAMPLING:
        raise ValueError("A mask or a sound cannot be used over the sampling: set 'over' to frames, or disconnect it.")
    if isinstance(source, Tensor):
        return curves.from_mask(source, low, high)
    return curves.from_audio(source["waveform"], source["sample_rate"], frame_rate=frame_rate, low=low, high=high)
