"""One row for each level of the UNet, as inputs of a node."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.strength import LEVELS

DETAIL = ("the finest details", "details", "larger forms", "the whole picture")
SEES = (*DETAIL, "the whole picture", *reversed(DETAIL))


def row_name(level: str) -> str:
    """`down_blocks.0` -> "down 1", `mid_block` -> "mid"."""
    way, _, index = level.partition("_block")
    return f"{way} {int(index.strip('s.')) + 1}" if way != "mid" else way


def rows(name: str, what: str, advanced: bool, maximum: float) -> list[io.Float.Input]:
    return [
        io.Float.Input(
            f"{row_name(level).replace(' ', '_')}_{name}",
            display_name=f"{row_name(level)} {name}",
            default=1.0,
            min=0.0,
            max=maximum,
            step=0.01,
            advanced=advanced,
            tooltip=f"{what} in {row_name(level)}, which sees {sees} in SD1.5.",
        )
        for level, sees in zip(LEVELS, SEES, strict=True)
    ]


def values(name: str, inputs: dict[str, float]) -> dict[str, float]:
    """Level -> the value of its row."""
    return {level: float(inputs[f"{row_name(level).replace(' ', '_')}_{name}"]) for level in LEVELS}
