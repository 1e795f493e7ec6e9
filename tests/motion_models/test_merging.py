"""Merged motion modules, and saved ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import comfy.utils
import diffusers_oracle as oracle
import pytest
import safetensors.torch
import torch
from comfy_support import animate, load_motion, make_model, motion_state_dict, sample
from lora_support import change, official, weights, write
from picture_support import load_picture_motion
from safetensors import SafetensorError

from animatediff_native.motion_models.formats import V1, V3
from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.lora import apply_motion_lora
from animatediff_native.motion_models.merging import merge
from animatediff_native.motion_models.saving import recipe, save
from animatediff_native.sampling.strength import LEVELS

KEY = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
MID_KEY = KEY.replace("down_blocks.0", "mid_block")


Two = tuple[Any, Any]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Two:
    folder = tmp_path_factory.mktemp("models")
    return load_motion(folder, "v2", seed=1), load_motion(folder, "v2", seed=2)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_weights_are_mixed_by_the_ratio(two: Two, ratio):
    a, b = map(weights, two)
    for key, merged in weights(merge(*two, ratio, {})).items():
        expected = a[key] if key.endswith(".pe") else (1 - ratio) * a[key] + ratio * b[key]
        torch.testing.assert_close(merged, expected)


def test_inputs_stay_as_they_were(two: Two):
    before = [weights(motion) for motion in two]
    weights(merge(*two, 0.5, {}))
    for motion, expected in zip(two, before, strict=True):
        assert all(torch.equal(tensor, expected[key]) for key, tensor in weights(motion).items())


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_has_a_ratio_of_its_own(two: Two, level):
    a = weights(two[0])
    changed = {
        key.partition(".motion_modules")[0]
        for key, merged in weights(merge(*two, 0.5, dict.fromkeys(LEVELS, 0.0) | {level: 0.4})).items()
        if not torch.equal(merged, a[key])
    }
    assert changed == {level}


def test_a_lora_is_merged_with_its_module_and_another_can_follow(two: Two, tmp_path):
    lora = write(tmp_path / "lora.safetensors", change(), official)
    with_lora = apply_motion_lora(two[0], lora, 0.5)
    merged = weights(apply_motion_lora(merge(with_lora, two[1], 0.25, {}), lora, 0.5))
    b, after, plain = weights(two[1]), weights(with_lora), weights(two[0])
    for key, tensor in merged.items():
        if not key.endswith(".pe"):
            delta = after[key] - plain[key]
            torch.testing.assert_close(tensor, 0.75 * after[key] + 0.25 * b[key] + delta, rtol=1e-4, atol=1e-5)


def test_a_module_without_middle_block_leaves_the_other_its_own(tmp_path):
    v2, v3 = load_motion(tmp_path, "v2"), load_motion(tmp_path, "v3", seed=2)
    merged = merge(v2, v3, 0.5, {})
    assert torch.equal(weights(merged)[MID_KEY], weights(v2)[MID_KEY])
    assert not torch.equal(weights(merged)[KEY], weights(v2)[KEY])
    assert MID_KEY not in weights(merge(v3, v2, 0.5, {}))


def test_the_part_that_sees_pictures_stays_with_the_first_module(tmp_path):
    """PIA with the motion of another module, a LoRA on it, and the file that is saved of them."""
    pia, v3 = load_picture_motion(tmp_path, "PIA"), load_motion(tmp_path, "v3", seed=2)
    lora = write(tmp_path / "lora.safetensors", change("v3"), official)
    merged = apply_motion_lora(merge(pia, v3, 1.0, {}), lora, 0.5)
    save(merged, str(tmp_path / "saved.safetensors"))
    saved = load_motion_model(str(tmp_path / "saved.safetensors"))
    assert (saved.family, saved.config) == (pia.family, pia.config)
    expected = {
        **weights(apply_motion_lora(v3, lora, 0.5)),
        **{k: t for k, t in weights(pia).items() if "conv_in" in k},
    }
    for key, tensor in weights(saved).items():
        torch.testing.assert_close(tensor, expected.pop(key))
    assert not expected
    assert not any("conv_in" in key for key in weights(merge(v3, pia, 0.5, {})))


def test_modules_for_two_bases_are_refused(two: Two, tmp_path):
    other = load_motion(tmp_path, "v2", seed=3, channels=(64, 64, 128, 128))
    with pytest.raises(ValueError, match=r"cannot be merged.*\[32.*\[64.*same base"):
        merge(two[0], other, 0.5, {})


def test_a_saved_module_moves_as_the_one_that_was_saved(two: Two, tmp_path):
    first, lora = weights(two[0]), write(tmp_path / "pan.safetensors", change(), official)
    motion = apply_motion_lora(merge(*two, 0.3, {}), lora, 0.8)
    path = tmp_path / "saved.safetensors"
    save(motion, str(path))
    expected = weights(motion)
    assert all(torch.equal(tensor, first[key]) for key, tensor in weights(two[0]).items()), "saving changes no weights"
    saved = load_motion_model(str(path))
    assert (saved.family, saved.config) == (motion.family, motion.config)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in weights(saved).items())
    model = make_model()
    torch.testing.assert_close(sample(animate(model, saved)), sample(animate(model, motion)))


def test_a_saved_module_says_what_it_was_made_of(two: Two, tmp_path):
    lora = write(tmp_path / "pan.safetensors", change(), official)
    motion = apply_motion_lora(merge(*two, 0.25, {}), lora, -0.8)
    path = tmp_path / "saved.safetensors"
    save(motion, str(path))
    metadata = header(path)["__metadata__"]
    assert metadata["family"] == "AnimateDiff v2"
    assert metadata["base"] == "Stable Diffusion 1.5"
    assert metadata["sources"] == recipe(motion)
    assert recipe(motion) == "((0.75 x v2_1.safetensors + 0.25 x v2_2.safetensors) + -0.8 x pan.safetensors)"


def header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


def test_a_save_that_fails_leaves_nothing_and_the_old_file(two: Two, tmp_path, monkeypatch):
    """The disk is full when the file is half written."""
    path = tmp_path / "saved.safetensors"
    save(two[0], str(path))
    before = path.read_bytes()

    def full(_weights, unfinished, _metadata):
        Path(unfinished).write_bytes(before[:1000])
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(comfy.utils, "save_torch_file", full)
    with pytest.raises(OSError, match="No space"):
        save(two[1], str(path))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_stretching_a_saved_module_that_was_stretched_starts_from_all_of_its_positions(tmp_path):
    load_motion(tmp_path, "v3")
    once = load_motion_model(str(tmp_path / "v3_1.safetensors"), stretch_to=31)
    save(once, str(tmp_path / "saved.safetensors"))
    twice = load_motion_model(str(tmp_path / "saved.safetensors"), stretch_to=61)
    directly = load_motion_model(str(tmp_path / "v3_1.safetensors"), stretch_to=61)
    key = KEY.replace("proj_in.weight", "transformer_blocks.0.attention_blocks.0.pos_encoder.pe")
    torch.testing.assert_close(weights(twice)[key], weights(directly)[key], rtol=1e-5, atol=1e-6)


def test_notes_that_make_no_sense_are_ignored(tmp_path):
    for notes in ({"family": "Wan"}, {"family": "AnimateDiff v1", "trained_frames": "many"}, {"trained_frames": "9"}):
        path = tmp_path / "noted.safetensors"
        safetensors.torch.save_file(motion_state_dict("v3"), path, notes)
        expected = V1 if notes.get("family") == V1.name else V3
        assert load_motion_model(str(path)).family == expected


def test_a_file_whose_attentions_share_their_positions_can_be_saved(tmp_path):
    """As that of diffusers, pickled."""
    path = tmp_path / "diffusion_pytorch_model.bin"
    torch.save({oracle.rename(key): tensor for key, tensor in motion_state_dict("v2").items()}, path)
    motion = load_motion_model(str(path))
    save(motion, str(tmp_path / "saved.safetensors"))
    assert weights(load_motion_model(str(tmp_path / "saved.safetensors"))).keys() == weights(motion).keys()
