"""Touches comfy. Merge two motion models into one."""

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
    """Return (1 - r) * a + r * b, where r is `ratio` times the level's own ratio.

    ComfyUI adds the two when it loads the weights. All else comes from `a`: the positional encoding, the noise
    schedule, and a middle block or a part that sees pictures where `b` has none.
    Raises ValueError if the two differ in the shape of a layer.
    """
    patcher, weights = a.patcher.clone(), a.patcher.model.state_dict()
    patches_by_ratio: dict[float, dict[str, Any]] = {}
    for key, patch in b.patcher.get_key_patches().items():
        if key not in weights or is_pe(key):
            continue
        shape = patch[0][0].shape
        if shape != weights[key].shape:
            raise ValueError(
                f"{a.name} ({a.family.base}) and {b.name} ({b.family.base}) cannot be merged, because {key} is "
                f"{list(weights[key].shape)} in one and {list(shape)} in the other: choose two motion modules for "
                "the same base."
            )
        r = ratio * ratio_of_level.get(key.partition(".motion_modules")[0], 1.0)
        patches_by_ratio.setdefault(r, {})[key] = patch
    for r, patches in patches_by_ratio.items():
        patcher.add_patches(patches, r, 1.0 - r)
    name = f"{1.0 - ratio:g} x {recipe(a)} + {ratio:g} x {recipe(b)}"
    return dataclasses.replace(a, name=f"({name})", patcher=patcher, bare=patcher, loras=())
