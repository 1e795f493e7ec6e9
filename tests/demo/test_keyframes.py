"""Clips of the miniature follow pictures and sketches, with the base model and with one that no SparseCtrl saw."""

from __future__ import annotations

import pytest
import torch

from animatediff_native.demo import evaluate, keyframes
from animatediff_native.demo.train import MODELS

SEEDS = 2
pytestmark = pytest.mark.one_version
ROWS = {row.name: row for row in keyframes.ROWS if row.is_there(MODELS)}


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


@pytest.mark.parametrize("model", keyframes.LOOKS)
def test_shapes_stand_where_the_keyframes_show_them(miniature, model):
    places = {}
    for name in ROWS:
        with torch.inference_mode():
            measured = keyframes.measure(
                miniature, getattr(miniature, model), keyframes.LOOKS[model], ROWS[name], SEEDS, MODELS
            )
        places[name] = keyframes.mean(measured.place)
    unled = places.pop("none")
    assert unled > 15
    assert all(place < 6 for place in places.values()), places
