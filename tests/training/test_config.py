"""Which values of a configuration are paths below its folder."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from training_run_support import configuration, write_config

from animatediff_native.training import config


@pytest.fixture
def shards_of(tmp_path):
    """As they are read from a configuration."""

    def read(shards: str) -> str:
        told = configuration(Path("clips"), Path("out"), data={"shards": shards})
        return config.read_config(write_config(tmp_path / "run.toml", told)).data.shards

    return read


@pytest.mark.parametrize("address", ["pipe:cat a.tar", "file:/data/a.tar", "https://example.org/{0..3}.tar"])
def test_an_address_of_shards_is_left_as_it_is(shards_of, address):
    assert shards_of(address) == address


def test_shards_of_a_command_are_read(shards_of, tmp_path):
    pytest.importorskip("webdataset")
    from animatediff_native.training.data.tars import expand, read_samples

    (tmp_path / "walk.txt").write_text("walks")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "walk.txt", "walk.txt")
    (shard,) = expand(shards_of(f"pipe:cat {(tmp_path / 'a.tar').as_posix()}"))
    assert [sample.files for sample in read_samples(shard)] == [{"file.txt": b"walks"}]


def test_every_path_among_several_shards_starts_in_the_folder(shards_of, tmp_path):
    found = shards_of("a.tar::pipe:cat b.tar::c.tar")
    assert found == f"{tmp_path / 'a.tar'}::pipe:cat b.tar::{tmp_path / 'c.tar'}"
