"""Scores an animation, in numbers and in words. Needs no ComfyUI."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from . import metrics
from .optical_flow import LucasKanade, OpticalFlow

BATCH = 8  # steps whose flow is in memory
SMALLEST = 16  # pixels of a side
STILL = 0.25  # pixels per frame, below which the fastest places of a clip count as still
MOST_PIXELS = 1 << 21  # of the frames whose flow is in memory
NUMBERS = {
    "motion": "as intended",
    "motion_percent": "as intended",
    "fastest_motion": "as intended",
    "repeated": "lower",
    "unevenness": "lower",
    "flicker": "lower",
    "warping_error": "lower",
    "seam": "near 1",
    "smoothness": "higher",
    "look": "higher",
    "text": "higher",
    "temporal_flickering": "higher",
    "dynamic_degree": "higher",
}
"""Which values of each number are better."""


@dataclass(frozen=True)
class Embeddings:
    """CLIP embeddings of frames (f, d), reference pictures (n, d) and a text (d,), all in one space."""

    frames: Tensor
    references: Tensor | None = None
    text: Tensor | None = None
    note: str = ""
    """Why a given text has no embedding."""


@dataclass(frozen=True)
class Score:
    """The measures of a clip; None was not measured. A step leads from a frame to the next, step 0 to frame 1."""

    frames: int
    width: int
    height: int
    optical_flow: str
    """RAFT, or Lucas-Kanade where no weights were given."""
    motion: float
    """Mean length of the flow, in pixels per frame."""
    motion_percent: float
    """The same in percent of the picture's diagonal."""
    fastest_motion: float
    """Mean length of the flow of the fastest twentieth of the pixels."""
    still: bool
    repeated: float
    """Judder: percent of the steps that show the same frame again."""
    unevenness: float
    """Judder: mean change of the motion from a step to the next, in percent of the motion."""
    flicker: float
    """Change of brightness from frame to frame that no motion explains, in percent of white."""
    warping_error: float
    """Mean squared difference of neighbouring frames that no motion explains, times 1000."""
    seam: float | None
    """Warping error where context windows meet over that elsewhere; 1 means no visible seam."""
    smoothness: float | None
    """Mean cosine of the embeddings of neighbouring frames, times 100; highest for a still."""
    look: float | None
    """Mean cosine with the embeddings of reference pictures, times 100."""
    text: float | None
    """Mean cosine with the embedding of a text, times 100."""
    temporal_flickering: float
    """VBench's, from 0 to 1: 1 less the mean change of a pixel. VBench asks it of still scenes alone."""
    dynamic_degree: float
    """VBench's: 1 if the clip moves enough, else 0; of several clips their share. VBench asks RAFT."""
    motion_of_steps: tuple[float, ...]
    warping_error_of_steps: tuple[float, ...]
    similarity_of_steps: tuple[float, ...]
    """Empty if not measured."""
    seams: tuple[int, ...]
    """Steps where context windows meet."""
    note: str = ""

    def to_json(self) -> str:
        """Return all of it as JSON, with the values that are better."""
        return json.dumps(self.rounded() | {"better": NUMBERS}, indent=2)

    def rounded(self) -> dict[str, Any]:
        """Return all of it in plain values of four decimals."""
        return {name: _rounded(value) for name, value in asdict(self).items()}

    def sentences(self) -> str:
        """Return lines for people, in which smoothness never stands without the motion."""
        at_motion = f"{self.motion:.2f} pixels per frame ({self.motion_percent:.2f} % of the diagonal)"
        moving = f"Motion {at_motion}, {self.fastest_motion:.2f} where it is fastest."
        lines = [
            f"{self.frames} frames of {self.width} × {self.height}, optical flow by {self.optical_flow}.",
            f"The clip is still: {moving[0].lower()}{moving[1:]}" if self.still else moving,
            f"Warping error {self.warping_error:.2f}, flicker {self.flicker:.2f} % of white; lower is better.",
            f"Judder: {self.repeated:.0f} % repeats, motion uneven by {self.unevenness:.0f} %; lower is better.",
            f"VBench: temporal flickering {self.temporal_flickering:.4f}, dynamic degree {self.dynamic_degree:.0f}; "
            "higher is better.",
        ]
        if self.smoothness is not None:
            beside = "which says nothing, as the clip is still" if self.still else f"with {at_motion} of motion"
            lines.append(f"Smoothness {self.smoothness:.2f}, {beside}; higher is better.")
        if self.look is not None:
            lines.append(f"Look {self.look:.2f}, the similarity to the reference pictures; higher is better.")
        if self.text is not None:
            lines.append(f"Text agreement {self.text:.2f}; higher is better.")
        if self.seam is not None:
            lines.append(f"Window seams {self.seam:.2f}; 1 means no visible seam.")
        return "\n".join([*lines, self.note] if self.note else lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def score(
    images: Tensor | Iterable[Tensor],
    flow: OpticalFlow | None = None,
    embeddings: Embeddings | None = None,
    *,
    context_length: int = 0,
    context_overlap: int = 0,
    on_progress: Callable[[int, int], object] = lambda done, steps: None,
) -> Score:
    """Return the score of a clip (f, h, w, 3) in [0, 1], as ComfyUI's IMAGE; the default `flow` is Lucas-Kanade.

    The clip may also be an iterator of its frames (h, w, 3), of which only a few are in memory at once.
    Give a `context_length` if the clip was made in static windows of that many frames. ValueError for less than two
    frames, for tensors that are not pictures, and for windows that overlap completely.
    """
    if isinstance(images, Tensor):
        check(images)
    estimator = flow or LucasKanade()
    steps, (height, width) = measure_steps(images, estimator, on_progress)
    frames = len(steps["motion"]) + 1
    at_seam = metrics.seams(frames, context_length, context_overlap) if context_length else [False] * (frames - 1)
    motion, fastest = float(steps["motion"].mean()), float(steps["fastest"].mean())
    return Score(
        frames=frames,
        width=width,
        height=height,
        optical_flow=estimator.name,
        motion=motion,
        motion_percent=100 * motion / math.hypot(height, width),
        fastest_motion=fastest,
        still=fastest < STILL,
        repeated=100 * float(metrics.repeated(steps["change"]).float().mean()),
        unevenness=metrics.unevenness(steps["motion"]),
        flicker=float(steps["flicker"].mean()),
        warping_error=float(steps["warping error"].mean()),
        seam=metrics.seam_score(steps["warping error"], at_seam),
        temporal_flickering=1 - float(steps["change"].mean()),
        dynamic_degree=float(metrics.is_dynamic(steps["fastest"], min(height, width))),
        motion_of_steps=tuple(steps["motion"].tolist()),
        warping_error_of_steps=tuple(steps["warping error"].tolist()),
        seams=tuple(step for step, seam in enumerate(at_seam) if seam),
        **compare(embeddings),
    )


def check(images: Tensor) -> None:
    """Raise ValueError for images that cannot be scored."""
    if images.ndim != 4 or images.shape[3] < 3:
        raise ValueError(f"A clip has the shape (frames, height, width, 3), but this one has {tuple(images.shape)}.")
    frames, height, width = images.shape[:3]
    check_count(frames)
    check_size(height, width)
    bad = [frame for frame, picture in enumerate(images) if not picture.isfinite().all()]
    if bad:
        raise ValueError(f"Frame {bad[0]} holds NaN or infinite values: sample the clip again.")


def check_size(height: int, width: int) -> None:
    """Raise ValueError for frames that are too small."""
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"Frames of {width} × {height} pixels are too small to score: give {SMALLEST} × {SMALLEST} or more."
        )


def check_count(frames: int) -> None:
    """Raise ValueError for less than two frames."""
    if frames < 2:
        raise ValueError(f"A clip of {frames} frame has no motion to score: give 2 frames or more.")


def measure_steps(
    images: Iterable[Tensor], flow: OpticalFlow, on_progress: Callable[[int, int], object]
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Return (f - 1,) values of each measure that compares neighbours, and the height and width of the frames."""
    steps, done, size = len(images) - 1 if isinstance(images, Tensor) else 0, 0, (0, 0)
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for part in overlapping(images):
        check_size(*part.shape[2:])
        first, second = part[:-1], part[1:]
        forward, backward = flow(first, second), flow(second, first)
        seen = metrics.visible(forward, backward)
        parts["motion"].append(metrics.motion(forward))
        parts["fastest"].append(metrics.fastest_motion(forward))
        parts["warping error"].append(metrics.warping_error(first, second, forward, seen=seen))
        parts["flicker"].append(metrics.flicker(first, second, forward, seen=seen))
        parts["change"].append(metrics.change(first, second))
        size, done = (part.shape[2], part.shape[3]), done + len(first)
        on_progress(done, max(done, steps))
    check_count(done + 1)
    return {name: torch.cat(values) for name, values in parts.items()}, size


def overlapping(images: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield parts (n, 3, h, w) of frames (h, w, 3), each of which begins with the last frame of the one before."""
    part: list[Tensor] = []
    for frame in images:
        part.append(frame[..., :3].float().clamp(0, 1))
        if len(part) > max(1, min(BATCH, MOST_PIXELS // (frame.shape[0] * frame.shape[1]))):
            yield torch.stack(part).movedim(-1, 1)
            part = part[-1:]
    if len(part) > 1:
        yield torch.stack(part).movedim(-1, 1)


def compare(embeddings: Embeddings | None) -> dict[str, Any]:
    """Return the fields of a score that come from embeddings."""
    if embeddings is None:
        return {"smoothness": None, "look": None, "text": None, "similarity_of_steps": ()}
    similarity = metrics.similarity_of_neighbours(embeddings.frames)
    text, references = embeddings.text, embeddings.references
    return {
        "smoothness": float(similarity.mean()),
        "look": None if references is None else metrics.look(embeddings.frames, references),
        "text": None if text is None else metrics.text_agreement(embeddings.frames, text),
        "similarity_of_steps": tuple(similarity.tolist()),
        "note": embeddings.note,
    }
