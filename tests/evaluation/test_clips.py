"""Clips from real files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from struct import pack

import av
import numpy as np
import pytest
import torch
from evaluation_support import pan
from PIL import Image
from torch import Tensor

from animatediff_native.evaluation.clips import find_clips, pictures_of, read_clip, read_references
from animatediff_native.evaluation.score import score

FRAMES, SIZE = 12, (64, 96)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """(f, h, w, 3) bytes."""
    return (pan(FRAMES, SIZE, 3, 0).movedim(1, -1) * 255).round().byte()


def pictures(clip: Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame.numpy()) for frame in clip]


def write_sequence(folder: Path, clip: Tensor) -> Path:
    """frame_1.png, ..., frame_12.png, in whose alphabetical order 10 comes before 2."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(clip), 1):
        picture.save(folder / f"frame_{number}.png")
    return folder


def write_animation(file: Path, clip: Tensor, **options) -> Path:
    first, *rest = pictures(clip)
    first.save(file, save_all=True, append_images=rest, duration=100, **options)
    return file


def write_video(file: Path, clip: Tensor, codec: str) -> Path:
    with av.open(str(file), "w") as video:
        stream = video.add_stream(codec, rate=8)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for frame in clip:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        video.mux(stream.encode())
    return file


def test_a_folder_of_pictures_is_read_in_the_order_of_its_numbers(tmp_path, clip):
    result = read_clip(write_sequence(tmp_path / "clip", clip), FRAMES)
    assert torch.equal(result, clip.float() / 255)


def test_an_animated_webp_is_read(tmp_path, clip):
    result = read_clip(write_animation(tmp_path / "clip.webp", clip, lossless=True), FRAMES)
    assert torch.equal(result, clip.float() / 255)


def test_a_gif_is_read(tmp_path, clip):
    result = read_clip(write_animation(tmp_path / "clip.gif", clip), FRAMES)
    assert result.shape == clip.shape
    assert (result - clip.float() / 255).abs().mean() < 0.06  # of 256 colours


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "libx264"), ("clip.webm", "libvpx-vp9")])
def test_a_video_is_read(tmp_path, clip, name, codec):
    result = read_clip(write_video(tmp_path / name, clip, codec), FRAMES)
    assert result.shape == clip.shape
    assert (result - clip.float() / 255).abs().mean() < 0.06  # of colours at half the size


def test_a_video_of_a_phone_held_sideways_is_read_upright(tmp_path, clip):
    """The display matrix of ISO 14496-12, 6.2.2: x' = -y, y' = x turns the picture clockwise."""
    file = write_video(tmp_path / "clip.mp4", clip, "libx264")
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)
    result, upright = read_clip(file, FRAMES), clip.rot90(-1, (1, 2))
    assert result.shape == upright.shape
    assert (result - upright.float() / 255).abs().mean() < 0.06  # of colours at half the size


@pytest.mark.parametrize("name", ["clip.webp", "clip.gif", "clip.apng"])
def test_a_frame_that_is_held_is_read_as_often_as_it_is_shown(tmp_path, clip, name):
    """Pillow writes frames that are alike as one that is shown for longer."""
    options = {"lossless": True} if name == "clip.webp" else {}
    file = write_animation(tmp_path / name, clip[[0, 0, 0, 1, 2, 2]], **options)
    with Image.open(file) as written:
        assert getattr(written, "n_frames", 1) == 3
    result = read_clip(file, FRAMES)
    assert [torch.equal(a, b) for a, b in pairwise(result)] == [True, True, False, False, True]


def test_no_more_than_asked_for_is_read_of_a_frame_that_is_held(tmp_path, clip):
    assert len(read_clip(write_animation(tmp_path / "clip.webp", clip[[0, 0, 0, 1]]), 2)) == 2


def test_a_gif_whose_frames_are_all_alike_is_a_still_clip(tmp_path, clip):
    """All that is left of them is one frame and how long it is shown."""
    file = write_animation(tmp_path / "clip.gif", clip[:1].expand(6, -1, -1, -1))
    assert score(read_clip(file, FRAMES)).still


@pytest.mark.parametrize("name", ["picture.gif", "picture.webp", "picture.apng"])
def test_a_picture_is_one_frame(tmp_path, clip, name):
    pictures(clip)[0].save(tmp_path / name)
    assert len(read_clip(tmp_path / name, FRAMES)) == 1


@pytest.mark.parametrize("name", ["clip.webp", "sequence"])
def test_no_more_frames_than_asked_for_are_read(tmp_path, clip, name):
    write = write_animation if name.endswith("webp") else write_sequence
    assert len(read_clip(write(tmp_path / name, clip), 5)) == 5


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webp", "clip.gif"])
def test_a_file_that_is_no_clip_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>404 not found</html>" * 50)
    with pytest.raises(ValueError, match=rf"^{name} cannot be read"):
        read_clip(tmp_path / name, FRAMES)


def test_a_sound_without_pictures_is_named(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as video:
        stream = video.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        video.mux(stream.encode(silence))
        video.mux(stream.encode())
    with pytest.raises(ValueError, match=r"^sound.mp4 cannot be read"):
        read_clip(tmp_path / "sound.mp4", FRAMES)


def test_pictures_of_different_sizes_are_no_clip(tmp_path, clip):
    folder = write_sequence(tmp_path / "clip", clip)
    Image.new("RGB", (32, 32)).save(folder / "frame_99.png")
    with pytest.raises(ValueError, match="clip has frames of 32 × 32 and 96 × 64 pixels"):
        read_clip(folder, 99)


def test_clips_are_found_in_the_order_of_their_names(tmp_path, clip):
    write_sequence(tmp_path / "clip_10", clip[:2])
    write_animation(tmp_path / "clip_9.webp", clip[:2])
    (tmp_path / "clip_9.txt").write_text("a caption")
    (tmp_path / "empty").mkdir()
    assert [path.name for path in find_clips(tmp_path)] == ["clip_9.webp", "clip_10"]


def test_a_folder_without_clips_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"holds no clip: put videos \(.mp4"):
        find_clips(tmp_path)
    with pytest.raises(ValueError, match="There is no folder"):
        find_clips(tmp_path / "missing")


def test_references_may_be_of_any_sizes(tmp_path):
    for number, size in enumerate([(40, 30), (20, 50)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    assert [tuple(picture.shape) for picture in read_references(tmp_path)] == [(1, 30, 40, 3), (1, 50, 20, 3)]


def test_a_folder_without_references_is_an_error(tmp_path):
    assert not pictures_of(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no reference picture"):
        read_references(tmp_path)
