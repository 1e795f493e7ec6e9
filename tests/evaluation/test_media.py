"""Frames of real videos and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from training_data_support import counter, write_pictures, write_video

from animatediff_native.evaluation import media
from animatediff_native.evaluation.media import (
    LONGEST_HOLD,
    LONGEST_SHOWN,
    Animation,
    Pictures,
    UnusableClip,
    Video,
    frame_numbers,
    media_from,
)


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
    assert animation.times()[-1] < 1 + LONGEST_SHOWN
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


def numbers_of(frames: Iterable[torch.Tensor]) -> list[int]:
    return [round(frame.float().mean().item() / 2) for frame in frames]


def copied(source: Path, target: Path, seconds: float = 0.0) -> Path:
    """The same packets, of which those before a time stay in the file, but are hidden by its edit list."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(before.streams.video[0]):
            if packet.dts is not None and packet.pts is not None and packet.time_base:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                after.mux(packet)
    return target


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", counter(40), "libx264")
    video = Video(copied(whole, tmp_path / "cut.mp4", 1.5))
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 40
    assert video.count() == len(list(video.frames())) == 28
    assert numbers_of(video.frames([0, 27])) == pytest.approx([12, 39], abs=1)


@pytest.mark.parametrize("suffix", ["ts", "mts", "m2ts", "mpg", "flv", "wmv", "vob"])
def test_videos_of_cameras_and_broadcasts_are_read(tmp_path, suffix):
    codec = {"mpg": "mpeg1video", "vob": "mpeg2video", "wmv": "wmv2"}.get(suffix, "libx264")
    file = write_video(tmp_path / f"a.{suffix}", counter(10), codec, rate=25)
    video = media_from(f".{suffix}", file)
    assert isinstance(video, Video) and video.count() == 10
    assert numbers_of(video.frames()) == pytest.approx(range(10), abs=1)


def test_tags_that_are_not_text_do_not_matter(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "a title"
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(counter(1)[0].numpy(), format="rgb24")))
        container.mux(stream.encode())
    data = (tmp_path / "a.mkv").read_bytes()
    assert Video(data.replace(b"a title", b"a\xfftitle")).count() == 1


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    video = Video(write_video(tmp_path / "a.mp4", gradient(), "libx264", shape=2))
    frame = next(video.frames())
    assert frame.shape == (48, 128, 3)
    assert frame[:, :, 0].float().mean(0).diff().mean() == pytest.approx(200 / 127, abs=0.1)


@pytest.mark.parametrize("rate", [8, 12, 24, 25, 30, 60])
@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_frames_are_chosen_by_their_times(tmp_path, rate, name):
    """Two seconds of any rate are 16 frames at 8 per second, none of them more than half a frame off."""
    video = Video(write_video(tmp_path / name, counter(2 * rate), rate=rate))
    numbers = frame_numbers(video, 8)
    assert [number / rate for number in numbers] == pytest.approx(
        [tick / 8 for tick in range(len(numbers))], abs=0.52 / rate
    )
    assert len(numbers) == 16 and video.count() == 2 * rate
    assert numbers_of(video.frames(numbers)) == pytest.approx(numbers, abs=1)


def test_a_variable_rate_is_followed(tmp_path):
    """At 24 per second for a second, then held for two, then at 12 per second."""
    times = [*range(24), *range(72, 96, 2)]
    video = Video(write_video(tmp_path / "a.mkv", counter(36), rate=24, times=times))
    assert video.times()[::6] == pytest.approx([0, 0.25, 0.5, 0.75, 3.0, 3.5, 4.0], abs=0.05)
    held = [23] * 16
    assert frame_numbers(video, 8)[:24] == [*range(0, 24, 3), *held]
    assert frame_numbers(video, 8)[24:] == pytest.approx([24 + 1.5 * tick for tick in range(8)], abs=1)


def test_the_times_of_an_animation_are_its_own(tmp_path):
    first, *rest = [Image.fromarray(frame.numpy()) for frame in counter(5)]
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest, duration=[50, 50, 50, 50, 200], lossless=True)
    animation = Animation(tmp_path / "a.webp")
    assert animation.times() == pytest.approx([0.05 * frame for frame in range(9)])
    assert numbers_of(animation.frames(frame_numbers(animation, 10))) == [0, 2, 4, 4]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.apng", "a.gif"])
def test_what_may_be_an_animation_is_what_it_holds(tmp_path, name):
    first, *rest = [Image.fromarray(frame.numpy()) for frame in counter(3)]
    lossless: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=100, **lossless)
    assert media_from(tmp_path.joinpath(name).suffix, tmp_path / name) == Animation(tmp_path / name)
    first.save(tmp_path / name)
    still = media_from(tmp_path.joinpath(name).suffix, tmp_path / name)
    assert still is not None and still.count() == 1


RAMP = np.linspace(0, 255, 48 * 64).reshape(48, 64)


def tiff(values: np.ndarray, photometric: int = 1) -> bytes:
    """A grey TIFF 6.0 of one strip, in which `photometric` 0 stands for white."""
    data, bits = values.tobytes(), 8 * values.itemsize
    tags = {256: 64, 257: 48, 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1, 278: 48, 279: len(data)}
    entries = b"".join(pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + pack("<IH", 8, len(tags)) + entries.ljust(112, b"\0") + data


def png(mode: str) -> bytes:
    file, grey = BytesIO(), Image.fromarray(RAMP.astype(np.uint8))
    Image.merge("RGBA", (grey, grey, grey, Image.new("L", grey.size, 255))).convert(mode).save(file, "png")
    return file.getvalue()


def saved(image: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    image.save(file, kind, **({"quality": 95} if kind == "jpeg" else {}))
    return file.getvalue()


DEEP = (RAMP * 257).round().astype(np.uint16)
BRIGHT = {
    "16 bits": saved(Image.fromarray(DEEP), "png"),
    "16 bits, TIFF": tiff(DEEP),
    "16 bits, 0 is white": tiff(65535 - DEEP, 0),
    "0 is white": tiff(255 - RAMP.astype(np.uint8), 0),
    "palette": saved(Image.fromarray(RAMP.astype(np.uint8)).convert("RGB").quantize(256), "png"),
    "alpha": png("RGBA"),
    "grey with alpha": png("LA"),
    "CMYK": saved(Image.fromarray(RAMP.astype(np.uint8)).convert("RGB").convert("CMYK"), "jpeg"),
}


@pytest.mark.parametrize("kind", BRIGHT)
def test_pictures_are_as_bright_as_another_decoder_shows_them(kind):
    """FFmpeg's."""
    frame = next(Pictures((BRIGHT[kind],)).frames()).numpy().astype(float)
    with av.open(BytesIO(BRIGHT[kind])) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    assert np.abs(frame - expected).mean() < 1.5 and np.abs(frame - RAMP[..., None]).mean() < 1.5


def test_what_is_transparent_is_white():
    picture = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    picture.paste((100, 0, 0, 255), (0, 0, 32, 48))
    picture.paste((100, 0, 0, 51), (16, 0, 32, 48))
    frame = next(Pictures((saved(picture, "png"),)).frames())
    assert frame[0, [0, 20, 40]].tolist() == [[100, 0, 0], [224, 204, 204], [255, 255, 255]]


@pytest.mark.parametrize("values", [RAMP.astype(np.float32) / 255, RAMP.astype(np.int32)], ids=["F", "I"])
def test_a_picture_whose_white_is_unknown_is_left_out_with_the_reason(values):
    with pytest.raises(UnusableClip, match="which of its 32-bit numbers is white: save it with 8 or 16 bits"):
        list(Pictures((saved(Image.fromarray(values), "tiff"),)).frames())
