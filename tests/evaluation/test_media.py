"""Frames of real videos and pictures."""

from __future__ import annotations

from io import BytesIO
from struct import pack
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_data_support import counter, write_pictures, write_video

from animatediff_native.evaluation import media
from animatediff_native.evaluation.media import LONGEST_HOLD, Animation, Pictures, UnusableClip, Video


def gradient(height: int = 48, width: int = 64) -> torch.Tensor:
    """(3, height, width, 3): brighter to the right and, in green, downwards."""
    across = torch.linspace(0, 200, width).expand(height, -1)
    down = torch.linspace(0, 200, height)[:, None].expand(-1, width)
    return torch.stack([across, down, torch.zeros_like(down)], dim=-1).to(torch.uint8).expand(3, -1, -1, -1)


def test_all_frames_of_a_video_in_order(tmp_path):
    frames = counter(20)
    video = Video(write_video(tmp_path / "a.mkv", frames))
    assert video.count() == 20
    assert torch.equal(torch.stack(list(video.frames())), frames)


@pytest.mark.parametrize("codec, name", [("mpeg4", "a.mp4"), ("libx264", "a.mp4"), ("libvpx-vp9", "a.webm")])
def test_the_usual_codecs(tmp_path, codec, name):
    video = Video(write_video(tmp_path / name, counter(20), codec))
    assert video.count() == 20
    assert [round(frame.float().mean().item() / 2) for frame in video.frames()] == pytest.approx(range(20), abs=2)


def test_the_wanted_frames_of_a_video_in_memory(tmp_path):
    data = write_video(tmp_path / "a.mkv", counter(20)).read_bytes()
    assert torch.equal(torch.stack(list(Video(data).frames(range(3, 20, 5)))), counter(20)[3::5])


def test_a_long_video_is_not_decoded_at_once(tmp_path):
    """The first frame is there long before the last is decoded: a video of which the end is damaged gives it."""
    file = write_video(tmp_path / "a.mkv", counter(100))
    file.write_bytes(file.read_bytes()[:-3000])
    assert torch.equal(next(Video(file).frames()), counter(1)[0])


def test_a_phone_held_sideways(tmp_path):
    """The display matrix of ISO 14496-12, 6.2.2: x' = -y, y' = x turns the picture clockwise."""
    file = write_video(tmp_path / "a.mp4", gradient(), "libx264")
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)
    frame = next(Video(file).frames())
    expected = np.rot90(gradient()[0].numpy(), k=-1)
    assert frame.shape == (64, 48, 3)
    assert np.abs(frame.numpy().astype(int) - expected.astype(int)).mean() < 6


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"no video" * 99]
)
def test_an_unreadable_video_says_so(tmp_path, damage):
    file = write_video(tmp_path / "a.mp4", counter(20), "mpeg4")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UnusableClip, match="video is unreadable"):
        list(Video(file).frames())


def test_a_sound_without_pictures_says_so(tmp_path):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(UnusableClip, match="no video in the file"):
        Video(tmp_path / "a.wav").count()


def test_the_pictures_of_a_sequence(tmp_path):
    write_pictures(tmp_path, counter(5))
    pictures = Pictures(tuple(sorted(tmp_path.iterdir())))
    assert pictures.count() == 5
    assert torch.equal(torch.stack(list(pictures.frames(range(1, 4, 2)))), counter(5)[1:4:2])


def test_a_photo_is_turned_as_the_camera_noted(tmp_path):
    image = Image.fromarray(gradient()[0].numpy())
    exif = Image.Exif()
    exif[0x0112] = 6  # "the camera was turned": shown rotated clockwise by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    frame = next(Pictures((tmp_path / "a.png",)).frames())
    assert np.array_equal(frame.numpy(), np.rot90(gradient()[0].numpy(), k=-1))


def test_grey_and_transparent_pictures_are_rgb(tmp_path):
    for mode in ("L", "LA", "P", "RGBA", "1"):
        file = BytesIO()
        Image.new(mode, (4, 4)).save(file, "png")
        assert next(Pictures((file.getvalue(),)).frames()).shape == (4, 4, 3)


def test_an_unreadable_picture_says_which(tmp_path):
    write_pictures(tmp_path, counter(3))
    (tmp_path / "0001.png").write_bytes(b"no picture")
    with pytest.raises(UnusableClip, match="picture 2 is unreadable"):
        list(Pictures(tuple(sorted(tmp_path.iterdir()))).frames())


@pytest.mark.parametrize("suffix", ["webp", "gif", "apng"])
def test_a_held_frame_of_an_animation_is_counted_as_often_as_it_is_shown(tmp_path, suffix):
    """Pillow writes frames that are alike as one that is shown for longer."""
    first, *rest = [Image.fromarray(counter(3)[frame].numpy()) for frame in (0, 0, 0, 1, 2, 2)]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest, duration=100, **options)
    for animation in (Animation(tmp_path / f"a.{suffix}"), Animation((tmp_path / f"a.{suffix}").read_bytes())):
        assert animation.count() == 6
        numbers = [round(frame.float().mean().item() / 2) for frame in animation.frames()]
        assert numbers == [0, 0, 0, 1, 2, 2]
        part = animation.frames(range(1, 6, 2))
        assert [round(frame.float().mean().item() / 2) for frame in part] == [0, 1, 2]


def test_a_frame_that_is_held_for_a_minute_does_not_become_a_clip_of_its_own(tmp_path):
    first, second = [Image.fromarray(frame.numpy()) for frame in counter(2)]
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], duration=[1, 60_000], lossless=True)
    animation = Animation(tmp_path / "a.webp")
    assert animation.count() == 1 + LONGEST_HOLD == len(list(animation.frames()))
    assert len(list(animation.frames(range(2)))) == 2


def test_an_unreadable_animation_says_so(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"no picture")
    with pytest.raises(UnusableClip, match="the picture is unreadable"):
        Animation(tmp_path / "a.gif").count()


def test_a_video_of_huge_frames_is_not_decoded(tmp_path, monkeypatch):
    video = Video(write_video(tmp_path / "a.mkv", counter(3)))
    frame = next(iter(video.frames()))
    monkeypatch.setattr(media, "MOST_PIXELS", frame.shape[0] * frame.shape[1] - 1)
    with pytest.raises(UnusableClip, match=r"its frames of \d+ × \d+ pixels are too large"):
        next(iter(video.frames()))
