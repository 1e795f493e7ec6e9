"""Loading a file: how much memory it takes, and the copies that ComfyUI makes of it."""

from __future__ import annotations

from typing import Any

import pytest
import safetensors.torch
import torch
from comfy_support import load_motion, motion_state_dict

from animatediff_native.benchmarks import loading
from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.motion_model import MotionModel, MotionModelConfig


@pytest.mark.skipif(not loading.STATUS.exists(), reason="memory is read from Linux's /proc")
def test_loading_takes_the_memory_of_the_file_once(tmp_path):
    weights = MotionModel(MotionModelConfig.for_unet((128, 256, 512, 512), mid=True)).state_dict()
    files = [tmp_path / "module.safetensors", tmp_path / "module.ckpt"]
    safetensors.torch.save_file(weights, files[0])
    torch.save({"state_dict": weights}, files[1])
    assert [name for name, (_, memory) in zip(files, loading.measure(*files), strict=True) if memory >= 1.1] == []


@pytest.mark.parametrize("extension", [".safetensors", ".sft"])
def test_a_file_that_is_overwritten_while_it_is_loaded_changes_nothing(tmp_path, extension):
    """ComfyUI maps such files into memory, and a download in the same place writes into that map."""
    path = tmp_path / f"module{extension}"
    safetensors.torch.save_file(motion_state_dict("v3"), path)
    state_dict = load_motion_model(str(path)).patcher.model.state_dict()
    before = {key: tensor.clone() for key, tensor in state_dict.items()}
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    assert all(torch.equal(tensor, before[key]) for key, tensor in state_dict.items())


def test_the_copy_that_comfyui_makes_for_another_device_has_the_same_weights(tmp_path):
    motion = load_motion(tmp_path, "v3")
    stretched = load_motion_model(str(tmp_path / "v3_1.safetensors"), stretch_to=40)
    for original in (motion.patcher, stretched.patcher):
        init: Any = original.cached_patcher_init
        copy, expected = init[0](*init[1]).model.state_dict(), original.model.state_dict()
        assert copy.keys() == expected.keys()
        for key, tensor in copy.items():
            assert torch.equal(tensor, expected[key])
            assert tensor.data_ptr() != expected[key].data_ptr()
