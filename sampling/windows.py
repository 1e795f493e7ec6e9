"""Context windows: which frames are sampled together, and how much each window counts in a frame. Needs no ComfyUI.

Schedules and fuse methods are those of ComfyUI's context windows, and equal them wherever those cover every frame with
full windows inside the clip. A window is a list of frame numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

FAINT = 1e-37  # the outer end of a ramp: nothing beside another window, and all of a frame that no other window has


def windows(schedule: str, frames: int, length: int, overlap: int, stride: int = 1, step: int = 0) -> list[list[int]]:
    """Return the windows of `schedule` at the sampler's `step` (0, 1, ...), for 0 <= overlap < length.

    Every frame is in one of them. They all differ, and each holds `length` frames, or all frames of a shorter clip,
    none of them twice. "static" and "batched" windows are the same at every step. To the other schedules, a `stride`
    of 2, 3, ... adds windows of every 2nd, every 4th, ... frame, as far as the clip has that many.
    """
    if frames <= length and schedule != "closed loop":
        return [list(range(frames))]
    planned = PLANS[schedule](frames, length, overlap, stride, step)
    # Of 40 frames every 4th are only ten, and round the clip they come again.
    whole = [tuple(window) for window in planned if len(set(window)) == len(window)]
    return [list(window) for window in dict.fromkeys(whole)]


def static(frames: int, length: int, overlap: int, *_: int) -> list[list[int]]:
    """Return overlapping windows, the last of which is moved back to end with the clip."""
    starts = [min(start, frames - length) for start in range(0, frames - overlap, length - overlap)]
    return [list(range(start, start + length)) for start in starts]


def batched(frames: int, length: int, *_: int) -> list[list[int]]:
    return static(frames, length, 0)


def looped(frames: int, length: int, overlap: int, stride: int, step: int, closed: bool = False) -> list[list[int]]:
    """Return windows that go on round the end of the clip, from another frame at each step, which spreads the seams.

    This is the context scheduler of animatediff-cli. With `closed` they go on until one overlaps the first window.
    """
    shift = van_der_corput(step)
    turn = round(frames * shift)
    end = turn + frames - (0 if closed else overlap)
    hops = [2**i for i in range(stride) if 2**i * length < 2 * frames]
    return [
        [(start + hop * i) % frames for i in range(length)]
        for hop in hops
        for start in range(turn + int(hop * shift), end, hop * length - overlap)
    ]


def closed_loop(frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """Return looped windows that close the loop; a clip shorter than a window gets two, from different frames."""
    if frames < length:
        length, overlap = frames, min(max(overlap, 1), frames // 2)
    return looped(frames, length, overlap=overlap, stride=stride, step=step, closed=True)


def uniform(frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """Return looped windows, of which those that go round the end are moved back to end with the clip.

    The beginning of the clip, which they held, gets a window of its own unless the next one has it.
    """
    moved: list[list[int]] = []
    planned = looped(frames, length, overlap=overlap, stride=stride, step=step)
    fitting = [window for window in planned if unwrapped(window, frames)[-1] < frames]
    for window, following in zip(fitting, [*fitting[1:], None], strict=True):
        if not wraps(window):
            moved.append(window)
            continue
        at = unwrapped(window, frames)
        moved.append([frames - 1 - at[-1] + i for i in at])
        first = min(window)
        if first not in (following or moved[0]):
            moved.append(list(range(first, first + length)))
    if len(set().union(*moved)) < frames:  # the next one was of every 2nd frame, and left out those between
        moved.append(list(range(length)))
    return moved


def van_der_corput(n: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8, ...: the binary digits of n mirrored at the point."""
    return int(bin(n)[:1:-1], 2) / 2 ** n.bit_length()


def wraps(window: Sequence[int]) -> bool:
    """Return whether a window goes round the end of the clip."""
    return any(later < earlier for earlier, later in pairwise(window))


def unwrapped(window: Sequence[int], frames: int) -> list[int]:
    """Return how many frames each comes after the window's first, counted on round the end of the clip."""
    return list(accumulate(((later - earlier) % frames for earlier, later in pairwise(window)), initial=0))


PLANS: dict[str, Callable[[int, int, int, int, int], list[list[int]]]] = {
    "static": static,
    "uniform": uniform,
    "looped": looped,
    "closed loop": closed_loop,
    "batched": batched,
}
SCHEDULES = tuple(PLANS)


def fuse_weights(fuse: str, windows: Sequence[Sequence[int]], frames: int, overlap: int) -> list[Tensor]:
    """Return how much each window counts in its frames: (length,) fp32 for each. In every frame they sum to one.

    A clip whose windows go round its end is a loop, in which no frame is the first or the last.
    """
    loop = any(wraps(window) for window in windows)
    indices = [torch.tensor(window) for window in windows]
    weights = [WEIGHTS[fuse](window, frames, overlap, loop) for window in windows]
    total = torch.zeros(frames, dtype=torch.float64)
    for index, weight in zip(indices, weights, strict=True):
        total.index_add_(0, index, weight)
    return [(weight / total[index]).float() for index, weight in zip(indices, weights, strict=True)]


def flat(window: Sequence[int], *_: int) -> Tensor:
    return torch.ones(len(window), dtype=torch.float64)


def pyramid(window: Sequence[int], *_: int) -> Tensor:
    """Return 1, 2, 3, ..., 3, 2, 1 (FreeNoise, arXiv 2310.15169, "window-based attention fusion")."""
    rising = torch.arange(1, len(window) + 1, dtype=torch.float64)
    return torch.minimum(rising, rising.flip(0))


def overlap_linear(window: Sequence[int], frames: int, overlap: int, loop: bool) -> Tensor:
    """Return ramps over the overlap and one between them; no ramp where the clip begins or ends."""
    weight = flat(window)
    overlap = min(overlap, len(window) - 1)
    if loop or window[0] > 0:
        weight[:overlap] = torch.linspace(FAINT, 1.0, overlap, dtype=torch.float64)
    if loop or window[-1] < frames - 1:
        weight[len(window) - overlap :] = torch.linspace(1.0, FAINT, overlap, dtype=torch.float64)
    return weight


def relative(window: Sequence[int], frames: int, *_: int) -> Tensor:
    """Return weights that fall evenly from one in the window's middle to a hundredth at its ends."""
    at = torch.tensor(unwrapped(window, frames), dtype=torch.float64)
    middle, reach = at[-1] / 2, (at[-1] + 1e-2) / 2
    return (1 - (at - middle).abs() / reach).clamp_min(1e-2)


WEIGHTS: dict[str, Callable[[Sequence[int], int, int, bool], Tensor]] = {
    "pyramid": pyramid,
    "flat": flat,
    "overlap-linear": overlap_linear,
    "relative": relative,
}
FUSES = tuple(WEIGHTS)
