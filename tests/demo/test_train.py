"""Training the miniature from nothing, three steps a stage."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors import safe_open

from demo import evaluate, train


@pytest.mark.autograd
def test_every_stage_runs_and_its_files_load(tmp_path, monkeypatch):
    arguments = ["train", "--quick", "--run-dir", str(tmp_path / "run"), "--models", str(tmp_path / "models")]
    monkeypatch.setattr(sys, "argv", arguments)
    train.main()
    for stage in train.STEPS:
        assert (tmp_path / "run" / f"{stage}.png").stat().st_size > 1000
    shipped = {file.relative_to(train.MODELS) for file in train.MODELS.rglob("*.safetensors")}
    made = {file.relative_to(tmp_path / "models") for file in (tmp_path / "models").rglob("*.safetensors")}
    assert made == shipped
    for name in shipped:
        assert shapes_of(train.MODELS / name) == shapes_of(tmp_path / "models" / name)
    with torch.inference_mode():
        miniature = evaluate.Miniature(tmp_path / "models")
        module = tmp_path / "models" / "animatediff_models" / "miniature_motion.safetensors"
        clip = miniature.sample(evaluate.with_module(miniature.personalised, module), "a red star", 0)
    assert clip.shape == (evaluate.FRAMES, 3, 96, 96)


def shapes_of(file) -> dict[str, list[int]]:
    with safe_open(file, "pt") as weights:
        return {key: weights.get_slice(key).get_shape() for key in weights.keys()}  # noqa: SIM118
