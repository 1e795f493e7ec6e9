"""Clips of the miniature follow pictures and sketches, with the base model and with one that no SparseCtrl saw."""

from __future__ import annotations

import pytest
import torch

from animatediff_native.demo import evaluate, keyframes
from animatediff_native.demo.train import MODELS

SEEDS = 2
pytestmark = pytest.mark.one_version
ROWS = [row for row in keyframes.ROWS if row.sparse_ctrl and row.is_there(MODELS)]


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


@pytest.mark.parametrize("model", keyframes.LOOKS)
def test_shapes_stand_where_the_keyframes_show_them(miniature, model):
    """Without keyframes they are 20 to 25 pixels away."""
    places = {}
    for row in ROWS:
        with torch.inference_mode():
            look = keyframes.LOOKS[model]
            measured = keyframes.measure(miniature, getattr(miniature, model), look, row, SEEDS, MODELS)
        places[row.name] = keyframes.mean(measured.place)
    assert len(places) == 3
    assert all(place < 8 for place in places.values()), places
