"""Touches comfy. What the sampler's node shows of a run: its progress, and the whole clip moving.

ComfyUI itself shows the first frame alone, and nothing of a step in many windows before its end.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import comfy.utils
import latent_preview
from PIL import Image
from torch import Tensor

from .keyframe_picture import draw_keyframes
from .keyframes import Keyframes
from .window_picture import draw_windows

FRAME_RATE = 8.0  # of the videos that AnimateDiff's motion modules were trained on
SHARE = 0.02  # of the time since sampling began, for previews
SIZE = 256  # pixels of a preview's longer side
MOST_FRAMES = 256  # of a preview

Callback = Callable[[int, Tensor, Tensor, int], Any]


class Progress:
    """A sampler's callback around ComfyUI's own that also shows the clip and the progress within a step."""

    def __init__(self, callback: Callback, steps: int, preview: LivePreview | None):
        self.callback, self.preview = callback, preview
        self.bar, self.done = comfy.utils.ProgressBar(steps), 0
        self.windows_bar: Any = None

    def __call__(self, step: int, denoised: Tensor, noisy: Tensor, steps: int) -> Any:
        picture = self.preview.picture(denoised) if self.preview is not None else None
        result = self.callback(step, denoised, noisy, steps)
        self.done, self.bar.total = step + 1, steps
        if picture is not None:  # even an old one, since ComfyUI has just shown the first frame
            self.bar.update_absolute(self.done, steps, ("JPEG", picture, None))
        return result

    def show_windows(self, node: str | None, windows: Sequence[Sequence[int]], frames: int) -> None:
        """Show windows on the node that asked for them, with a progress bar of its own."""
        self.windows_bar = comfy.utils.ProgressBar(len(windows), node_id=node) if node is not None else None
        if self.windows_bar is not None:
            self.windows_bar.update_absolute(0, preview=("PNG", draw_windows(windows, frames), None))

    def within_step(self, done: int, calls: int) -> None:
        """Report that `done` of the model calls of a step are done."""
        self.bar.update_absolute(self.done + done / calls)
        if self.windows_bar is not None:
            self.windows_bar.update_absolute(self.windows_bar.total * done / calls)


class LivePreview:
    """Moving pictures of the clip, decoded frame by frame with ComfyUI's previewer.

    The first comes after the first step, later ones as often as takes at most `SHARE` of the time. Each begins at the
    frame that the one before has reached by then, and shows at most `MOST_FRAMES`.
    """

    def __init__(self, previewer: latent_preview.LatentPreviewer, frame_rate: float):
        from PIL import WebPImagePlugin as _  # noqa: F401 - here, or the first picture would wait for it

        self.previewer, self.frame_rate = previewer, frame_rate
        self.began = time.monotonic()
        self.spent = self.last = 0.0
        self.shown: MovingPicture | None = None

    def picture(self, denoised: Tensor) -> MovingPicture | None:
        """Return a picture of latents (f, c, h, w); None where another pack's previewer does not give pictures."""
        start = time.monotonic()
        elapsed = start - self.began
        if self.shown is None or self.spent + self.last < SHARE * elapsed:
            self.shown = self.draw(denoised, int(elapsed * self.frame_rate) % len(denoised))
            self.last = time.monotonic() - start
            self.spent += self.last
        return self.shown

    def draw(self, denoised: Tensor, first: int) -> MovingPicture | None:
        shown = denoised.roll(-first, 0)[:MOST_FRAMES].split(1)
        frames: list[Any] = [self.previewer.decode_latent_to_preview(frame) for frame in shown]
        if not all(isinstance(frame, Image.Image) for frame in frames):
            return None
        # The page shows a picture no larger than it is, and a pixel of the quickest previewer is 8 of the clip.
        return MovingPicture([enlarged(frame) for frame in frames], self.frame_rate)


def enlarged(picture: Image.Image) -> Image.Image:
    """Return a picture whose longer side is `SIZE`, and whose other is no less than a pixel."""
    scale = SIZE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


class MovingPicture(Image.Image):
    """A picture of the first frame whose `save` writes all frames.

    ComfyUI's message of a preview holds what `save` writes, and browsers play an animation whatever its declared type.
    """

    def __init__(self, frames: Sequence[Image.Image], frame_rate: float):
        super().__init__()
        still, *rest = frames
        self.im, self._mode, self._size = still.im, still.mode, still.size
        animation, duration = io.BytesIO(), round(1000 / frame_rate)
        quick = {"quality": 70, "method": 0}
        still.save(animation, "WEBP", save_all=True, append_images=rest, duration=duration, loop=0, **quick)
        self.animation = animation.getvalue()

    def save(self, fp: Any, format: str | None = None, **_options: Any) -> None:
        fp.write(self.animation)


def show_progress(callback: Callback | None, model: Any, steps: int, frame_rate: float) -> Progress | None:
    """Wrap a sampler's callback, if there is one, for `model`, a ModelPatcher. Obeys the user's preview method."""
    if callback is None:
        return None
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    return Progress(callback, steps, LivePreview(previewer, frame_rate) if previewer is not None else None)


def show_keyframes(keyframes: Keyframes, clip: int) -> None:
    """Show the pictures with their frames in a clip of so many frames on the node that they come from."""
    if keyframes.node is not None:
        picture = draw_keyframes(keyframes.images, keyframes.frames_of(clip))
        comfy.utils.ProgressBar(1, node_id=keyframes.node).update_absolute(1, preview=("PNG", picture, None))
