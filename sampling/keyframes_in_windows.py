"""Keyframes as a context window sees them. Needs no ComfyUI, no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

NEAREST, NONE = "nearest", "none"
FAR_KEYFRAMES = (NEAREST, NONE)


def keyframes_in_window(
    window: Sequence[int], keyframes: Sequence[int], far: str = NEAREST, loop_of: int = 0
) -> dict[int, int]:
    """Return which of the keyframes, given as frames of the clip, stands at which place of a window.

    A window that holds some sees these alone. With NEAREST, any other sees the closest ones, at its frame that is
    closest to them, or in between if two are; with NONE it sees none. `loop_of` is the length of a clip that is a loop.
    """

    def distance(frame: int, keyframe: int) -> int:
        direct = abs(frame - keyframe)
        return min(direct, loop_of - direct) if loop_of else direct

    distances = {(k, place): distance(f, key) for k, key in enumerate(keyframes) for place, f in enumerate(window)}
    least = min(distances.values()) if far == NEAREST else 0
    places: dict[int, list[int]] = {}
    for (keyframe, place), distance_between in distances.items():
        if distance_between == least:
            places.setdefault(keyframe, []).append(place)
    return {(closest[0] + closest[-1]) // 2: keyframe for keyframe, closest in places.items()}
