"""What the page is told while a clip is sampled, by ComfyUI's own callback and previewer."""

from __future__ import annotations

import io
from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
import pytest
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy_support import conditioning
from node_support import small_model
from PIL import Image, ImageSequence, ImageStat

from animatediff_native.sampling import progress
from animatediff_native.sampling.clips import apply_sliding_context, prepare_clips
from animatediff_native.sampling.context_windows import WITHIN, ContextOptions
from animatediff_native.sampling.progress import LivePreview
from animatediff_native.sampling.window_picture import draw_windows

FRAMES, STEPS = 14, 3


@pytest.fixture
def previews(monkeypatch):
    """One at every step, however quick it is."""
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(progress, "SHARE", 1000.0)


@pytest.fixture
def sent():
    """What ComfyUI's progress hook is told of the node that runs: (value, of, preview)."""
    reports: list[tuple[float, float, Any]] = []

    def hook(value: float, of: float, preview: Any, node_id: str | None = None, **_: Any) -> None:
        if node_id is None:
            reports.append((value, of, preview))

    comfy.utils.set_progress_bar_global_hook(hook)
    yield reports
    comfy.utils.set_progress_bar_global_hook(None)


def sample(model: Any) -> torch.Tensor:
    noise = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    callback = latent_preview.prepare_callback(model, STEPS)
    inputs = conditioning(5), conditioning(6), torch.zeros_like(noise)
    return comfy.sample.sample(model, noise, STEPS, 3.0, "euler", "normal", *inputs, callback=callback, seed=3)


def written(preview: Any) -> Any:
    """The picture in the message that ComfyUI's server makes of a preview."""
    kind, picture, largest = preview
    assert largest is None, "the server would make a still of it"
    message = io.BytesIO()
    picture.save(message, format=kind, quality=95, compress_level=1)
    return Image.open(message)


def duration(frame: Image.Image) -> float:
    frame.load()
    return frame.info["duration"]


def colours(frames: Any) -> torch.Tensor:
    return torch.tensor([ImageStat.Stat(frame.convert("RGB")).mean for frame in frames])


def test_every_frame_moves_in_the_preview_as_comfyui_would_show_it(previews, sent):
    model = prepare_clips(small_model())
    latents = model.model.process_latent_in(sample(model))
    shown = written(sent[-1][2])
    previewer: Any = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    expected = colours(previewer.decode_latent_to_preview(frame) for frame in latents.split(1))
    shown_colours = colours(ImageSequence.Iterator(shown))
    assert shown.is_animated and shown.info["loop"] == 0 and len(shown_colours) == FRAMES
    nearest, next_one, *_ = sorted((shown_colours.roll(first, 0) - expected).abs().max() for first in range(FRAMES))
    assert nearest < 20 and nearest < 0.6 * next_one, "WebP loses a little colour, and frames differ by more"


@pytest.mark.parametrize(("rate", "milliseconds"), [(None, 125), (20.0, 50)])
def test_the_preview_plays_at_the_clips_frame_rate(previews, sent, rate, milliseconds):
    sample(apply_sliding_context(prepare_clips(small_model(), rate), ContextOptions(16, 4)))
    shown = written(sent[-1][2])
    assert [duration(frame) for frame in ImageSequence.Iterator(shown)] == [milliseconds] * FRAMES


def test_no_previews_are_made_where_the_user_wants_none(sent, monkeypatch):
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    sample(prepare_clips(small_model()))
    assert sent and all(preview is None for _, _, preview in sent)


def test_a_single_picture_is_shown_by_comfyui_alone(previews, sent):
    model = prepare_clips(small_model())
    noise = torch.randn(1, 4, 8, 8)
    callback = latent_preview.prepare_callback(model, STEPS)
    inputs = conditioning(5), conditioning(6), torch.zeros_like(noise)
    comfy.sample.sample(model, noise, STEPS, 3.0, "euler", "normal", *inputs, callback=callback, seed=3)
    assert len(sent) == STEPS and all(largest for _, _, (_, _, largest) in sent)


def test_comfyuis_callback_is_told_the_same_as_without_us(previews, sent):
    calls = []

    def callback(*inputs: Any) -> None:
        calls.append(inputs)

    for model in (small_model(), prepare_clips(small_model())):
        noise = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(9))
        inputs = conditioning(5), conditioning(6), torch.zeros_like(noise)
        comfy.sample.sample(model, noise, STEPS, 3.0, "euler", "normal", *inputs, callback=callback, seed=3)
    for without, with_us in zip(calls[:STEPS], calls[STEPS:], strict=True):
        assert without[0] == with_us[0] and without[3] == with_us[3]
        torch.testing.assert_close(with_us[1], without[1])


def test_progress_moves_with_every_window(sent, monkeypatch):
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0)
    sample(apply_sliding_context(small_model(), ContextOptions(6, 2)))
    values = [value for value, of, _ in sent if of == STEPS]
    assert values == sorted(values)
    assert {round(value, 3) for value in values} >= {0.333, 0.667, 1, 1.333, 1.667, 2, 2.333, 2.667, 3}


@pytest.mark.parametrize("within", WITHIN)
def test_sliding_context_shows_the_windows_of_the_clip(within):
    shown: list[tuple[float, float, Any]] = []

    def hook(value: float, of: float, preview: Any, node_id: str | None = None, **_: Any) -> None:
        if node_id == "7":
            shown.append((value, of, preview))

    comfy.utils.set_progress_bar_global_hook(hook)
    try:
        sample(apply_sliding_context(small_model(), ContextOptions(6, 2, within=within, node="7")))
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    (value, of, (kind, picture, _)), *rest = shown
    assert (value, of, kind) == (0, 3, "PNG")
    expected = draw_windows([range(6), range(4, 10), range(8, 14)], FRAMES)
    assert picture.tobytes() == expected.tobytes()
    assert not any(preview for _, _, preview in rest), "static windows are drawn once"


def test_moving_windows_are_shown_at_every_step():
    pictures = []

    def hook(_value: float, _of: float, preview: Any, node_id: str | None = None, **_: Any) -> None:
        if node_id == "7" and preview:
            pictures.append(preview[1].tobytes())

    comfy.utils.set_progress_bar_global_hook(hook)
    try:
        sample(apply_sliding_context(small_model(), ContextOptions(6, 2, "uniform", node="7")))
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert len(pictures) == STEPS and len(set(pictures)) > 1


class Clock:
    """A `time` whose seconds pass when a test says so, whatever else the machine does."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class SlowPreviewer(latent_preview.LatentPreviewer):
    """Takes a hundredth of a second for each frame."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def decode_latent_to_preview(self, x0: torch.Tensor) -> Image.Image:
        self.clock.now += 0.01
        return Image.new("L", (8, 8), int(self.clock.now * 10))


def test_previews_take_little_of_the_time_and_change_as_it_passes(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    preview, latents, pictures = LivePreview(SlowPreviewer(clock), 8.0), torch.zeros(2, 4, 8, 8), []
    for _ in range(100):
        pictures.append(preview.picture(latents))
        clock.now += 0.05
    drawn = len({picture.animation for picture in pictures if picture is not None})
    assert preview.spent == pytest.approx(0.02 * drawn)
    assert preview.spent <= progress.SHARE * clock.now + preview.last
    assert drawn == 5, "at once, then whenever its cost is a fiftieth of the time: after 2, 3, 4 and 5 seconds"


class Numbered(latent_preview.LatentPreviewer):
    """Shows a frame in the shade that its latents hold."""

    def decode_latent_to_preview(self, x0: torch.Tensor) -> Image.Image:
        return Image.new("L", (x0.shape[-1], x0.shape[-2]), int(x0.mean()))


LATENTS = {
    "NaN": torch.full((2, 4, 8, 8), float("nan")),
    "infinite": torch.full((2, 4, 8, 8), -float("inf")),
    "wide": torch.zeros(2, 4, 1, 1024),
    "high": torch.zeros(2, 4, 1024, 1),
}


@pytest.mark.parametrize("name", LATENTS)
def test_a_preview_of_odd_latents_is_a_picture(previews, name):
    model, size = small_model(), LATENTS[name].shape[:1:-1]
    previewer: Any = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    shown = written(("", LivePreview(previewer, 8.0).draw(LATENTS[name], 0), None))
    assert shown.n_frames in (1, 2) and shown.size == tuple(max(1, 256 * side // max(size)) for side in size)


def test_a_preview_follows_the_size_of_the_clip(previews):
    model = small_model()
    previewer: Any = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    preview = LivePreview(previewer, 8.0)
    for frames, height in ((3, 8), (2, 16), (3, 4)):
        preview.spent = -1e9
        shown = written(("", preview.picture(torch.randn(frames, 4, height, 16)), None))
        assert (shown.n_frames, shown.size) == (frames, (256, 16 * height))


@pytest.mark.parametrize(("most", "expected"), [(256, [2, 3, 0, 1]), (3, [2, 3, 0])])
def test_a_preview_seems_to_go_on_playing(most, expected, monkeypatch):
    monkeypatch.setattr(progress, "MOST_FRAMES", most)
    preview, latents = LivePreview(Numbered(), 8.0), torch.arange(4.0).view(4, 1, 1, 1).expand(4, 4, 8, 8) * 60
    preview.began -= 2 / 8
    shown = preview.picture(latents)
    assert shown is not None
    shades = [
        round(ImageStat.Stat(frame.convert("L")).mean[0] / 60)
        for frame in ImageSequence.Iterator(written(("", shown, None)))
    ]
    assert shades == expected


def test_another_packs_previewer_is_left_to_show_clips_itself():
    class Tensors(latent_preview.LatentPreviewer):
        def decode_latent_to_preview(self, x0: torch.Tensor) -> torch.Tensor:
            return x0

    assert LivePreview(Tensors(), 8.0).picture(torch.zeros(2, 4, 8, 8)) is None
