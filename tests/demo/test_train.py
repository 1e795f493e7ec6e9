"""Training the miniature from nothing, three steps a stage."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy.taesd.taesd import TAESD
from safetensors import safe_open
from safetensors.torch import load_file

from animatediff_native.demo import autoencoder, evaluate, train, train_keyframes


@pytest.mark.one_version
@pytest.mark.autograd
def test_every_stage_runs_and_its_files_load(tmp_path, monkeypatch):
    arguments = ["train", "--quick", "--run-dir", str(tmp_path / "run"), "--models", str(tmp_path / "models")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--colours", str(tmp_path / "colours.json")])
    train.main()
    for stage in train.STEPS:
        assert (tmp_path / "run" / f"{stage}.png").stat().st_size > 1000
    elsewhere = {Path(f"{name}.safetensors") for name in train_keyframes.TRAININGS}
    shipped = {file.relative_to(train.MODELS) for file in train.MODELS.rglob("*.safetensors")} - elsewhere
    files = {file.relative_to(tmp_path / "models") for file in (tmp_path / "models").rglob("*.safetensors")}
    assert files == shipped
    for name in shipped:
        assert shapes_of(train.MODELS / name) == shapes_of(tmp_path / "models" / name)
    assert json.loads((tmp_path / "colours.json").read_text()).keys() == {"factors", "bias"}
    with torch.inference_mode():
        miniature = evaluate.Miniature(tmp_path / "models")
        module = tmp_path / "models" / "animatediff_models" / "miniature_motion.safetensors"
        clip = miniature.sample(evaluate.with_module(miniature.personalised, module), "a red star", 0, frames=2)
    assert clip.shape == (2, 3, 96, 96)


def test_weights_that_bytes_hold_exactly_are_stored_in_bytes(tmp_path):
    weights = {"selection": torch.eye(8), "mixture": torch.full((8, 8), 0.3), "scale": torch.ones(1)}
    train.save(weights, tmp_path / "weights.safetensors")
    stored = load_file(tmp_path / "weights.safetensors")
    assert {key: value.element_size() for key, value in stored.items()} == {"selection": 1, "mixture": 2, "scale": 2}
    for key, value in weights.items():
        assert torch.equal(stored[key].to(torch.float16), value.to(torch.float16))


def test_comfyui_reads_the_encoder_as_training_wrote_it():
    """Most of it is stored in bytes, beside the half precision of everything else."""
    written = TAESD(latent_channels=autoencoder.CHANNELS)
    autoencoder.write_encoder(written, *autoencoder.projection())
    read: Any = evaluate.Miniature(train.MODELS).vae.first_stage_model
    for there, here in zip(read.taesd_encoder.parameters(), written.taesd_encoder.parameters(), strict=True):
        assert there.dtype == torch.float32
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


def shapes_of(file) -> dict[str, list[int]]:
    with safe_open(file, "pt") as weights:
        return {key: weights.get_slice(key).get_shape() for key in weights.keys()}  # noqa: SIM118
