"""Load SparseCtrl, Keyframe Images and Apply ControlNet together, as in a graph."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from comfy_support import CHANNELS
from node_support import NEGATIVE, POSITIVE, core_nodes, error, ksampler, run
from sparse_ctrl_support import make_vae, pictures, save_sparse


@pytest.fixture
def controlnet_folder(tmp_path, monkeypatch):
    """An empty folder, the only one where ControlNets are looked for."""
    extensions = folder_paths.folder_names_and_paths["controlnet"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "controlnet", ([str(tmp_path)], extensions))
    folder_paths.filename_list_cache.pop("controlnet", None)
    yield tmp_path
    folder_paths.filename_list_cache.pop("controlnet", None)


def applied(control, images, **options):
    settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **options}
    conds = {"positive": POSITIVE, "negative": NEGATIVE}
    return run(core_nodes.ControlNetApplyAdvanced, control_net=control, image=images, **conds, **settings)


def test_the_nodes_together_steer_the_clip(adn, animated, controlnet_folder):
    name = save_sparse(controlnet_folder, "rgb", CHANNELS[:2]).name
    control = run(adn["ADN_LoadSparseCtrl"], sparse_ctrl=name)
    vae, images = make_vae(), pictures(2)
    keyframes = run(adn["ADN_KeyframeImages"], images=images, frames="0, -1", vae=vae)
    clip = ksampler(animated, *applied(control, keyframes), steps=1)
    assert torch.equal(ksampler(animated, *applied(control, images, vae=vae), steps=1), clip), "spread evenly"
    moved = run(adn["ADN_KeyframeImages"], images=images, frames="1, 4", vae=vae)
    assert error(ksampler(animated, *applied(control, moved), steps=1), clip) > 1e-3
    weaker = run(adn["ADN_LoadSparseCtrl"], sparse_ctrl=name, strength=0.0)
    assert error(ksampler(animated, *applied(weaker, keyframes), steps=1), clip) > 1e-3


def test_a_replaced_file_is_loaded_again(adn, controlnet_folder):
    path = save_sparse(controlnet_folder, "scribble", CHANNELS[:2])
    before = adn["ADN_LoadSparseCtrl"].fingerprint_inputs(path.name)
    path.write_bytes(save_sparse(controlnet_folder, "rgb", CHANNELS[:2]).read_bytes())
    assert adn["ADN_LoadSparseCtrl"].fingerprint_inputs(path.name) != before


def test_an_empty_folder_says_what_to_put_into_it(adn, controlnet_folder):
    folder = adn["ADN_LoadSparseCtrl"].GET_SCHEMA().inputs[0].options
    assert folder == ["(no files: put SparseCtrl models into models/controlnet)"]
    with pytest.raises(ValueError, match=r"^There is no SparseCtrl model yet: put one, such as v3_sd15_sparsectrl_rgb"):
        run(adn["ADN_LoadSparseCtrl"], sparse_ctrl=folder[0])
