r"""Read paths in the timeline grammar: where something stands in each frame. Needs no ComfyUI, no PyTorch.

    0: 20% 50%                       -- a fifth of the picture from its left, half of it from its top
    8 ease: 0.5 0.2                  -- parts of the picture, as percentages are
    -1: 80% 50% scale 150% turn 90   -- larger by half, and turned clockwise by a quarter

Places may lie outside the picture. Without *scale* it is 1, and without *turn* 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from . import timeline
from .timeline import BLANK, NUMBER, Key, Place, Values, cut

AMOUNT = rf"[-+]?{NUMBER}%?"
END = r"(?=[\s,;]|\Z)"
PLACE = re.compile(rf"{BLANK}*({AMOUNT})(?:{BLANK}*,{BLANK}*|{BLANK}+)({AMOUNT}){END}")
CHANGE = re.compile(rf"{BLANK}+(scale|turn)(?![\w-])(?:{BLANK}+({AMOUNT}){END})?", re.IGNORECASE)
ENTRY = re.compile(r"[ \t]*([^\n;]*)")

# The smallest and the largest amount, and an example.
LIMITS = {"place": (-1.0, 2.0, "20% 50%"), "scale": (0.01, 100.0, "scale 150%"), "turn": (-3600.0, 3600.0, "turn 90")}


class Pose(NamedTuple):
    """How something stands in a frame."""

    x: float
    """Part of the picture's width, from its left."""
    y: float
    """Part of the picture's height, from its top."""
    scale: float = 1.0
    turn: float = 0.0
    """Degrees, clockwise."""


def parse(text: str) -> tuple[Key[Pose], ...]:
    """Return the poses in the order of the text. ValueError names the line and column of a mistake."""
    return timeline.parse(text, POSES)


def read_pose(head: re.Match[str]) -> tuple[Pose, int]:
    """Return the pose behind a key's head, and its end in the text."""
    text = head.string
    place = PLACE.match(text, head.end())
    if place is None:
        entry = ENTRY.match(text, head.end())
        written, at = (cut(entry[1]), entry.start(1)) if entry else ("", head.end())
        raise Place(text, at).error(f'"{written}" is not a place: write "frame: across down", such as "0: 20% 50%".')
    x, y = (read_amount(place, group, "place") for group in (1, 2))
    changes: dict[str, float] = {}
    end = place.end()
    while change := CHANGE.match(text, end):
        name, end = change[1].lower(), change.end()
        if name in changes:
            raise Place(text, change.start(1)).error(f"this is a second {name}: write only one for each place.")
        changes[name] = read_amount(change, 2, name)
    return Pose(x, y, **changes), end


def read_amount(match: re.Match[str], group: int, name: str) -> float:
    low, high, example = LIMITS[name]
    written = match[group] or ""
    value = float(written.rstrip("%") or "nan") / (100.0 if written.endswith("%") else 1.0)
    if not low <= value <= high or (name == "turn" and written.endswith("%")):
        limits = f"from {low:g} to {high:g}" if name != "place" else f"from {low:.0%} to {high:.0%}"
        raise Place(match.string, match.start(group) if written else match.end()).error(
            f'"{cut(written)}" is not a {name}{" in degrees" if name == "turn" else ""}: write one {limits}, such as '
            f'"{example}".'
        )
    return value


POSES = Values("place", "0: 20% 50%", read_pose)


def poses(keys: Sequence[Key[Pose]], frames: int) -> list[Pose]:
    """Return the pose of each frame. ValueError names two ranges that claim the same frame."""
    return [Pose(*numbers) for numbers in timeline.numbers_between(keys, frames, "Path", "place")]
