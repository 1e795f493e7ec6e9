"""tools/convert_workflow.py: it reads files and pictures, refuses in one sentence, and never overwrites."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conversion_support import CORPUS, read
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from animatediff_native.old_workflows.convert import convert
from animatediff_native.tools.convert_workflow import main

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_command_writes_beside_and_says_what_was_lost(tmp_path):
    """In a Python without ComfyUI."""
    old, new = CORPUS / "looped_closed_loop.json", tmp_path / "new.json"
    before = old.read_bytes()
    command = [sys.executable, "-S", str(ROOT / "tools" / "convert_workflow.py"), str(old), str(new)]
    answer = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert answer.returncode == 0, answer.stderr
    assert "pingpong" in answer.stdout
    assert json.loads(new.read_text(encoding="utf-8")) == convert(json.loads(before))[0]
    assert old.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["new.json"]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_the_command_reads_pictures_that_hold_their_workflow(tmp_path, suffix):
    text = json.dumps(read("text_to_video_gen1"))
    picture, old, new = Image.new("RGB", (8, 8)), tmp_path / f"old{suffix}", tmp_path / "new.json"
    if suffix == ".png":
        info = PngInfo()
        info.add_text("workflow", text)
        picture.save(old, pnginfo=info)
    else:
        exif = picture.getexif()
        exif[0x010F] = f"workflow:{text}"
        picture.save(old, exif=exif)
    assert main([str(old), str(new)]) == 0
    assert json.loads(new.read_text(encoding="utf-8")) == convert(json.loads(text))[0]


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("{", "is not a workflow: it is not JSON"),
        ("[]", "it has no nodes and links"),
        ('{"1": {"class_type": "KSampler"}, "2": {}}', "it has no nodes and links"),
        (None, "cannot be read: No such file"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, capsys, content, sentence):
    old = tmp_path / "old.json"
    if content is not None:
        old.write_text(content, encoding="utf-8")
    assert main([str(old), str(tmp_path / "new.json")]) == 1
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said
    assert not (tmp_path / "new.json").exists()


def test_the_command_never_overwrites(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(read("text_to_video_gen1")), encoding="utf-8")
    new.write_text("mine", encoding="utf-8")
    assert main([str(old), str(old), "--force"]) == 1
    assert main([str(old), str(new)]) == 1
    assert new.read_text(encoding="utf-8") == "mine"
    assert main([str(old), str(new), "--force"]) == 0
    assert json.loads(new.read_text(encoding="utf-8"))["nodes"]
