"""Measures a clip of one moving shape: whether it is the one that was asked for, and how it moves."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from . import shapes

SATURATED = 0.3  # paper, shadow and night are grey; every shape is not
SMALLEST_AREA = 60  # pixels; less is not a shape
CROP = 56  # pixels around the centroid in which looks are compared


@dataclass(frozen=True)
class Frame:
    """The shape that one picture shows."""

    shape: str
    colour: str
    centroid: tuple[float, float]  # x, y in pixels


def read_frame(picture: Tensor) -> Frame | None:
    """Return the largest coloured thing in a picture (3, SIZE, SIZE), or None if there is none."""
    mask = _silhouette(picture)
    if mask is None:
        return None
    return Frame(_nearest_shape(mask), _nearest_colour(picture, mask), _centroid(mask))


def _centroid(mask: np.ndarray) -> tuple[float, float]:
    """Return the mean x, y of a silhouette's pixels, whose centres lie at halves."""
    y, x = (float(axis.mean()) + 0.5 for axis in mask.nonzero())
    return x, y


def _silhouette(picture: Tensor) -> np.ndarray | None:
    saturation = (picture.amax(0) - picture.amin(0)).numpy()
    parts = np.zeros(saturation.shape, np.int32)
    if ndimage.label(ndimage.binary_fill_holes(saturation > SATURATED), output=parts) == 0:
        return None
    areas = np.bincount(parts.ravel())[1:]
    return parts == 1 + areas.argmax() if areas.max() >= SMALLEST_AREA else None


def _nearest_colour(picture: Tensor, mask: np.ndarray) -> str:
    """Return the colour in the same direction from grey, which neither shade nor glow changes."""
    saturation = picture.amax(0) - picture.amin(0)
    weight = saturation * torch.from_numpy(mask)
    chroma = (picture - picture.mean(0)) * weight
    palette = torch.tensor(list(shapes.COLOURS.values()))
    palette = palette - palette.mean(1, keepdim=True)
    likeness = torch.cosine_similarity(palette, chroma.sum((1, 2))[None], dim=1)
    return list(shapes.COLOURS)[int(likeness.argmax())]


def _nearest_shape(mask: np.ndarray) -> str:
    """Return the shape that overlaps best when laid on the silhouette's centroid with the silhouette's area."""
    area_per_radius, offset = _unit_shapes()
    radius = (mask.sum() / area_per_radius).sqrt()
    centre = torch.tensor(_centroid(mask)) - offset * radius[:, None]
    kinds = torch.arange(len(shapes.SHAPES))
    templates = shapes.signed_distance(shapes.Scene(kinds, kinds, centre, radius, kinds)).numpy() < 0
    overlap = (templates & mask).sum((1, 2)) / (templates | mask).sum((1, 2))
    return shapes.SHAPES[int(overlap.argmax())]


@cache
def _unit_shapes() -> tuple[Tensor, Tensor]:
    """Return the area and the centroid's offset of every shape at radius 1."""
    kinds, radius = torch.arange(len(shapes.SHAPES)), 40.0
    centre = torch.full((len(kinds), 2), shapes.SIZE / 2)
    masks = shapes.signed_distance(shapes.Scene(kinds, kinds, centre, torch.full((len(kinds),), radius), kinds)) < 0
    axis = torch.arange(shapes.SIZE) + 0.5
    area = masks.sum((1, 2)).float()
    x, y = (masks.sum(1) * axis).sum(1) / area, (masks.sum(2) * axis).sum(1) / area
    return area / radius**2, (torch.stack((x, y), 1) - centre) / radius


def displacement(path: list[tuple[float, float]]) -> float:
    """Return the mean distance in pixels that the centroid moves from frame to frame."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).mean())


def jerk(path: list[tuple[float, float]]) -> float:
    """Return the mean length of the path's third difference, in pixels per frame cubed; 0 is perfectly smooth."""
    return float(np.linalg.norm(np.diff(path, n=3, axis=0), axis=1).mean())


def centred(picture: Tensor) -> Tensor | None:
    """Return a CROP x CROP cut-out with the shape in its middle, the picture's edge repeated beyond it."""
    frame = read_frame(picture)
    if frame is None:
        return None
    x, y = (math.floor(value) for value in frame.centroid)
    padded = torch.nn.functional.pad(picture[None], [CROP // 2] * 4, mode="replicate")[0]
    return padded[:, y : y + CROP, x : x + CROP]


def look(picture: Tensor, stills: Tensor) -> float:
    """Return 1 - mean absolute difference from the most similar of the centred stills (n, 3, CROP, CROP)."""
    cut = centred(picture)
    if cut is None:
        return 0.0
    return float(1 - (stills - cut).abs().mean((1, 2, 3)).min())
