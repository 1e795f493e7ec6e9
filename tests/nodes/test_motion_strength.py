"""Motion Strength, Motion Curve, Merge and Save Motion Module as nodes of a graph."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths
import pytest
import torch
from node_support import FRAMES, error, ksampler, run


@pytest.fixture
def strength(adn):
    return lambda **inputs: run(adn["ADN_MotionStrength"], **inputs)


@pytest.fixture
def curve(adn):
    return lambda **inputs: run(adn["ADN_MotionCurve"], **inputs)


@pytest.mark.parametrize("name", ["strength", "motion_scale"])
def test_a_number_is_what_apply_animatediff_has_itself(apply, model, motion, strength, name):
    expected = ksampler(apply(model, motion, **{name: 0.4}))
    assert torch.equal(ksampler(apply(model, motion, motion_strength=strength(**{name: 0.4}))), expected)
    assert error(ksampler(apply(model, motion)), expected) > 1e-3


def test_strengths_in_a_chain_multiply(adn, strength):
    chain = strength(strength=0.5, previous=strength(strength=0.25))
    chain = run(adn["ADN_MotionStrengthPerLevel"], mid_strength=0.5, up_4_motion_scale=2.0, previous=chain)
    assert [setting.strength for setting in chain] == [0.25, 0.5, 1.0]
    assert (chain[2].strength_of_level["mid_block"], chain[2].strength_of_level["down_blocks.0"]) == (0.5, 1.0)
    assert chain[2].motion_scale_of_level["up_blocks.3"] == 2.0


def test_per_level_of_a_whole_number(adn, apply, model, motion):
    """As some clients send 1 for 1.0."""
    levels = run(adn["ADN_MotionStrengthPerLevel"], **{f"down_{i}_strength": 0 for i in range(1, 5)})
    assert error(ksampler(apply(model, motion, motion_strength=levels)), ksampler(apply(model, motion))) > 1e-3


SOURCES = {
    "number": lambda: 0.5,
    "list": lambda: [0.5] * FRAMES,
    "mask": lambda: torch.full((1, 16, 16), 0.5),
    "masks": lambda: torch.full((FRAMES, 16, 16), 0.5),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_sources_of_a_curve(apply, model, motion, strength, curve, kind):
    expected = ksampler(apply(model, motion, strength=0.5))
    sampled = ksampler(apply(model, motion, motion_strength=strength(strength=curve(source=SOURCES[kind]()))))
    assert error(sampled, expected) < 1e-5


def test_motion_follows_a_sound(apply, model, motion, strength, curve):
    """One second of silence and one of a steady tone, three frames each."""
    sound = {"waveform": torch.cat([torch.zeros(1, 1, 3000), torch.ones(1, 1, 3000)], dim=-1), "sample_rate": 3000}
    by_sound = strength(strength=curve(source=sound, frame_rate=3.0))
    by_hand = strength(strength=curve(keyframes="0 0 0 1 1 1"))
    clip = ksampler(apply(model, motion, motion_strength=by_sound))
    assert error(clip, ksampler(apply(model, motion, motion_strength=by_hand))) < 1e-5
    assert error(clip, ksampler(apply(model, motion, strength=0.5))) > 1e-3


@pytest.mark.parametrize("source", [torch.zeros(1, 8, 8), {"waveform": torch.zeros(1, 1, 80), "sample_rate": 8}])
def test_masks_and_sounds_do_not_run_over_the_sampling(curve, source):
    with pytest.raises(ValueError, match="set 'over' to frames"):
        curve(source=source, over="sampling")


def test_a_video_without_sound_is_not_taken_for_an_empty_socket(curve):
    with pytest.raises(ValueError, match="connect a video that has sound"):
        curve(source=None)


def test_a_bad_keyframe_is_quoted_by_the_node(curve):
    with pytest.raises(ValueError, match=r'^Line 2, column 1: "7 - 3" has no colon'):
        curve(keyframes="0: 1\n7 - 3")


def test_merged_and_saved_modules_are_found_by_the_loader(adn, apply, model, load_motion, tmp_path, monkeypatch):
    merged = run(adn["ADN_MergeMotionModules"], first=load_motion("v2", 1), second=load_motion("v2", 2), ratio=0.5)
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    for number in (1, 2):
        saved = adn["ADN_SaveMotionModule"].execute(merged, "animatediff_models/mixed")
        path = tmp_path / "output" / "animatediff_models" / f"mixed_{number:05}_.safetensors"
        assert saved.ui == {"text": [str(path)]}
        assert path.is_file()
    folder_paths.add_model_folder_path("animatediff_models", str(path.parent))
    again = run(adn["ADN_LoadMotionModule"], motion_module=path.name)
    assert error(ksampler(apply(model, again)), ksampler(apply(model, merged))) < 1e-5


def test_saving_where_nothing_can_be_written_is_one_sentence(adn, motion, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    (tmp_path / "modules").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="modules/motion could not be written"):
        adn["ADN_SaveMotionModule"].execute(motion, "modules/motion")


@pytest.mark.parametrize("above", ["..", None], ids=["relative", "absolute"])
def test_saving_outside_of_the_output_folder_is_refused(adn, motion, tmp_path, above):
    prefix = str(Path(above or tmp_path, "motion"))
    with pytest.raises(ValueError, match="outside ComfyUI's output folder"):
        adn["ADN_SaveMotionModule"].execute(motion, prefix)


def test_the_output_folder_is_searched(adn):
    """As ComfyUI does for the kinds of model that it saves itself."""
    folders = folder_paths.get_folder_paths("animatediff_models")
    assert any(folder.startswith(folder_paths.get_output_directory()) for folder in folders)


def test_stretched_positions_hold_more_frames(adn, apply, model, motion_folder, load_motion):
    load_motion("v2")
    stretched = run(adn["ADN_LoadMotionModule"], motion_module="v2_1.safetensors", stretch_to=40)
    assert stretched.config.pe_length == 40
    clip = ksampler(apply(model, stretched), frames=40, steps=1)
    assert torch.isfinite(clip).all()


def test_levels_that_a_module_does_not_have_are_logged(adn, apply, model, motion, load_motion, caplog):
    caplog.set_level(logging.INFO)
    without_mid = load_motion("v3")
    strength = run(adn["ADN_MotionStrengthPerLevel"], mid_strength=0.5)
    for module, logged in ((motion, False), (without_mid, True)):
        apply(model, module, motion_strength=strength)
        assert ("v3_1.safetensors has no level mid, so its value does nothing" in caplog.text) == logged
    caplog.clear()
    run(adn["ADN_MergeMotionModules"], first=motion, second=without_mid, mid_ratio=0.5)
    assert "v3_1.safetensors has no level mid" in caplog.text


@pytest.mark.parametrize(
    ("inputs", "idle"),
    [
        ({"low": 0.5, "frame_rate": 12.0}, "low 0.5, frame_rate 12 does nothing with keyframes"),
        ({"high": 2.0, "source": [0.5]}, "high 2 does nothing with numbers"),
        ({"low": 0.5, "frame_rate": 12.0, "source": torch.zeros(1, 8, 8)}, "frame_rate 12 does nothing with a curve"),
        ({"low": 0.5, "high": 2.0, "source": torch.zeros(1, 8, 8)}, None),
        ({}, None),
    ],
)
def test_inputs_of_motion_curve_that_do_nothing_are_logged(adn, inputs, idle, caplog):
    caplog.set_level(logging.INFO)
    run(adn["ADN_MotionCurve"], **inputs)
    assert f"Motion Curve: {idle}" in caplog.text if idle else not caplog.text
