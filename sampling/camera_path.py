r"""Read a camera's way in the timeline grammar, or from a pose file of RealEstate10K. Needs no ComfyUI.

    0: still
    8 ease: pan 20 tilt -5           -- turned 20 degrees to the right and 5 down, against the first frame
    -1: orbit 30 zoom 150% up 0.5    -- 30 degrees round the subject, which is larger by half

What a line does not name is as in the first frame of a clip that stands still. A pose file has a line for each camera,
perhaps after one with the address of its video: a time, focal lengths and centre in parts of width and height, two
numbers, and the 3 x 4 matrix that leads from the world to the camera, row by row. ComfyUI-AnimateDiff-Evolved keeps the
filmed width and height in the two numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import timeline
from .cameras import LENS, Cameras
from .timeline import BLANK, NUMBER, WORD, Key, Place, Values, cut

AMOUNT = rf"[-+]?{NUMBER}%?"
MOVEMENT = re.compile(rf"(?:{BLANK}*,)?{BLANK}*({WORD})(?:{BLANK}+({AMOUNT})(?=[\s,;]|\Z))?", re.IGNORECASE)
ENTRY = re.compile(r"[ \t]*([^\n;]*)")
STILL = "still"
EXAMPLE = "-1: pan 20"

ADDRESS = re.compile(r"\w+://\S*")
POSE = re.compile(r"[-+]?\.?\d\S*[ \t]+[-+\d.][^:=]*")
COLUMNS = 19
MOST_POSES = 4096


class Movement(NamedTuple):
    """Where a camera is, against the first frame of a clip that stands still. Angles are in degrees."""

    pan: float = 0.0
    """To the right."""
    tilt: float = 0.0
    """Up."""
    roll: float = 0.0
    """Clockwise."""
    orbit: float = 0.0
    """Round the subject, to the right, with the camera's eye on it."""
    zoom: float = 1.0
    """How much larger the subject is, since the camera is nearer."""
    right: float = 0.0
    up: float = 0.0
    forward: float = 0.0
    """The last three in RealEstate10K's unit, of which it takes one to three to cross a room."""


LIMITS = {**dict.fromkeys(Movement._fields, (-36000.0, 36000.0)), "zoom": (0.01, 100.0)}
LIMITS |= dict.fromkeys(("right", "up", "forward"), (-1000.0, 1000.0))


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A camera's way through a clip of any length."""

    keys: tuple[Key[Movement], ...] = ()
    distance: float = 3.0
    """From the first camera to the subject of `zoom` and `orbit`."""
    recorded: Cameras | None = None
    """The cameras of a pose file, in place of keys."""

    @classmethod
    def parse(cls, text: str, distance: float = 3.0) -> CameraPath:
        """Read either kind of text. ValueError names the line of a mistake."""
        if is_pose_file(text):
            return cls(recorded=parse_poses(text))
        return cls(timeline.parse(text, MOVEMENTS), distance)

    def cameras(self, frames: int) -> Cameras:
        """Return the camera of each frame. ValueError names two ranges that claim the same frame."""
        if self.recorded is not None:
            return self.recorded.resampled(frames)
        poses = [to_world(movement, self.distance) for movement in movements(self.keys, frames)]
        return Cameras(torch.tensor([LENS] * frames, dtype=torch.float64), torch.stack(poses))


def read_movement(head: re.Match[str]) -> tuple[Movement, int]:
    """Return the movement behind a key's head, and its end in the text."""
    text, end = head.string, head.end()
    amounts: dict[str, float] = {}
    while match := MOVEMENT.match(text, end):
        name = match[1].lower()
        if name == STILL and not amounts and match[2] is None:
            return Movement(), match.end()
        if name not in LIMITS and (match[2] is None or not amounts):
            break
        place = Place(text, match.start(1))
        if name not in LIMITS:
            raise place.error(f'"{cut(name)}" is not a movement: write one of {", ".join(LIMITS)}.')
        if name in amounts:
            raise place.error(f"this is a second {name}: write only one for each frame.")
        amounts[name], end = read_amount(match, name), match.end()
    if not amounts:
        entry = ENTRY.match(text, head.end())
        written, at = (cut(entry[1]), entry.start(1)) if entry else ("", head.end())
        names = f"{', '.join(LIMITS)}, each with a number, or {STILL}"
        raise Place(text, at).error(f'"{written}" is not a camera movement: write {names}, such as "{EXAMPLE}".')
    return Movement(**amounts), end


def read_amount(match: re.Match[str], name: str) -> float:
    low, high = LIMITS[name]
    written = match[2] or ""
    value = float(written.rstrip("%") or "nan") / (100.0 if written.endswith("%") else 1.0)
    if not low <= value <= high or (written.endswith("%") and name != "zoom"):
        place = Place(match.string, match.start(2) if written else match.end())
        raise place.error(f'"{cut(written)}" is not an amount of {name}: write a number from {low:g} to {high:g}.')
    return value


MOVEMENTS = Values("movement", EXAMPLE, read_movement)


def movements(keys: Sequence[Key[Movement]], frames: int) -> list[Movement]:
    """Return the movement up to each frame. ValueError names two ranges that claim the same frame."""
    return [Movement(*numbers) for numbers in timeline.numbers_between(keys, frames, "Camera Path", "movement")]


def to_world(movement: Movement, distance: float) -> Tensor:
    """Return the matrix, (4, 4), from the camera's axes to those of the camera that stands still.

    The camera pans, then tilts, then rolls; it moves along the axes of the first frame, and all of this turns round the
    subject.
    """
    ahead = movement.forward + distance * (1.0 - 1.0 / movement.zoom)
    camera = shift(movement.right, -movement.up, ahead)
    camera = camera @ turn(1, movement.pan) @ turn(0, movement.tilt) @ turn(2, movement.roll)
    return shift(0.0, 0.0, distance) @ turn(1, -movement.orbit) @ shift(0.0, 0.0, -distance) @ camera


def shift(x: float, y: float, z: float) -> Tensor:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, 3] = torch.tensor([x, y, z], dtype=torch.float64)
    return matrix


def turn(axis: int, degrees: float) -> Tensor:
    """Return a rotation about an axis that is right-handed, and clockwise for someone who looks along it."""
    angle, matrix = math.radians(degrees), torch.eye(4, dtype=torch.float64)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[j, i], matrix[i, j] = math.sin(angle), -math.sin(angle)
    return matrix


def is_pose_file(text: str) -> bool:
    """Return whether a text is a pose file: it begins with an address, or with numbers without a colon."""
    first = text.strip().partition("\n")[0].strip()
    return bool(ADDRESS.fullmatch(first) or POSE.fullmatch(first))


def parse_poses(text: str) -> Cameras:
    """Return the cameras of a pose file. ValueError names the line of a mistake."""
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [line for line in lines if line != lines[0] or not ADDRESS.fullmatch(line[1][0])]
    if not 0 < len(lines) <= MOST_POSES:
        raise ValueError(f"A pose file holds 1 to {MOST_POSES} cameras, and this one {len(lines)}: choose another.")
    rows = torch.tensor([read_pose(*line) for line in lines], dtype=torch.float64)
    to_camera = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1)
    to_camera[:, :3] = rows[:, 7:].view(-1, 3, 4)
    width, height = rows[:, 5], rows[:, 6]
    shape = torch.where((width > 0) & (height > 0), width / height, LENS[-1])
    return Cameras(torch.cat([rows[:, 1:5], shape[:, None]], dim=1), torch.linalg.inv(to_camera))


def read_pose(number: int, columns: Sequence[str]) -> list[float]:
    try:
        pose = [float(column) for column in columns]
    except ValueError:
        pose, fault = [], f'"{cut(" ".join(columns))}", which are not all numbers'
    else:
        fault = fault_of(pose)
    if fault:
        raise ValueError(f"Line {number} of the pose file has {fault}: correct it, or choose another file.")
    return pose


def fault_of(pose: Sequence[float]) -> str:
    """Return what is wrong with the numbers of a camera, for people; nothing if they are right."""
    if len(pose) != COLUMNS:
        return f"{len(pose)} numbers where a camera has {COLUMNS}: a time, fx fy cx cy, two numbers, and 3 x 4"
    if not all(math.isfinite(value) for value in pose):
        return "numbers that are not finite"
    rotation = torch.tensor(pose[7:], dtype=torch.float64).view(3, 4)[:, :3]
    if (rotation @ rotation.T - torch.eye(3)).abs().max() > 0.01 or torch.det(rotation) < 0:
        return "numbers that are no rotation"
    return "" if min(pose[1:3]) > 0 else "a focal length that is not above 0"
