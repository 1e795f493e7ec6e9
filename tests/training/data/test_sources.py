"""What is found in a folder, and its captions."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from training_data_support import counter, write_pictures, write_video

from animatediff_native.training.data import DataOptions
from animatediff_native.training.data.sources import find_sources


@pytest.fixture
def folder(tmp_path):
    """Two videos, one of them in a subfolder."""
    write_video(tmp_path / "walk.mkv", counter(2))
    write_video(tmp_path / "more" / "run.MKV", counter(2))
    return tmp_path


def captions(folder, **options) -> dict[str, str]:
    return {source.name: source.caption for source in find_sources(DataOptions(folder=folder, **options))}


def test_videos_sequences_and_stills_are_found(folder):
    write_pictures(folder / "sequence", counter(12), "frame_{}.png")
    write_pictures(folder / "photos", counter(2), "{}_photo.png")
    write_pictures(folder / "pets", counter(1), "cat{}.png")
    write_pictures(folder / "pets", counter(1), "dog{}.png")
    write_pictures(folder, counter(2), "{}.png")
    write_pictures(folder / ".hidden", counter(2))
    (folder / "notes.md").write_text("no clip")
    sources = find_sources(DataOptions(folder=folder, caption="x"))
    frames = {source.name: source.media.count() for source in sources}
    photos = ("0.png", "1.png", "pets/cat0.png", "pets/dog0.png", "photos/0_photo.png", "photos/1_photo.png")
    assert frames == dict.fromkeys(photos, 1) | {"more/run.MKV": 2, "sequence": 12, "walk.mkv": 2}
    assert list(frames) == sorted(frames)


def test_animated_pictures_are_clips_and_numbered_ones_a_sequence(tmp_path):
    first, *others = [Image.fromarray(frame.numpy()) for frame in counter(4)]
    for name in ("a.gif", "b.webp"):
        first.save(tmp_path / name, save_all=True, append_images=others, duration=100)
    write_pictures(tmp_path / "sequence", counter(3), "{}.webp")
    sources = find_sources(DataOptions(folder=tmp_path, caption="x"))
    assert {source.name: source.media.count() for source in sources} == {"a.gif": 4, "b.webp": 4, "sequence": 3}


def test_the_pictures_of_a_sequence_are_in_the_order_of_their_numbers(tmp_path):
    write_pictures(tmp_path / "a", counter(12), "frame_{}.png")
    (source,) = find_sources(DataOptions(folder=tmp_path, caption="x"))
    assert [file.stem for file in source.files] == [f"frame_{number}" for number in range(12)]


def test_text_files_of_the_same_name(folder):
    write_pictures(folder / "a.sequence", counter(2))
    for name in ("walk", "more/run", "a.sequence"):
        (folder / f"{name}.txt").write_text(f"{name} é\n", encoding="utf-8")
    assert captions(folder) == {"a.sequence": "a.sequence é", "more/run.MKV": "more/run é", "walk.mkv": "walk é"}


TABLES = {
    "captions.csv": 'file,caption\nwalk.mkv,"walks, slow"\nmore/run.MKV,runs\n',
    "captions.jsonl": '{"file": "walk.mkv", "caption": "walks, slow"}\n\n{"file": "more/run.MKV", "caption": "runs"}\n',
    "metadata.jsonl": '{"file_name": "walk.mkv", "text": "walks, slow"}\n{"file_name": "more/run.MKV", "text": "runs"}',
}


@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["plain", "as Excel writes it"])
@pytest.mark.parametrize("table", TABLES)
def test_tables_of_captions(folder, table, bom):
    (folder / table).write_text(bom + TABLES[table], encoding="utf-8")
    assert captions(folder) == {"more/run.MKV": "runs", "walk.mkv": "walks, slow"}


@pytest.mark.parametrize("break_", ["\u2028", "\u0085"], ids=["U+2028", "U+0085"])
@pytest.mark.parametrize("table", TABLES)
def test_a_caption_may_hold_any_line_break_of_unicode(folder, table, break_):
    (folder / table).write_text(TABLES[table].replace("runs", f"runs{break_}on"), encoding="utf-8")
    assert captions(folder) == {"more/run.MKV": f"runs{break_}on", "walk.mkv": "walks, slow"}


def test_a_caption_of_several_lines(folder):
    (folder / "captions.csv").write_bytes(b'file,caption\r\nwalk.mkv,"walks,\r\nslow"\r\nmore/run.MKV,runs\r\n')
    assert captions(folder) == {"more/run.MKV": "runs", "walk.mkv": "walks,\nslow"}


def test_a_table_elsewhere(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("elsewhere") / "a.csv"
    table.write_text(TABLES["captions.csv"])
    assert captions(folder, captions=table)["walk.mkv"] == "walks, slow"


def test_a_clips_own_text_comes_before_the_table_and_both_before_the_one_for_all(folder):
    write_video(folder / "swim.mkv", counter(2))
    (folder / "walk.txt").write_text("own")
    (folder / "captions.csv").write_text(TABLES["captions.csv"])
    result = captions(folder, caption="for all")
    assert result == {"walk.mkv": "own", "more/run.MKV": "runs", "swim.mkv": "for all"}


def test_missing_captions_are_an_error_that_names_the_first(folder):
    (folder / "walk.txt").write_text("walks")
    with pytest.raises(ValueError, match=r'1 of 2 clips have no caption, such as more/run.MKV: .*caption = "'):
        captions(folder)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("captions.csv", "video;words\na;b\n", r"Row 1 of .* has no file and caption, but video;words"),
        ("captions.jsonl", '{"file": "a", "caption": "b"}\n{"file"', r"Line 2 of .* is not JSON"),
        ("captions.jsonl", json.dumps(["a", "b"]), r"Line 1 of .* has no file and caption"),
        ("captions.jsonl", json.dumps({"file": "a", "caption": 5}), r"Line 1 of .* has no file and caption"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error_that_names_the_line(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        captions(folder)


def test_a_table_that_is_not_there_or_is_no_text(folder):
    with pytest.raises(ValueError, match=r"no file .*'captions'"):
        captions(folder, captions=folder / "none.csv")
    (folder / "captions.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        captions(folder)


def test_folders_without_clips(tmp_path):
    with pytest.raises(ValueError, match="holds no clips"):
        captions(tmp_path)
    with pytest.raises(ValueError, match=r"There is no folder .*'folder'"):
        captions(tmp_path / "none")


@pytest.mark.parametrize(
    "options, key",
    [
        ({"folder": None}, "'folder' or 'shards'"),
        ({"shards": "a.tar"}, "'folder' or 'shards'"),
        ({"size": 100}, "'size' is 100.* 104"),
        ({"camera_motion": "pan left", "amount": 1.0}, "'amount' is 1.0"),
        ({"camera_motion": "pan left", "frames": 1}, "'frames' is 1"),
        ({"folder": None, "shards": "a.tar", "buckets": True}, "'buckets' needs"),
    ],
)
def test_options_that_make_no_sense_name_the_key(tmp_path, options, key):
    with pytest.raises(ValueError, match=key):
        DataOptions(**{"folder": tmp_path} | options)
