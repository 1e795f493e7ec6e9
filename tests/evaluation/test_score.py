"""The score of a clip: in numbers, in words, and drawn."""

from __future__ import annotations

import json

import pytest
import torch
from evaluation_support import pan, shape_on_ground, textured
from torch import Tensor

from animatediff_native.evaluation import score as score_module
from animatediff_native.evaluation.optical_flow import LucasKanade
from animatediff_native.evaluation.plot import HEAD, PANEL, WIDTH, limits, plot
from animatediff_native.evaluation.score import Embeddings, score

SIZE = (96, 128)


def images(clip: Tensor) -> Tensor:
    """As ComfyUI's IMAGE."""
    return clip.movedim(1, -1)


def still(frames: int = 4) -> Tensor:
    return images(textured(SIZE).expand(frames, -1, -1, -1))


def alike(frames: int) -> Embeddings:
    noise = 0.1 * torch.randn(frames, 8, generator=torch.Generator().manual_seed(0))
    return Embeddings(1 + noise, references=torch.ones(2, 8), text=torch.ones(8))


def test_the_amount_of_motion_is_in_pixels_and_percent_of_the_diagonal():
    result = score(images(pan(4, SIZE, 4, 3)))
    assert result.motion == pytest.approx(5, abs=0.25)
    assert result.motion_percent == pytest.approx(100 * result.motion / 160)  # 96, 128, 160
    assert not result.still


def test_a_clip_is_measured_in_parts_as_in_one(monkeypatch):
    clip = images(pan(8, SIZE, 2, 1))
    whole = score(clip)
    monkeypatch.setattr(score_module, "BATCH", 3)
    parts = score(clip)
    assert parts.motion_of_steps == pytest.approx(whole.motion_of_steps, abs=1e-3)
    assert len(parts.warping_error_of_steps) == 7
    assert parts.warping_error_of_steps == pytest.approx(whole.warping_error_of_steps, abs=1e-3)


def test_progress_is_told_up_to_the_last_step():
    reports: list[tuple[int, int]] = []
    score(still(20), on_progress=lambda *progress: reports.append(progress))
    assert reports == [(8, 19), (16, 19), (19, 19)]


def test_a_still_clip_is_said_to_be_still_beside_its_smoothness():
    result = score(still(), embeddings=alike(4))
    assert result.still
    assert "The clip is still" in result.sentences()
    assert "which says nothing, as the clip is still" in result.sentences()


def test_smoothness_is_said_beside_the_motion():
    result = score(images(pan(4, SIZE, 4, 3)), embeddings=alike(4))
    line = next(line for line in result.sentences().splitlines() if line.startswith("Smoothness"))
    assert f"{result.motion:.2f} pixels per frame" in line


def test_a_small_thing_that_moves_is_not_still():
    clip, _ = shape_on_ground(4, dx=3, radius=8)
    assert not score(images(clip)).still


def noisy(clip: Tensor, size: float) -> Tensor:
    return (clip + size * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


@pytest.mark.parametrize("size", [0.006, 0.05])
@pytest.mark.parametrize("grain", [4, 24, 200], ids=["fine", "coarse", "flat"])
def test_noise_is_not_motion(size, grain):
    assert score(images(noisy(textured(SIZE, grain=grain).expand(4, -1, -1, -1), size))).still


def test_noise_on_what_moves_is_not_more_motion():
    for clip in (pan(3, SIZE, 2, 0), shape_on_ground(3, 3)[0]):
        clean, grainy = score(images(clip)), score(images(noisy(clip, 0.05)))
        assert 0.9 * clean.motion < grainy.motion < 1.4 * clean.motion


def test_repeated_frames_are_judder():
    clip = images(pan(8, SIZE, 3, 0))
    smooth, doubled = score(clip), score(clip.repeat_interleave(2, 0))
    assert smooth.repeated == 0 and smooth.unevenness < 5
    assert doubled.repeated == pytest.approx(100 * 8 / 15) and doubled.unevenness > 150
    assert "Judder: 53 % repeats" in doubled.sentences()


def test_vbenchs_numbers_are_those_of_its_formulas():
    clip = images(pan(4, SIZE, 4, 3))
    result, bytes_ = score(clip), clip * 255
    expected = (255 - (bytes_[1:] - bytes_[:-1]).abs().mean()) / 255
    assert result.temporal_flickering == pytest.approx(float(expected), abs=1e-6)
    assert result.dynamic_degree == 1 and score(still()).dynamic_degree == 0


def test_every_number_says_what_is_better():
    read = json.loads(score(still()).to_json())
    assert read["better"]["seam"] == "near 1" and read["better"].keys() <= read.keys()


def test_frames_one_by_one_are_scored_as_at_once_and_a_few_are_in_memory(monkeypatch):
    clip = images(pan(8, SIZE, 2, 1))
    assert score(iter(clip)) == score(clip)
    monkeypatch.setattr(score_module, "MOST_PIXELS", 2 * SIZE[0] * SIZE[1])
    assert [len(part) for part in score_module.overlapping(iter(clip))] == [3, 3, 3, 2]
    with pytest.raises(ValueError, match="clip of 1 frame has no motion"):
        score(iter(clip[:1]))
    with pytest.raises(ValueError, match="8 × 8 pixels are too small"):
        score(iter(clip[:, :8, :8]))


def test_without_embeddings_nothing_is_said_of_what_needs_them():
    result = score(still())
    assert (result.smoothness, result.look, result.text) == (None, None, None)
    assert "Smoothness" not in result.sentences()


def test_smoothness_is_the_mean_similarity_of_neighbours():
    result = score(still(), embeddings=alike(4))
    expected = torch.cosine_similarity(alike(4).frames[:-1], alike(4).frames[1:], dim=1)
    assert result.similarity_of_steps == pytest.approx((100 * expected).tolist())
    assert result.smoothness == pytest.approx(100 * float(expected.mean()))


def test_json_holds_every_number_and_no_nan():
    result = score(still(), embeddings=alike(4), context_length=2, context_overlap=0)
    read = json.loads(result.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert read["motion"] == 0
    assert read["seams"] == [1]
    assert read["seam"] is None
    assert read["smoothness"] == pytest.approx(result.smoothness, abs=1e-4)
    assert read["optical_flow"] == LucasKanade.name


def test_why_text_agreement_was_not_measured_is_said():
    embeddings = Embeddings(torch.ones(4, 8), note="Text agreement was not measured.")
    result = score(still(), embeddings=embeddings)
    assert result.text is None
    assert "Text agreement was not measured." in result.sentences()
    assert json.loads(result.to_json())["note"] == "Text agreement was not measured."


def test_a_clip_that_is_one_frame_is_refused():
    with pytest.raises(ValueError, match="clip of 1 frame has no motion"):
        score(still(1))


@pytest.mark.parametrize("shape", [(4, 96, 96), (4, 96, 96, 1)])
def test_what_is_no_clip_is_refused(shape):
    with pytest.raises(ValueError, match="but this one has"):
        score(torch.zeros(shape))


def test_pictures_too_small_for_flow_are_refused():
    with pytest.raises(ValueError, match="12 × 40 pixels are too small"):
        score(torch.zeros(2, 40, 12, 3))


def test_the_first_frame_that_is_not_finite_is_named():
    clip = still().clone()
    clip[2, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="Frame 2 holds NaN"):
        score(clip)


def test_an_alpha_channel_is_left_out():
    clip = images(pan(3, SIZE, 4, 3))
    with_alpha = torch.cat((clip, torch.rand(*clip.shape[:3], 1)), dim=-1)
    assert score(with_alpha) == score(clip)


def test_the_clip_is_not_changed():
    clip = images(pan(3, SIZE, 4, 3))
    before = clip.clone()
    score(clip)
    assert torch.equal(clip, before)


@pytest.mark.parametrize(("embeddings", "panels"), [(None, 2), (alike(8), 3)])
def test_the_plot_has_motion_in_a_panel_of_its_own(embeddings, panels):
    """Smoothness is never drawn alone."""
    drawn = plot(score(images(pan(8, SIZE, 2, 1)), embeddings=embeddings))
    assert drawn.shape == (HEAD + panels * PANEL, WIDTH, 3)
    assert 0 <= drawn.min() < 0.3
    assert drawn.max() == 1


def test_the_plot_marks_seams():
    clip = images(pan(8, SIZE, 2, 1))
    plain, seamed = plot(score(clip)), plot(score(clip, context_length=4, context_overlap=0))
    orange = (seamed[..., 0] - seamed[..., 2] > 0.1).float()
    assert orange[HEAD:].sum() > 500
    assert not (plain[..., 0] - plain[..., 2] > 0.1).any()


def test_the_line_is_high_where_the_values_are():
    clip = images(torch.cat((textured(SIZE).expand(4, -1, -1, -1), pan(5, SIZE, 4, 0))))
    panel = plot(score(clip))[HEAD : HEAD + PANEL]
    blue = (panel[..., 2] - panel[..., 0] > 0.5).nonzero()
    left, right = (blue[side] for side in (blue[:, 1] < WIDTH * 0.3, blue[:, 1] > WIDTH * 0.75))
    assert left[:, 0].float().mean() > right[:, 0].float().mean() + PANEL / 4


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.99, 2.01], [0.0, 137.0], [99.9, 100.0], [1e-7, 2e-7]])
def test_axes_hold_all_values(values):
    for most in (137.0, float("inf")):
        low, high = limits(values, most)
        assert low <= min(values) <= max(values) <= high <= most
        assert high - low >= 0.1


def test_the_axis_of_a_cosine_ends_at_100():
    assert limits([99.5, 99.9], 100) == (98, 100)
