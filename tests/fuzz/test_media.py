"""Damaged media and captions: a clip is scored, or skipped with one sentence that names it."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable
from typing import Any

import av
import fuzz_support
import numpy as np
import pytest
from PIL import Image

from animatediff_native.evaluation.command import main
from animatediff_native.evaluation.media import Video

ROUNDS = int(os.environ.get("ADN_FUZZ_ROUNDS", "100"))
SEED = int(os.environ.get("ADN_FUZZ_SEED", "1"))
FRAMES = [np.random.default_rng(i).integers(0, 255, (24, 32, 3), dtype=np.uint8) for i in range(3)]


def animation(kind: str, **options: Any) -> bytes:
    file, (first, *rest) = io.BytesIO(), [Image.fromarray(frame) for frame in FRAMES]
    first.save(file, kind, save_all=True, append_images=rest, **options)
    return file.getvalue()


def video(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        output.metadata["title"] = "a title"
        stream: Any = output.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for frame in (*FRAMES, None):
            output.mux(stream.encode(None if frame is None else av.VideoFrame.from_ndarray(frame)))
    return file.getvalue()


MEDIA: dict[str, Callable[[], bytes]] = {
    ".gif": lambda: animation("GIF", duration=100),
    ".webp": lambda: animation("WEBP", duration=[100, 1, 65535]),
    ".apng": lambda: animation("PNG"),
    ".mp4": lambda: video("mp4", "mpeg4"),
    ".mkv": lambda: video("matroska", "mpeg4"),
    ".avi": lambda: video("avi", "mpeg4"),
}
OTHERS = (b"", b"no media", bytes(5000), b"\x89PNG\r\n\x1a\n", b"<svg/>")


@pytest.mark.timeout(max(100, ROUNDS))
def test_damaged_clips_are_scored_or_skipped(tmp_path, capsys):
    rng = random.Random(f"{SEED} media")
    whole = {suffix: write() for suffix, write in MEDIA.items()}
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(max(8, ROUNDS // 4)):
        suffix = rng.choice(list(whole))
        other = rng.random() < 0.1
        data = rng.choice(OTHERS) if other else fuzz_support.damaged_bytes(whole[suffix], rng)
        (folder / f"{number}{suffix}").write_bytes(data)
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.png").write_bytes(fuzz_support.damaged_bytes(whole[".apng"], rng))
    (folder / "whole.gif").write_bytes(whole[".gif"])
    main([str(folder), "--frames", "3"])
    report = json.loads(capsys.readouterr().out)
    names = {path.name for path in folder.iterdir()}
    assert {row["clip"] for row in report["clips"]} | set(report["skipped"]) == names
    assert "whole.gif" not in report["skipped"]
    for name, reason in report["skipped"].items():
        assert "\n" not in reason, reason
        assert len(reason) < 300, reason
        assert reason.endswith("."), reason
        assert name in reason or "frame" in reason.lower(), reason


def test_a_title_that_is_not_text_does_not_matter():
    data = MEDIA[".mkv"]().replace(b"a title", b"\xff" * 7)
    assert b"\xff" * 7 in data
    assert len(list(Video(data).frames())) == len(FRAMES)
