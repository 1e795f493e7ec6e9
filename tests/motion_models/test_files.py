"""Files are written whole or not at all."""

from __future__ import annotations

import pytest
from safetensors import SafetensorError

from animatediff_native.motion_models.files import whole_file


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


def test_processes_that_write_one_file_do_not_share_the_unfinished_one(file):
    with whole_file(file, shared=True) as one, whole_file(file) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")


def test_a_missing_folder_is_made(tmp_path):
    with whole_file(tmp_path / "new" / "a.txt") as unfinished:
        unfinished.write_text("a")
    assert (tmp_path / "new" / "a.txt").read_text() == "a"
