"""Camera poses of ComfyUI-AnimateDiff-Evolved, as text for Camera Path. Needs no ComfyUI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .conversion import Conversion, within
from .enumerations import CAMERA_MOTIONS
from .graph import Node, Output
from .motion_strength import over_sampling, value_of

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
LENS = (0.474812461, 0.844111024, 0.5, 0.5, 1280, 720)
BASE_FRAMES, BASE_ANGLE, BASE_SHIFT = 16, math.pi / 3, 1.5
SPEEDS = {"ADE_CameraPoseBasic": ("",), **dict.fromkeys(("ADE_CameraPoseCombo", "ADE_CameraPoseAdvanced"), "123456")}
FILES = {"ADE_LoadCameraPoses": "pose_filename", "ADE_LoadCameraPosesFromPath": "file_path"}
MOST_POSES = 4096  # of Camera Path
MOST_NODES = 200  # one after another, which call one another
WORDS = ("tilt", "pan", "roll", "right", "up", "forward")
LEFT_OUT = "its camera is left out"


class Pose(NamedTuple):
    turn: Matrix
    """From the world's axes to the camera's."""
    shift: Vector
    amounts: tuple[float, ...]
    """The sum of all turns in degrees, and of all shifts, as Camera Path counts them."""
    lens: tuple[float, ...] = LENS


def product(a: Matrix, b: Matrix) -> Matrix:
    rows = (tuple(sum(a[i][k] * b[k][j] for k in range(3)) for j in range(3)) for i in range(3))
    return tuple(rows)  # type: ignore[return-value]


def turned(angles: Vector) -> Matrix:
    """Return the matrix of turns about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = (tuple(f(angle) for angle in angles) for f in (math.cos, math.sin))
    about_x = ((1.0, 0.0, 0.0), (0.0, cx, -sx), (0.0, sx, cx))
    about_y = ((cy, 0.0, sy), (0.0, 1.0, 0.0), (-sy, 0.0, cy))
    about_z = ((cz, -sz, 0.0), (sz, cz, 0.0), (0.0, 0.0, 1.0))
    return product(about_z, product(about_y, about_x))


def joined(before: Sequence[Pose], after: Sequence[Pose]) -> list[Pose]:
    """Return poses whose second part goes on from where the first ends."""
    if not before:
        return list(after)
    end, poses = before[-1], list(before)
    for pose in after:
        carried = tuple(sum(pose.turn[i][k] * end.shift[k] for k in range(3)) for i in range(3))
        shift: Any = tuple(a + b for a, b in zip(pose.shift, carried, strict=True))
        amounts = tuple(a + b for a, b in zip(pose.amounts, end.amounts, strict=True))
        poses.append(Pose(product(pose.turn, end.turn), shift, amounts, pose.lens))
    return poses


def moving(node: Node) -> list[Pose]:
    """Return the poses of a node that makes them of movements by name."""
    values, angles, shift = node.values, [0.0] * 3, [0.0] * 3
    for number in SPEEDS[node.type]:
        turns, shifts = CAMERA_MOTIONS.get(values[f"motion_type{number}"], CAMERA_MOTIONS["Static"])
        strength = within(0.0, values.get(f"strength{number}", 1.0), 10.0)
        angles = [a + strength * b for a, b in zip(angles, turns, strict=True)]
        shift = [a + strength * b for a, b in zip(shift, shifts, strict=True)]
    poses = []
    for frame in range(int(within(0, values["frame_length"], MOST_POSES))):
        part = frame / BASE_FRAMES * within(-100.0, values["speed"], 100.0)
        x, y, z = (part * BASE_ANGLE * angle for angle in angles)
        right, down, ahead = (part * BASE_SHIFT * length for length in shift)
        degrees = tuple(-math.degrees(angle) for angle in (x, y, z))
        poses.append(Pose(turned((x, y, z)), (right, down, ahead), (*degrees, -right, down, -ahead)))
    return poses


def poses_of(c: Conversion, node: Node | None, known: dict[Any, list[Pose]] | None = None) -> list[Pose]:
    """Return the poses that a node gives; none, with a sentence, if it is not known what they are.

    `known` are those of nodes before it: none yet of those that lead to it, which a circle would ask for again.
    """
    known = {} if known is None else known
    if node is None or len(known) > MOST_NODES:
        return []
    if node.id not in known:
        known[node.id] = []
        known[node.id] = read_poses(c, node, lambda link: poses_of(c, link and link.node, known))
    if len(known[node.id]) > MOST_POSES:
        c.say(node, f"{LEFT_OUT}: it joins {len(known[node.id])} cameras, and Camera Path takes {MOST_POSES}.")
        known[node.id] = []
    return known[node.id]


def read_poses(c: Conversion, node: Node, before: Callable[[Output | None], list[Pose]]) -> list[Pose]:
    """Return the poses that a node gives, from those that its links give."""
    source = node.source
    if node.type in SPEEDS:
        previous = source("prev_poses")
        earlier = before(previous)
        return joined(earlier, moving(node)) if earlier or not previous else []
    if node.type == "ADE_CameraManualPoseAppend":
        parts = [before(source(name)) for name in ("poses_first", "poses_last")]
        return joined(*parts) if all(parts) else []
    if node.type in LENSES:
        return [pose._replace(lens=LENSES[node.type](pose.lens, node.values)) for pose in before(source("poses"))]
    if node.type in FILES:
        c.say(node, f"{LEFT_OUT}: paste the text of {node.values[FILES[node.type]]} into Camera Path.")
    else:
        c.say(node, f"{LEFT_OUT}: write it into Camera Path.")
    return []


def with_parameters(lens: tuple[float, ...], values: Mapping[str, Any]) -> tuple[float, ...]:
    return (*(within(1e-6, values[name], 1e6) for name in ("fx", "fy", "cx", "cy")), *lens[4:])


def with_size(lens: tuple[float, ...], values: Mapping[str, Any]) -> tuple[float, ...]:
    return (*lens[:4], *(within(1, values[name], 1e6) for name in ("orig_pose_width", "orig_pose_height")))


LENSES: dict[str, Callable[[tuple[float, ...], Mapping[str, Any]], tuple[float, ...]]] = {
    "ADE_ReplaceCameraParameters": with_parameters,
    "ADE_ReplaceOriginalPoseAspectRatio": with_size,
}


def as_text(poses: Sequence[Pose]) -> str:
    """Return Camera Path's text for poses: movements where these say the same, or a pose file."""
    used = {i for pose in poses for i, amount in enumerate(pose.amounts) if amount}
    if any(pose.lens != LENS for pose in poses) or (len(used) > 1 and min(used) < 3):
        return "\n".join(pose_line(frame, pose) for frame, pose in enumerate(poses))
    inner = range(1, len(poses) - 1)
    bends = [i for i in inner if any(abs(a - 2 * b + d) > 1e-9 for a, b, d in zip(
        poses[i - 1].amounts, poses[i].amounts, poses[i + 1].amounts, strict=True))]  # fmt: skip
    frames = dict.fromkeys([0, *bends, len(poses) - 1])
    return "\n".join(f"{frame}: {movements(poses[frame].amounts)}" for frame in frames)


def movements(amounts: Sequence[float]) -> str:
    named = zip(WORDS, amounts, strict=True)
    return " ".join(f"{word} {shown(amount)}" for word, amount in named if round(amount, 6)) or "still"


def shown(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def pose_line(frame: int, pose: Pose) -> str:
    rows = [number for row, length in zip(pose.turn, pose.shift, strict=True) for number in (*row, length)]
    return " ".join(f"{number:.9g}" for number in (frame, *pose.lens, *rows))


def with_camera(c: Conversion, node: Node, loader: Node, module: Node) -> Node:
    """Return the motion module of an old node with the camera that the node was given."""
    link = node.source("cameractrl_poses")
    if loader.type != "ADE_LoadAnimateDiffModelWithCameraCtrl":
        c.say(node, f"{LEFT_OUT}, since {loader.type} gives no CameraCtrl: add Load CameraCtrl.")
        return module
    poses = poses_of(c, link.node) if link else []
    if link is None or not poses:
        c.say(node, f"{LEFT_OUT}: connect Load CameraCtrl with a Camera Path to its motion module.")
        return module
    text = as_text(poses)
    if not text.startswith("0:"):
        c.say(link.node, f"Camera Path spreads its {len(poses)} cameras over the clip, however long that is.")
    path = c.place(link.node, "ADN_CameraPath", {"path": text})
    settings = {"motion_module": module, "camera_path": path, "camera_ctrl": loader.values["camera_ctrl"]}
    settings["strength"] = value_of(c, node, "cameractrl_multival")
    over = over_sampling(c, node, {"strength": "cameractrl_multival"})
    if over and settings["strength"] is not None:
        c.say(node, "cameractrl_multival changes over the sampling alone: the one of its keyframes is used.")
    return c.beside(loader, "ADN_LoadCameraCtrl", settings | over)
