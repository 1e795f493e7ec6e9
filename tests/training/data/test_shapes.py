"""The shapes of clips in a training from a configuration, on the miniature."""

from __future__ import annotations

from collections import Counter

import pytest
from training_data_support import counter, take, write_video
from training_run_support import configuration, write_config

from animatediff_native.training import config, processes, run


@pytest.fixture
def prepared(tmp_path):
    """The data of one of four processes, from three square clips and a wide one."""
    for name, width in {"a": 96, "b": 96, "c": 96, "d": 192}.items():
        write_video(tmp_path / "clips" / f"{name}.mkv", counter(2, width=width, height=96))
    data = {"folder": str(tmp_path / "clips"), "size": 96, "frames": 2, "stride": 1, "buckets": True, "caption": "x"}

    def prepare(**objective: int):
        table = configuration(tmp_path / "clips", tmp_path / "out", data=data, objective=objective)
        result = config.read_config(write_config(tmp_path / "run.toml", table))
        one_of_four = processes.OneProcess()
        one_of_four.count = 4
        return run.prepare_data(result, run.load_checkpoint(result), one_of_four)[1]

    return prepare


def test_a_rare_shape_is_shown_no_more_often_than_fills_a_call(prepared):
    items = take(prepared(batch=2, accumulate=4), 6)
    shapes = Counter(tuple(item.latents.shape[2:]) for item in items)
    assert sorted(shapes.values()) == [2, 4]
