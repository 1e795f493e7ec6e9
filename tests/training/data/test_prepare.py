"""From folders of videos and pictures to items, through the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from training_data_support import (
    counted,
    counter,
    decode_text,
    encode_frames,
    encode_text,
    same,
    take,
    write_pictures,
    write_video,
)

from animatediff_native.training.data import DataOptions, EncodedClips, Encoders, prepare

ROOT = Path(__file__).parents[3]


class CountedEncoders:
    """Count what they are asked to encode."""

    def __init__(self):
        self.frames, self.texts = 0, 0

    def encode_frames(self, pixels):
        self.frames += len(pixels)
        return encode_frames(pixels)

    def encode_text(self, text):
        self.texts += 1
        return encode_text(text)

    def prepare(self, options: DataOptions, vae="a", text_encoder="b", **more) -> EncodedClips:
        encoders = Encoders(self.encode_frames, self.encode_text, vae=vae, text_encoder=text_encoder)
        data = prepare(options, encoders, **more)
        assert isinstance(data, EncodedClips)
        return data


@pytest.fixture
def encoders():
    return CountedEncoders()


@pytest.fixture
def folder(tmp_path):
    """A video of 30 frames and a sequence of 20, counted from 0 and from 50, with captions."""
    write_video(tmp_path / "video.mkv", counter(30))
    write_pictures(tmp_path / "sequence", counter(20, first=50))
    (tmp_path / "video.txt").write_text("a video")
    (tmp_path / "sequence.txt").write_text("pictures")
    return tmp_path


def options(folder, **more) -> DataOptions:
    return DataOptions(**{"folder": folder, "frames": 4, "stride": 5, "size": 32} | more)


def test_items_are_frames_of_the_clips_in_order_with_their_captions(folder, encoders):
    for item in take(encoders.prepare(options(folder)), 20):
        numbers = counted(item.latents)
        assert item.latents.shape == (4, 3, 4, 4) and numbers == [numbers[0] + 5 * i for i in range(4)]
        assert decode_text(item.prompt) == ("a video" if numbers[0] < 50 else "pictures")


def test_clips_of_any_rate_are_trained_at_one(tmp_path, encoders):
    """Two seconds at 24 and at 60 per second, of which the cache holds 8 per second; pictures are all frames."""
    for rate in (24, 60):
        write_video(tmp_path / f"{rate}.mkv", counter(2 * rate), rate=rate)
    write_pictures(tmp_path / "sequence", counter(4))
    data = encoders.prepare(options(tmp_path, stride=None, caption="x"))
    assert encoders.frames == 16 + 16 + 4
    steps = [step for item in take(data, 30) for step in diffs(item)]
    assert {*steps} == {3, 7, 8, 1}


def test_a_frame_rate_is_kept_in_camera_movements(tmp_path, encoders):
    write_video(tmp_path / "a.mkv", counter(48), rate=24)
    data = encoders.prepare(options(tmp_path, stride=None, frames=6, camera_motion="zoom in", caption="x"))
    assert all(diffs(item) == [3] * 5 for item in take(data, 8))


def diffs(item) -> list[int]:
    numbers = counted(item.latents)
    return [after - before for before, after in pairwise(numbers)]


def test_the_report_says_what_each_clip_is_and_what_is_used(tmp_path, encoders, caplog):
    write_video(tmp_path / "long.mkv", counter(48), rate=24)
    write_video(tmp_path / "short.mkv", counter(6), rate=24)
    write_video(tmp_path / "variable.mkv", counter(12), rate=24, times=[*range(6), *range(6, 30, 4)])
    write_pictures(tmp_path / "pictures", counter(4))
    expected = [
        "long.mkv: 2.00 s, 24 frames per second, 64 × 48; 16 frames at 8 per second, 32 × 32, used.",
        "pictures: 4 pictures, 64 × 48; 4 frames at 8 per second, 32 × 32, used.",
        "short.mkv: 0.25 s, 24 frames per second, 64 × 48; 2 frames at 8 per second, 32 × 32, too short for 4.",
        "variable.mkv: 1.12 s, about 10.67 frames per second, 64 × 48; 9 frames at 8 per second, 32 × 32, used.",
    ]
    for _ in ("encoded", "read from the cache"):
        caplog.clear()
        with caplog.at_level("INFO"):
            encoders.prepare(options(tmp_path, stride=None, caption="x"))
        assert caplog.messages[:4] == [f"Training: {line}" for line in expected]


def test_a_clip_that_is_added_or_changed_is_told_apart(folder, encoders):
    before = encoders.prepare(options(folder)).identities()
    os.utime(folder / "video.mkv", (1, 1))
    assert encoders.prepare(options(folder)).identities() == before
    write_video(folder / "video.mkv", counter(25))
    (folder / "sequence.txt").write_text("other words")
    write_video(folder / "new.mkv", counter(25))
    after = encoders.prepare(options(folder, caption="x")).identities()
    assert after.keys() == {"video.mkv", "sequence", "new.mkv"}
    assert all(after[name] != before[name] for name in before)


def test_what_was_encoded_before_is_read(folder, encoders):
    first = encoders.prepare(options(folder))
    assert (encoders.frames, encoders.texts) == (50, 2)
    again = encoders.prepare(options(folder, frames=5, stride=2), seed=7)
    assert (encoders.frames, encoders.texts) == (50, 2)
    assert same(take(first, 9), take(encoders.prepare(options(folder)), 9)) and len(again.clips) == 2


@pytest.mark.parametrize("change", [{"size": 40}, {"flip": True}, {"crop": "random"}, {"camera_motion": "zoom in"}])
def test_other_options_encode_anew(folder, encoders, change):
    encoders.prepare(options(folder))
    encoders.prepare(options(folder, **change))
    assert encoders.frames > 50 and encoders.texts == 2


def test_another_vae_text_encoder_or_video_encodes_anew(folder, encoders):
    encoders.prepare(options(folder))
    encoders.prepare(options(folder), vae="another")
    assert (encoders.frames, encoders.texts) == (100, 2)
    encoders.prepare(options(folder), text_encoder="another")
    assert (encoders.frames, encoders.texts) == (100, 4)
    write_video(folder / "video.mkv", counter(25))
    encoders.prepare(options(folder))
    assert (encoders.frames, encoders.texts) == (125, 4)
    os.utime(folder / "video.mkv", (1, 1))  # as of another video that happens to be of the same size
    encoders.prepare(options(folder))
    assert (encoders.frames, encoders.texts) == (150, 4)


def test_the_seed_decides_random_crops(tmp_path, encoders):
    write_pictures(tmp_path / "a", wide())
    crops = [take(encoders.prepare(options(tmp_path, crop="random", caption="x"), seed=s), 1)[0] for s in (1, 1, 2)]
    middle = take(encoders.prepare(options(tmp_path, caption="x")), 1)[0]
    assert torch.equal(crops[0].latents[0], crops[1].latents[0])
    assert not torch.equal(crops[0].latents[0], crops[2].latents[0])
    assert not torch.equal(crops[0].latents[0], middle.latents[0])


def wide(frames: int = 16) -> torch.Tensor:
    """(frames, 32, 128, 3): brighter to the right, all alike."""
    return torch.arange(128).to(torch.uint8).view(1, 1, -1, 1).expand(frames, 32, -1, 3)


def test_clips_are_shown_mirrored_as_well_and_then_in_all_frames(tmp_path, encoders):
    write_pictures(tmp_path / "a", wide())
    items = take(encoders.prepare(options(tmp_path, flip=True, caption="x")), 20)
    rising = [(item.latents.diff(dim=-1) > 0).flatten() for item in items]
    assert all(each.all() or not each.any() for each in rising)
    assert {bool(each[0]) for each in rising} == {True, False}


def test_stills_and_videos_train_on_single_frames(tmp_path, encoders):
    write_pictures(tmp_path, counter(2))
    write_video(tmp_path / "video.mkv", counter(6, first=10))
    items = take(encoders.prepare(options(tmp_path, frames=1, caption="x")), 90)
    assert {counted(item.latents)[0] for item in items} == {0, 1, *range(10, 16)}


def test_a_folder_that_was_moved_is_not_encoded_again(folder, encoders):
    encoders.prepare(options(folder))
    moved = folder.rename(folder.with_name("moved"))
    encoders.prepare(options(moved))
    assert encoders.frames == 50


def test_buckets_keep_the_shapes_of_clips(tmp_path, encoders):
    write_pictures(tmp_path / "wide", counter(16, width=96, height=48))
    write_pictures(tmp_path / "high", counter(16, width=48, height=96))
    data = encoders.prepare(options(tmp_path, size=64, buckets=True, caption="x"), batch=2)
    sizes = [tuple(item.latents.shape[2:]) for item in take(data, 8)]
    assert set(sizes) == {(6, 12), (12, 6)} and all(sizes[i] == sizes[i + 1] for i in range(0, 8, 2))


def test_a_still_becomes_clips_with_the_camera_movement(tmp_path, encoders):
    """What is seen goes to the right, where the picture is darker than what comes in: each place darkens."""
    write_pictures(tmp_path, wide(1))
    data = encoders.prepare(options(tmp_path, camera_motion="pan left", frames=6, caption="x", variants=5))
    assert encoders.frames == 30
    items = take(data, 40)
    assert all((item.latents.diff(dim=0) < 0).all() and item.latents.shape[0] == 6 for item in items)
    assert len({item.latents.sum().item() for item in items}) == 5


def test_a_camera_movement_in_a_clip_keeps_its_stride(folder, encoders):
    for item in take(encoders.prepare(options(folder, camera_motion="zoom in", variants=3)), 20):
        numbers = counted(item.latents)
        assert numbers == [numbers[0] + 5 * i for i in range(4)]


def test_clips_that_cannot_be_used_are_counted_and_left_out(folder, encoders, caplog):
    good = write_video(folder / "short.mp4", counter(10), "mpeg4").read_bytes()
    (folder / "truncated.mp4").write_bytes(good[: len(good) // 2])
    (folder / "nothing.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video, but text")
    write_pictures(folder / "mixed", [*counter(2), *counter(2, width=96)])
    data = encoders.prepare(options(folder, caption="x"))
    assert len(data.clips) == 2 and data.too_short == 1
    assert "4 of 7 clips are left out" in caplog.text and "1 of 3 clips are shorter" in caplog.text
    assert "mixed is left out: its frames differ in size" in caplog.text


def test_no_clip_that_can_be_used_is_an_error(tmp_path, encoders):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of the 1 clips .* a\.mp4: the video is unreadable"):
        encoders.prepare(options(tmp_path, caption="x"))


@pytest.mark.parametrize("left", [0, 40, 1000])
def test_a_damaged_file_of_the_cache_is_made_anew(folder, encoders, left):
    expected = take(encoders.prepare(options(folder, cache=folder / "cache")), 9)
    for file in (folder / "cache").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:left][:-1])
    assert same(take(encoders.prepare(options(folder, cache=folder / "cache")), 9), expected)
    assert (encoders.frames, encoders.texts) == (100, 4)


@pytest.mark.skipif(sys.platform == "win32", reason="the limit that stands for a full disk is of POSIX")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(folder, encoders):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ValueError, match=r"'cache': .* could not be written: free disk space"):
            encoders.prepare(options(folder, cache=folder / "cache"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((folder / "cache" / "clips").iterdir())


SLOW = """
import sys, time
sys.path += [{root!r}, {root!r} + "/tests"]
from pathlib import Path
from training_data_support import encode_frames, encode_text
from animatediff_native.training.data import DataOptions, Encoders, prepare

def slow(pixels):
    time.sleep(0.02)
    return encode_frames(pixels)

options = DataOptions(folder=Path(sys.argv[1]), frames=4, stride=5, size=32)
prepare(options, Encoders(slow, encode_text, vae="a", text_encoder="b"))
"""


def test_a_preparation_that_is_killed_goes_on_as_if_it_had_not_been(folder, encoders):
    for number in range(8):
        write_video(folder / f"{number}.mkv", counter(30, first=number))
        (folder / f"{number}.txt").write_text(str(number))
    command = [sys.executable, "-P", "-c", SLOW.format(root=str(ROOT)), str(folder)]
    with subprocess.Popen(command) as process:
        while process.poll() is None and len(list(folder.glob(".encoded/clips/*.safetensors"))) < 3:
            time.sleep(0.005)
        process.kill()
    assert process.returncode != 0
    result = take(encoders.prepare(options(folder)), 20)
    encoded = encoders.frames
    assert same(result, take(encoders.prepare(options(folder, cache=folder / "fresh")), 20))
    assert encoders.frames - encoded > encoded


def test_progress_is_shown(folder, encoders, capsys):
    encoders.prepare(options(folder))
    assert re.search(r"Clips in the cache: 100%.* 2/2 ", capsys.readouterr().err)
