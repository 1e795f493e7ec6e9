"""Draws captioned pictures and clips of moving shapes, on which the miniature models are trained and scored.

Everything is drawn in torch from signed distance fields, so a batch costs milliseconds and no data set is stored.
Pictures are float tensors (n, 3, size, size) in [0, 1]; lengths are pixels of a 96 px frame.
"""

from dataclasses import dataclass
from math import cos, pi, sin

import torch
from torch import Tensor

SIZE = 96
COLOURS = {
    "red": (0.90, 0.16, 0.18),
    "orange": (0.98, 0.55, 0.10),
    "yellow": (0.96, 0.84, 0.16),
    "green": (0.16, 0.70, 0.32),
    "blue": (0.14, 0.38, 0.92),
    "purple": (0.58, 0.22, 0.78),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
LOOKS = ("paper", "neon")


@dataclass(frozen=True)
class Scene:
    """n shapes: index into SHAPES and COLOURS, centre (n, 2) and radius (n,) in pixels, background tint (n, 3)."""

    shape: Tensor
    colour: Tensor
    centre: Tensor
    radius: Tensor
    tint: Tensor

    def repeat(self, frames: int) -> "Scene":
        """Return every scene `frames` times in a row, as the frames of a clip lie in a batch."""
        return Scene(*(value.repeat_interleave(frames, 0) for value in vars(self).values()))


def random_scene(n: int, generator: torch.Generator) -> Scene:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    radius = uniform(16, 22)
    margin = (radius + 4)[:, None]
    return Scene(
        shape=torch.randint(len(SHAPES), (n,), generator=generator),
        colour=torch.randint(len(COLOURS), (n,), generator=generator),
        centre=margin + uniform(0, 1, 2) * (SIZE - 2 * margin),
        radius=radius,
        tint=uniform(-0.5, 0.5, 3),
    )


def random_clip(n: int, frames: int, generator: torch.Generator, direction: float | None = None) -> Scene:
    """Return n clips as (n * frames) scenes: half travel on a straight line, half on an arc, all at a constant speed.

    With a `direction` (radians, 0 to the right, pi/2 down) all travel straight that way. A path covers 30 to 50 px
    in 16 frames and stays inside the picture.
    """
    scene = random_scene(n, generator)
    time = torch.linspace(-0.5, 0.5, frames)
    path = 30 + 20 * torch.rand(n, 1, generator=generator)
    heading = 2 * pi * torch.rand(n, 1, generator=generator)
    turn = (torch.rand(n, 1, generator=generator) - 0.5).sign() * (0.5 + torch.rand(n, 1, generator=generator)) * pi
    turn = torch.where(torch.rand(n, 1, generator=generator) < 0.5, torch.full_like(turn, 1e-3), turn)
    if direction is not None:
        heading, turn = torch.full_like(heading, direction), torch.full_like(turn, 1e-3)
    angle = heading + turn * time  # an arc of length `path` that turns by `turn`; a line is an arc that hardly turns
    offset = path[..., None] / turn[..., None] * torch.stack((angle.sin(), -angle.cos()), -1)

    margin = (scene.radius + 4)[:, None]
    low, high = offset.amin(1), offset.amax(1)
    room = (SIZE - 2 * margin - (high - low)).clamp(min=0)
    start = margin - low + torch.rand(n, 2, generator=generator) * room
    centre = (start[:, None] + offset).flatten(0, 1)
    return Scene(**{**vars(scene.repeat(frames)), "centre": centre})


def captions(scene: Scene) -> list[str]:
    colours = list(COLOURS)
    return [f"a {colours[c]} {SHAPES[s]}" for c, s in zip(scene.colour.tolist(), scene.shape.tolist(), strict=True)]


def draw(scene: Scene, look: str = "paper") -> Tensor:
    """Return pictures (n, 3, SIZE, SIZE) of the scenes in one of LOOKS."""
    distance = signed_distance(scene)[:, None]
    colour = torch.tensor(list(COLOURS.values()))[scene.colour][:, :, None, None]
    height = torch.linspace(0, 1, SIZE).view(1, 1, SIZE, 1)
    tint = scene.tint[:, :, None, None]
    return {"paper": _paper, "neon": _neon}[look](distance, colour, height, tint, scene)


def _paper(distance: Tensor, colour: Tensor, height: Tensor, tint: Tensor, scene: Scene) -> Tensor:
    """Draw a filled shape that casts a soft shadow on light paper."""
    paper = 0.92 + 0.10 * tint - 0.10 * height
    shadow = 0.30 * torch.sigmoid(-signed_distance(scene, shift=(3.0, 5.0))[:, None] / 2.5)
    picture = paper * (1 - shadow)
    fill = (0.5 - distance).clamp(0, 1)
    shade = 1.08 - 0.22 * ((height * SIZE - scene.centre[:, 1, None, None, None]) / scene.radius.view(-1, 1, 1, 1))
    return torch.lerp(picture.expand(-1, 3, -1, SIZE), (colour * shade).expand(-1, 3, -1, SIZE), fill).clamp(0, 1)


def _neon(distance: Tensor, colour: Tensor, height: Tensor, tint: Tensor, scene: Scene) -> Tensor:
    """Draw a glowing outline in the dark."""
    night = torch.tensor((0.05, 0.05, 0.12)).view(1, 3, 1, 1) + 0.04 * tint + 0.06 * height
    edge = (distance + 2).abs()
    glow = 0.75 * (-edge / 5).exp()
    tube = torch.sigmoid((2.6 - edge) * 2)
    core = torch.sigmoid((1.0 - edge) * 3)
    picture = night + colour * glow
    picture = torch.lerp(picture, (colour * 1.05).expand_as(picture), tube)
    return torch.lerp(picture, torch.ones_like(picture), 0.55 * core).clamp(0, 1)


def signed_distance(scene: Scene, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Return the distance (n, SIZE, SIZE) of every pixel to the outline, negative inside.

    All shapes have about the same area.
    """
    axis = torch.arange(SIZE) + 0.5
    x = axis.view(1, 1, -1) - scene.centre[:, 0].view(-1, 1, 1) - shift[0]
    y = axis.view(1, -1, 1) - scene.centre[:, 1].view(-1, 1, 1) - shift[1]
    x, y = x.expand(-1, SIZE, -1), y.expand(-1, -1, SIZE)
    out = torch.empty_like(x)
    for index, name in enumerate(SHAPES):
        rows = scene.shape == index
        if rows.any():
            radius = scene.radius[rows].view(-1, 1, 1)
            out[rows] = _DISTANCE[name](x[rows], y[rows], radius)
    return out


def _circle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - 0.92 * radius


def _box(x: Tensor, y: Tensor, width: Tensor, height: Tensor) -> Tensor:
    dx, dy = x.abs() - width, y.abs() - height
    outside = (dx.clamp(min=0) ** 2 + dy.clamp(min=0) ** 2).sqrt()
    return outside + torch.maximum(dx, dy).clamp(max=0)


def _square(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return _box(x, y, 0.82 * radius, 0.82 * radius)


def _cross(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return torch.minimum(_box(x, y, radius, 0.34 * radius), _box(x, y, 0.34 * radius, radius))


def _polygon(x: Tensor, y: Tensor, corners: list[tuple[float, float]], radius: Tensor) -> Tensor:
    """Return the exact distance to a closed polygon with corners for radius 1, signed by the even-odd rule."""
    nearest = torch.full_like(x, float("inf"))
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ax, ay, bx, by = (value * radius for value in (ax, ay, bx, by))
        ex, ey, px, py = bx - ax, by - ay, x - ax, y - ay
        along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        nearest = torch.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (x < ax + (y - ay) / torch.where(ey == 0, torch.ones_like(ey), ey) * ex)
    return nearest.sqrt() * torch.where(inside, -1.0, 1.0)


def _triangle(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    return _polygon(x, y, [(0.0, -1.02), (1.02, 0.75), (-1.02, 0.75)], radius)


def _star(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    corners = [(r * sin(k * pi / 5), -r * cos(k * pi / 5)) for k, r in enumerate((1.12, 0.52) * 5)]
    return _polygon(x, y, corners, radius)


_DISTANCE = {"circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "cross": _cross}
