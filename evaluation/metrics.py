"""Measures of a clip, as formulas. Needs no ComfyUI.

Clips are (f, 3, h, w) in [0, 1]; a step leads from a frame to the next, so there are f - 1. Text agreement, look and
smoothness are cosines of CLIP embeddings times 100, as in AnimateDiff's Table 1 (arXiv 2307.04725, section 5.2). All
three are highest for frames that are all alike, so they say something only beside an amount of motion.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..sampling.windows import windows
from .optical_flow import brightness, inside, warp, window_mean

HIDDEN_AT_MOST = 0.5  # share of a picture that movement can hide; more is a cut
WINDOW = 17  # pixels of a side
NO_ERROR = 1e-4  # warping error of a still; a tenth of what rounding to 8 bits leaves


def text_agreement(frames: Tensor, text: Tensor) -> float:
    """Return 100 times the mean cosine between the image embeddings (f, d) of frames and a text's embedding (d,)."""
    return 100 * float(torch.cosine_similarity(*_one_space(frames, text[None]), dim=1).mean())


def look(frames: Tensor, references: Tensor) -> float:
    """Return 100 times the mean cosine between the embeddings (f, d) of frames and (n, d) of reference pictures."""
    frames, references = _one_space(frames, references)
    return 100 * float(torch.cosine_similarity(frames[:, None], references[None], dim=2).mean())


def similarity_of_neighbours(frames: Tensor) -> Tensor:
    """Return (f - 1,) cosines between the image embeddings (f, d) of a frame and the next, times 100.

    Smoothness is their mean.
    """
    return 100 * torch.cosine_similarity(frames[:-1].float(), frames[1:].float(), dim=1)


def _one_space(frames: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    if frames.shape[1] != references.shape[1]:
        raise ValueError(
            f"Embeddings of {frames.shape[1]} and of {references.shape[1]} numbers cannot be compared: use image and "
            "text models of the same CLIP."
        )
    return frames.float(), references.float()


def motion(flow: Tensor) -> Tensor:
    """Return (n,) mean lengths in pixels of flow (n, 2, h, w)."""
    return flow.norm(dim=1).mean(dim=(1, 2))


def fastest_motion(flow: Tensor, share: float = 0.05) -> Tensor:
    """Return (n,) mean lengths in pixels of the fastest flow, as VBench's dynamic degree (arXiv 2311.17982)."""
    lengths = flow.norm(dim=1).flatten(1)
    return lengths.topk(max(1, round(share * lengths.shape[1])), dim=1).values.mean(dim=1)


def visible(forward: Tensor, backward: Tensor) -> Tensor:
    """Return (n, 1, h, w): which pixels of the first picture are visible in the second, from the flow both ways.

    Forward and backward flow cancel there, within the tolerance of Sundaram et al., "Dense point trajectories by
    GPU-accelerated large displacement optical flow" (2010), section 3. Where most would be
    hidden, the pictures differ by a cut, and every pixel counts.
    """
    back = warp(backward, forward)
    cancels = (forward + back).square().sum(1) < 0.01 * (forward.square() + back.square()).sum(1) + 0.5
    seen = cancels.unsqueeze(1) & inside(forward)
    cut = seen.float().mean(dim=(1, 2, 3)) < 1 - HIDDEN_AT_MOST
    return seen | cut.view(-1, 1, 1, 1)


def warping_error(first: Tensor, second: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """Return (n,) mean squared differences, times 1000, left after pulling the second picture back along the flow.

    E_warp of "Learning blind video temporal consistency" (arXiv 1808.00449, section 4.2).
    """
    difference = (first - warp(second, flow, "bicubic")).square()
    return 1000 * _mean(difference.mean(1, keepdim=True), seen)


def flicker(first: Tensor, second: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """Return (n,) mean changes of brightness, in percent of white, that no motion explains.

    Brightness is that of a window: a pan that ends between two pixels changes the pixels, but not their surroundings.
    """
    difference = (brightness(first) - brightness(warp(second, flow, "bicubic"))) * seen
    local = window_mean(difference, WINDOW) / window_mean(seen.float(), WINDOW).clamp(min=1e-6)
    return 100 * _mean(local.abs(), seen)


def change(first: Tensor, second: Tensor) -> Tensor:
    """Return (n,) mean absolute differences of pictures, from 0 to 1."""
    return (first - second).abs().mean(dim=(1, 2, 3))


def repeated(changes: Tensor) -> Tensor:
    """Return (f - 1,): which steps show the same frame again, by the `change` of each.

    That is at most a tenth of what the clip's livelier steps change, or of a step of 8 bits.
    """
    return changes <= 0.1 * changes.quantile(0.9).clamp(min=1 / 255)


def unevenness(motion: Tensor) -> float:
    """Return by how many percent of the mean the motion (f - 1,) changes from a step to the next."""
    if len(motion) < 2 or not motion.any():
        return 0.0
    return 100 * float(motion.diff().abs().mean() / motion.mean())


def is_dynamic(fastest: Tensor, shortest: int) -> bool:
    """Return whether a clip counts in VBench's dynamic degree (arXiv 2311.17982), by its fastest motion (f - 1,).

    `shortest` is the picture's shorter side in pixels. VBench asks RAFT, for frames at 8 per second.
    """
    return int((fastest > 6 * shortest / 256).sum()) >= max(1, round(4 * (len(fastest) + 1) / 16))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Return the mean over the pixels (n, 1, h, w) that count, of which every picture has some."""
    return (values * where).sum(dim=(1, 2, 3)) / where.sum(dim=(1, 2, 3))


def seams(frames: int, length: int, overlap: int) -> list[bool]:
    """Return for each step whether static context windows meet there.

    They do if the windows around its two frames differ, or if there are several. ValueError unless
    0 <= overlap < length.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"An overlap of {overlap} frames does not fit windows of {length}: choose a smaller one.")
    planned = windows("static", frames, length, overlap=overlap)
    windows_of_frames = [{i for i, window in enumerate(planned) if frame in window} for frame in range(frames)]
    return [one != next_one or len(one) > 1 for one, next_one in pairwise(windows_of_frames)]


def seam_score(errors: Tensor, at_seam: list[bool]) -> float | None:
    """Return the mean warping error at the seams over that of the other steps; 1 means no visible seam.

    None if there is no seam, no other step, or no error in the other steps to compare with, as in a still.
    """
    seam = torch.tensor(at_seam)
    if seam.all() or not seam.any() or errors[~seam].mean() < NO_ERROR:
        return None
    return float(errors[seam].mean() / errors[~seam].mean())
