"""Measures on clips with known answers: their order, their sign, and their amount where a formula gives it."""

from __future__ import annotations

import pytest
import torch
from evaluation_support import pan, textured
from torch import Tensor

from animatediff_native.evaluation import metrics
from animatediff_native.evaluation.optical_flow import LucasKanade

FRAMES, SIZE = 12, (96, 96)


def constant(dx: float, dy: float, size: tuple[int, int] = (20, 30)) -> Tensor:
    return torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(1, 2, *size).clone()


def embeddings(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


def test_neighbours_that_are_alike_have_a_similarity_of_100_and_unlike_ones_of_0():
    result = metrics.similarity_of_neighbours(embeddings([1, 0], [2, 0], [0, 3], [-1, 0]))
    torch.testing.assert_close(result, torch.tensor([100.0, 0.0, 0.0]))


def test_text_agreement_is_the_mean_cosine_of_the_frames():
    assert metrics.text_agreement(embeddings([1, 0], [0, 5]), torch.tensor([2.0, 0])) == pytest.approx(50)


def test_look_is_the_mean_over_frames_and_references():
    frames, references = embeddings([1, 0], [0, 2]), embeddings([3, 0], [1, 0], [0, 1], [-1, 0])
    assert metrics.look(frames, references) == pytest.approx(100 * (1 + 1 + 0 - 1 + 0 + 0 + 1 + 0) / 8)


def test_embeddings_of_two_kinds_of_clip_are_refused():
    with pytest.raises(ValueError, match="of 768 and of 1024 numbers"):
        metrics.text_agreement(torch.ones(2, 768), torch.ones(1024))


def test_motion_is_the_mean_length_of_the_flow():
    assert metrics.motion(constant(3, -4)).tolist() == [5.0]


def test_a_small_thing_shows_in_the_fastest_motion():
    flow = constant(0, 0)
    flow[:, 0, :5, :6] = 8  # 30 of 600 pixels
    assert metrics.motion(flow).item() == pytest.approx(0.4)
    assert metrics.fastest_motion(flow).item() == pytest.approx(8)


def test_what_leaves_the_picture_is_not_visible():
    seen = metrics.visible(constant(7, 0), constant(-7, 0))
    assert seen[..., :23].all()
    assert not seen[..., 23:].any()


def test_what_something_else_covers_is_not_visible():
    """A thing goes 6 pixels to the right; the ground it covers has a flow back that is the thing's."""
    forward, backward = constant(0, 0), constant(0, 0)
    forward[..., 5:15, 5:10] += torch.tensor([6.0, 0]).view(1, 2, 1, 1)
    backward[..., 5:15, 11:16] -= torch.tensor([6.0, 0]).view(1, 2, 1, 1)
    seen = metrics.visible(forward, backward)[0, 0]
    assert seen[5:15, 5:10].all()  # the thing
    assert not seen[5:15, 11:16].any()  # what it covers
    assert seen.float().mean() == 1 - 50 / 600


def test_in_a_cut_everything_counts():
    assert metrics.visible(constant(9, 0), constant(9, 0)).all()


def measured(clip: Tensor) -> dict[str, Tensor]:
    """(f - 1,) values of a clip (f, 3, h, w)."""
    first, second = clip[:-1], clip[1:]
    forward, backward = LucasKanade()(first, second), LucasKanade()(second, first)
    seen = metrics.visible(forward, backward)
    return {
        "motion": metrics.motion(forward),
        "error": metrics.warping_error(first, second, forward, seen),
        "flicker": metrics.flicker(first, second, forward, seen),
    }


def test_a_still_has_no_motion_no_error_and_no_flicker():
    result = measured(textured(SIZE).expand(FRAMES, -1, -1, -1))
    assert not result["motion"].any()
    assert result["error"].max() < 1e-6
    assert result["flicker"].max() < 1e-3


def test_a_pan_has_its_motion_and_hardly_an_error():
    result = measured(pan(FRAMES, SIZE, 3, -2))
    torch.testing.assert_close(result["motion"], torch.full((FRAMES - 1,), 13**0.5), rtol=0, atol=0.2)
    assert result["error"].max() < 0.2
    assert result["flicker"].max() < 0.5


def test_shuffled_frames_have_a_greater_error():
    clip = pan(FRAMES, SIZE, 3, -2)
    shuffled = clip[torch.randperm(FRAMES, generator=torch.Generator().manual_seed(0))]
    assert measured(shuffled)["error"].mean() > 20 * measured(clip)["error"].mean()


def test_light_that_changes_is_flicker_of_that_amount():
    """0.7 and 0.7 less 0.05 in turn, on a moving picture: 5 % of white from frame to frame."""
    clip = 0.1 + 0.6 * pan(FRAMES, SIZE, 2, 1)
    steady = measured(clip)
    clip[::2] -= 0.05
    flickering = measured(clip)
    torch.testing.assert_close(flickering["flicker"], torch.full((FRAMES - 1,), 5.0), rtol=0, atol=0.3)
    torch.testing.assert_close(flickering["error"], torch.full((FRAMES - 1,), 2.5), rtol=0, atol=0.3)  # 0.05² x 1000
    torch.testing.assert_close(flickering["motion"], steady["motion"], rtol=0, atol=0.05)
    assert steady["flicker"].max() < 0.5


def test_noise_that_is_new_in_every_frame_is_an_error_of_twice_its_variance():
    clip = 0.3 + 0.4 * pan(FRAMES, SIZE, 2, 1)
    noisy = clip + 0.04 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    # Pulling a frame back to places between its pixels averages some of its noise away.
    error = measured(noisy)["error"].mean()
    assert 0.6 * 3.2 < error < 1.1 * 3.2


@pytest.mark.parametrize(
    ("frames", "length", "overlap", "expected"),
    [
        (16, 16, 4, []),
        (12, 16, 4, []),
        (16, 8, 0, [7]),
        (12, 4, 0, [3, 7]),
        (14, 8, 2, [5, 6, 7]),  # frames 6 and 7 are in both windows
        (13, 8, 2, [4, 5, 6, 7]),  # the last window ends with the clip
    ],
)
def test_seams_are_where_windows_meet(frames, length, overlap, expected):
    assert [step for step, seam in enumerate(metrics.seams(frames, length, overlap)) if seam] == expected


@pytest.mark.parametrize("schedule", ["static", "batched"])
@pytest.mark.parametrize(("frames", "length", "overlap"), [(40, 16, 4), (33, 16, 8), (50, 8, 7), (17, 16, 0)])
def test_seams_are_those_of_sliding_context(schedule, frames, length, overlap):
    from itertools import pairwise

    from animatediff_native.sampling.windows import windows

    overlap = overlap if schedule == "static" else 0
    planned = windows(schedule, frames, length, overlap)
    holding = [{i for i, window in enumerate(planned) if frame in window} for frame in range(frames)]
    assert metrics.seams(frames, length, overlap) == [a != b or len(a) > 1 for a, b in pairwise(holding)]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_windows_that_overlap_all_the_way_are_refused(overlap):
    with pytest.raises(ValueError, match=f"overlap of {overlap} frames does not fit windows of 8"):
        metrics.seams(16, 8, overlap)


def test_a_seam_that_is_to_be_seen_scores_more_than_one_that_is_not():
    clip = pan(16, SIZE, 2, 1)
    broken = clip.clone()
    broken[8:] = 1 - clip[8:]
    at_seam = metrics.seams(16, 8, 0)
    assert metrics.seam_score(measured(clip)["error"], at_seam) == pytest.approx(1, abs=0.4)
    assert metrics.seam_score(measured(broken)["error"], at_seam) > 10  # type: ignore[operator]
    elsewhere = metrics.seams(16, 6, 0)
    assert metrics.seam_score(measured(broken)["error"], elsewhere) < 0.1  # type: ignore[operator]


def test_the_seam_score_is_the_mean_error_at_seams_over_that_elsewhere():
    errors, at_seam = torch.tensor([1.0, 4.0, 8.0, 3.0]), [False, True, True, False]
    assert metrics.seam_score(errors, at_seam) == pytest.approx(6 / 2)


@pytest.mark.parametrize("at_seam", [[False] * 3, [True] * 3])
def test_without_a_seam_or_anything_else_there_is_no_seam_score(at_seam):
    assert metrics.seam_score(torch.ones(3), at_seam) is None


def test_a_still_has_no_seam_score():
    assert metrics.seam_score(torch.zeros(3), [False, True, False]) is None


def test_a_step_that_changes_little_for_its_clip_is_a_repeat():
    changes = torch.tensor([0.03, 0.0001, 0.02, 0.001, 0.03])
    assert metrics.repeated(changes).tolist() == [False, True, False, True, False]
    assert metrics.repeated(torch.zeros(3)).all() and not metrics.repeated(torch.full((9,), 0.002)).any()


def test_motion_that_comes_and_goes_is_uneven():
    assert metrics.unevenness(torch.full((9,), 2.0)) == 0 == metrics.unevenness(torch.zeros(9))
    assert metrics.unevenness(torch.tensor([2.0, 0, 2, 0, 2, 0])) == pytest.approx(200)
    assert metrics.unevenness(torch.linspace(1, 2, 9)) < 10


@pytest.mark.parametrize(("fast", "dynamic"), [(3, False), (4, True)])
def test_a_clip_is_dynamic_if_a_quarter_of_its_frames_move_fast(fast, dynamic):
    """VBench's dynamic_degree.py: 16 frames, and 6 pixels of 256."""
    fastest = torch.tensor([6.1] * fast + [5.9] * (15 - fast))
    assert metrics.is_dynamic(fastest, 256) == dynamic
    assert not metrics.is_dynamic(fastest, 512)
    assert not metrics.is_dynamic(torch.zeros(1), 256)


@pytest.mark.parametrize("dx", [0.5, 3.3, 6.5])
def test_a_clean_pan_does_not_flicker(dx):
    assert measured(pan(4, SIZE, dx, 0))["flicker"].max() < 0.2
