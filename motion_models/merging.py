"""Touches comfy. New motion models from others, merged by weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .formats import is_pe
from .loader import LoadedMotionModel
from .saving import recipe


def merge(
    a: LoadedMotionModel, b: LoadedMotionModel, ratio: float, ratio_of_level: Mapping[str, float]
) -> LoadedMotionModel:
    """(1 - r) * a + r * b, where r is `ratio` times the level's own; ComfyUI adds them when it loads the weights.

    What else a motion model is stays a's: its positions, its noise schedule, and its middle block where b has none.
    ValueError if a layer of the two differs in shape.
    """
    patcher, ours = a.patcher.clone(), a.patcher.model.state_dict()
    patches_by_ratio: dict[float, dict[str, Any]] = {}
    for key, patch in b.patcher.get_key_patches().items():
        if key not in ours or is_pe(key):
            continue
        shape = patch[0][0].shape
        if shape != ours[key].shape:
            raise ValueError(
                f"{a.name} ({a.family.base}) and {b.name} ({b.family.base}) cannot be merged, {key} is "
                f"{list(ours[key].shape)} in one and {list(shape)} in the other: choose two for the same base."
            )
        r = ratio * ratio_of_level.get(key.partition(".motion_modules")[0], 1.0)
        patches_by_ratio.setdefault(r, {})[key] = patch
    for r, patches in patches_by_ratio.items():
        patcher.add_patches(patches, r, 1.0 - r)
    name = f"{1.0 - ratio:g} x {recipe(a)} + {ratio:g} x {recipe(b)}"
    return dataclasses.replace(a, name=f"({name})", patcher=patcher, bare=patcher, loras=())
