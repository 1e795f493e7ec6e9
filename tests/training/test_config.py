"""Which values of a configuration are paths below its folder, and which do nothing."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
from training_run_support import configuration, write_config

from animatediff_native.training import config


@pytest.fixture
def shards_of(tmp_path):
    """Returns `shards` as they are read from a configuration."""

    def read(shards: str) -> str:
        table = configuration(Path("clips"), Path("out"), data={"shards": shards})
        return config.read_config(write_config(tmp_path / "run.toml", table)).data.shards

    return read


@pytest.mark.parametrize("address", ["file:/data/a.tar", "https://example.org/{0..3}.tar"])
def test_an_address_of_shards_is_left_as_it_is(shards_of, address):
    assert shards_of(address) == address


@pytest.mark.parametrize("shards", ["pipe:cat a.tar", "a.tar::pipe:cat b.tar::c.tar", "gs://bucket/a.tar"])
def test_shards_of_a_command_are_refused(shards_of, shards):
    with pytest.raises(ValueError, match=r"run\.toml: data: 'shards' holds the address (pipe:cat|gs:).* run a program"):
        shards_of(shards)


def test_every_path_among_several_shards_starts_in_the_folder(shards_of, tmp_path):
    shards = shards_of("a.tar::https://example.org/b.tar::c.tar")
    assert shards == f"{tmp_path / 'a.tar'}::https://example.org/b.tar::{tmp_path / 'c.tar'}"


def written(key: str, value: float) -> dict[str, Any]:
    """Return a configuration with one number changed, the keys of whose tables are joined by dots."""
    table, name = key.rpartition(".")[::2]
    whole = configuration(Path("clips"), Path("out"))
    return whole | ({table: {**whole.get(table, {}), name: value}} if table else {name: value})


@pytest.mark.parametrize("key", sorted(config.LIMITS.keys() - {"samples.size"}))
def test_numbers_that_cannot_be_are_refused_in_one_line(tmp_path, key):
    for value in (10**400, 10**30, -(10**30), math.nan, -math.inf):
        if key == "fit.clip" and value == 10**30:
            continue  # no limit
        with pytest.raises(ValueError, match=rf"^[^\n]*run\.toml: {key.partition('.')[0]}[.:][^\n]{{1,200}}\.$"):
            config.check(written(key, value), tmp_path / "run.toml")


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a =", "\xff"])
def test_a_text_that_is_no_configuration_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "run.toml").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"^[^\n]{1,300}run\.toml is not TOML: [^\n]{1,200}\.$"):
        config.read_config(tmp_path / "run.toml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (rb'data.folder = "C:\Users\me"', r"write paths with / or in single quotes.* \(at line 1\)"),
        ("name = 'é'".encode("cp1252"), "save it as UTF-8 text"),
        ("name = 'a'".encode("utf-16"), "save it as UTF-8 text"),
    ],
    ids=["backslashes", "ANSI", "UTF-16"],
)
def test_a_text_of_windows_is_refused_with_the_cure(tmp_path, text, sentence):
    (tmp_path / "run.toml").write_bytes(text)
    with pytest.raises(ValueError, match=rf"^[^\n]*run\.toml is not TOML: {sentence}[^\n]*\.$"):
        config.read_config(tmp_path / "run.toml")


def test_a_byte_order_mark_does_not_matter_and_a_tab_in_a_path_is_named(tmp_path):
    file = write_config(tmp_path / "run.toml", configuration(Path("clips"), Path("out")))
    expected = config.read_config(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert config.read_config(file) == expected
    write_config(file, configuration(Path("C:\temp"), Path("out")))
    with pytest.raises(ValueError, match=r"C:\\temp.* holds a special character: write paths with /"):
        config.read_config(file)


EXAMPLES = sorted((Path(config.__file__).parent / "examples").glob("*.toml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_value_of_the_examples_does_something(file, caplog):
    with caplog.at_level(logging.INFO):
        config.read_config(file)
    assert not caplog.text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"lora": {"rank": 4}, "pictures": True}, 'lora, pictures do nothing with train = "SparseCtrl"'),
        ({"middle": True}, "middle does nothing unless a motion module starts from scratch"),
        ({"data": {"folder": "clips", "amount": 0.5}}, "data.amount does nothing without data.camera_motion"),
        ({"data": {"folder": "clips", "frames": 1, "stride": 2}}, "data.stride does nothing with data.frames = 1"),
        ({"data": {"folder": "a", "stride": 2, "frame_rate": 9}}, "data.frame_rate does nothing with data.stride"),
        ({"data": {"shards": "a.tar", "cache": "cache"}}, "data.cache does nothing with data.shards"),
        ({"samples": {"every": 5, "keyframes": ["a.png"]}}, None),
    ],
)
def test_a_value_that_does_nothing_is_logged(tmp_path, values, sentence, caplog):
    changes = {"train": "SparseCtrl", "motion_module": "motion.safetensors", "lora": None, **values}
    table = configuration(Path("clips"), Path("out"), **changes)
    with caplog.at_level(logging.INFO):
        config.read_config(write_config(tmp_path / "run.toml", table))
    assert (f"run.toml: {sentence}." in caplog.messages) if sentence else not caplog.text
