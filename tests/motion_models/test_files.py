"""Files are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import islice
from subprocess import PIPE

import pytest
from safetensors import SafetensorError

from animatediff_native.motion_models.files import whole_file

NO_PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "scores.json").write_text("before")
    return tmp_path / "scores.json"


def test_a_file_is_replaced_when_it_is_complete(file):
    with whole_file(file) as unfinished:
        unfinished.write_text("after")
        assert file.read_text() == "before" and unfinished.parent == file.parent
    assert file.read_text() == "after"
    assert list(file.parent.iterdir()) == [file]


def test_an_error_leaves_the_old_file_and_nothing_else(file):
    with pytest.raises(UnicodeEncodeError), whole_file(file) as unfinished:
        unfinished.write_text("half of it \ud800", encoding="utf-8")  # what no encoding can hold
    assert file.read_text() == "before"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("no space"), SafetensorError("no space")])
def test_a_full_disk_is_an_os_error_that_says_what_to_do(file, error):
    message = r"scores\.json could not be written: free disk space, or choose another folder"
    with pytest.raises(OSError, match=message), whole_file(file) as unfinished:
        unfinished.write_text("half")
        raise error
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_an_os_error_that_says_what_to_do(file):
    message = r"a\.txt could not be written: free disk space, or choose another folder"
    with pytest.raises(OSError, match=message), whole_file(file / "a.txt"):  # below a file
        pass


@pytest.mark.parametrize("make", [os.mkdir, pytest.param(getattr(os, "mkfifo", None), marks=NO_PIPES)])
def test_what_is_not_a_file_is_not_replaced(tmp_path, make):
    make(tmp_path / "scores.json")
    before = os.stat(tmp_path / "scores.json")
    message = r"scores\.json could not be written: .*a folder, a device or a pipe"
    with pytest.raises(OSError, match=message), whole_file(tmp_path / "scores.json") as unfinished:
        unfinished.write_text("after")
    assert os.stat(tmp_path / "scores.json").st_mode == before.st_mode
    assert [file.name for file in tmp_path.iterdir()] == ["scores.json"]


def test_two_that_write_one_file_do_not_share_the_unfinished_one(file):
    with whole_file(file) as one, whole_file(file) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert list(file.parent.iterdir()) == [file]


WRITER = """
import sys
from pathlib import Path
from animatediff_native.motion_models.files import take_name, unfinished_name
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    unfinished = unfinished_name(folder)
    unfinished.write_text(sys.argv[2])
    print(take_name(unfinished, (folder / f"{number}.txt" for number in range(1000))).name)
unfinished_name(folder).write_text("half")
sys.stdin.readline()
"""


def test_processes_that_save_under_one_name_lose_no_file_and_leave_nothing(tmp_path):
    """Each of them is killed while it writes one more file; the next save removes what that leaves."""
    commands = ([sys.executable, "-c", WRITER, str(tmp_path), name] for name in "ab")
    writers = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for command in commands]
    taken, pipes = {}, [(writer.stdin, writer.stdout) for writer in writers]
    for _, written in pipes:
        assert written is not None and written.readline() == "ready\n"
    for read, _ in pipes:
        print("go", file=read, flush=True)
    for name, (_, written) in zip("ab", pipes, strict=True):
        taken |= {line.strip(): name for line in islice(written or (), 50)}
    assert len(taken) == 100
    assert {file.name: file.read_text() for file in tmp_path.glob("*.txt")} == taken
    while len(list(tmp_path.glob("*.part"))) < 2:
        time.sleep(0.01)
    with whole_file(tmp_path / "a.json") as unfinished:
        unfinished.write_text("a")
    assert len(list(tmp_path.glob("*.part"))) == 2  # of processes that still write
    for writer in writers:
        writer.kill()
        writer.communicate()
    with whole_file(tmp_path / "a.json") as unfinished:
        unfinished.write_text("a")
    assert not list(tmp_path.glob("*.part"))


def test_a_missing_folder_is_made(tmp_path):
    with whole_file(tmp_path / "new" / "a.txt") as unfinished:
        unfinished.write_text("a")
    assert (tmp_path / "new" / "a.txt").read_text() == "a"
