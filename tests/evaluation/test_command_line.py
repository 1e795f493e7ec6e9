"""`python -m evaluation` over a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evaluation_support import pan, textured
from PIL import Image
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from animatediff_native.evaluation.command import main, read_caption

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 96)


def write(file: Path, clip: Tensor) -> None:
    """A lossless WebP of (f, 3, h, w)."""
    first, *rest = [Image.fromarray(frame) for frame in (clip.movedim(1, -1) * 255).round().byte().numpy()]
    first.save(file, save_all=True, append_images=rest, duration=100, lossless=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A clip that moves by 3 pixels, a nearly still one, and one that cannot be read."""
    clips = tmp_path / "clips"
    clips.mkdir()
    write(clips / "moving.webp", pan(8, SIZE, 3, 0))
    still = textured(SIZE).repeat(8, 1, 1, 1)
    still[::2, :, 0, 0] = 0  # Pillow keeps no frame that is like the one before
    write(clips / "still.webp", still)
    (clips / "broken.mp4").write_bytes(b"no video")
    return clips


def start(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, to which ComfyUI is unknown."""
    command = [sys.executable, "-m", "evaluation", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.one_version
def test_every_clip_has_a_row_and_the_unreadable_is_counted(folder, tmp_path):
    out = tmp_path / "scores.json"
    done = start(folder, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 clips scored, 1 of them still, 1 skipped." in done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    moving, still = report["clips"]
    assert (moving["clip"], still["clip"]) == ("moving.webp", "still.webp")
    assert moving["motion"] == pytest.approx(3, abs=0.2)
    assert (moving["still"], still["still"]) == (False, True)
    assert report["means"]["motion"] == pytest.approx((moving["motion"] + still["motion"]) / 2, abs=1e-3)
    assert report["means"]["smoothness"] is None
    assert list(report["skipped"]) == ["broken.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "scores.json"]


def test_comfyui_is_found_where_it_is_said_to_be(folder, tmp_path):
    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "raft.pth")
    done = start(folder, "--frames", 2, "--optical-flow", tmp_path / "raft.pth", "--comfyui", os.environ["ADN_COMFYUI"])
    assert done.returncode == 0, done.stderr
    assert [row["optical_flow"] for row in json.loads(done.stdout)["clips"]] == ["RAFT", "RAFT"]


@pytest.mark.one_version
def test_a_folder_without_comfyui_is_named(folder, tmp_path):
    done = start(folder, "--clip-vision", tmp_path / "clip.safetensors", "--comfyui", tmp_path)
    assert done.returncode == 1
    assert f"There is no ComfyUI in {tmp_path}: say where it is with --comfyui." in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_file_to_write_the_scores_are_printed(folder, capsys):
    main([str(folder), "--frames", "3"])
    assert [row["frames"] for row in json.loads(capsys.readouterr().out)["clips"]] == [3, 3]


def test_windows_are_scored(folder, capsys):
    main([str(folder), "--context-length", "4", "--context-overlap", "0"])
    moving, still = json.loads(capsys.readouterr().out)["clips"]
    assert moving["seams"] == still["seams"] == [3]
    assert moving["seam"] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--references", "."], "give --clip-vision too"),
        (["--context-length", "4"], "overlap of 4 frames does not fit windows of 4"),
        (["--frames", "-1"], "--frames is -1, but goes from 1 to"),
        (["--clip-vision", "clips/broken.mp4"], r"broken\.mp4 is not a weights file"),
        (["--clip-vision", "clips"], "clips cannot be read"),
        (["--optical-flow", "clips/broken.mp4"], r"broken\.mp4 is not a weights file"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, tmp_path, arguments, message, monkeypatch):
    out = tmp_path / "scores.json"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main([str(folder), "--out", str(out), *arguments])
    assert not out.exists()


def test_a_caption_in_another_encoding_is_named(tmp_path):
    (tmp_path / "clip.txt").write_bytes("\ufeffa café".encode("utf-8"))
    assert read_caption(tmp_path / "clip.txt") == "a café"
    (tmp_path / "clip.txt").write_bytes("a café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^clip\.txt is not UTF-8 text: save it as UTF-8\.$"):
        read_caption(tmp_path / "clip.txt")


def test_a_folder_of_which_nothing_can_be_read_gives_no_file(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SystemExit, match=r"No clip could be scored. broken.mp4 cannot be read"):
        main([str(tmp_path), "--out", str(tmp_path / "scores.json")])
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]
