"""One input for each level of the UNet."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from comfy_api.latest import io

from ..motion_models.loader import LoadedMotionModel
from ..sampling.strength import LEVELS

DETAIL = ("finest details", "details", "larger shapes", "whole picture")
DETAIL_OF_LEVEL = dict(zip(LEVELS, (*DETAIL, "whole picture", *reversed(DETAIL)), strict=True))


def label(level: str) -> str:
    """Return a level's name on screen: `down_blocks.0` -> "down 1", `mid_block` -> "mid"."""
    direction, _, index = level.partition("_block")
    return f"{direction} {int(index.strip('s.')) + 1}" if direction != "mid" else direction


def input_id(level: str, name: str) -> str:
    """Return the id of a level's input: `down_blocks.0` and "ratio" -> "down_1_ratio"."""
    return f"{label(level).replace(' ', '_')}_{name}"


def level_inputs(name: str, tooltip: str, advanced: bool, maximum: float) -> list[io.Float.Input]:
    """Return one number input per level, with the default 1."""
    return [
        io.Float.Input(
            input_id(level, name),
            display_name=f"{label(level)} {name.replace('_', ' ')}",
            default=1.0,
            min=0.0,
            max=maximum,
            step=0.01,
            advanced=advanced,
            tooltip=f"{tooltip} in {label(level)} ({detail} in SD1.5).",
        )
        for level, detail in DETAIL_OF_LEVEL.items()
    ]


def values_by_level(name: str, inputs: dict[str, float]) -> dict[str, float]:
    """Return the value of each level's input, by level; 1 where it is missing."""
    return {level: float(inputs.get(input_id(level, name), 1.0)) for level in LEVELS}


def report_missing_levels(value_by_level: Mapping[str, float], motion: LoadedMotionModel) -> None:
    """Log it if a value other than 1 is for a level that a motion model does not have."""
    levels = motion.config.levels()
    missing = [label(level) for level, value in value_by_level.items() if value != 1.0 and level not in levels]
    if missing:
        logging.info(f"AnimateDiff: {motion.name} has no level {' or '.join(missing)}, so its value does nothing.")
