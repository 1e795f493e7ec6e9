"""Training in a graph: it learns, leaves its inputs alone, goes on after an interruption, and its files are read."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from comfy_support import make_model
from node_support import LEVELS, prompt, run, small_model
from torch import Tensor

FRAMES = 6


def as_lists(**inputs: Any) -> dict[str, Any]:
    """As ComfyUI hands inputs to a node that takes lists."""
    return {name: value if isinstance(value, list) else [value] for name, value in inputs.items()}


def train(node: Any, **inputs: Any) -> Any:
    given = {"latents": [moving_square()], "conditioning": [prompt(5)], "frames": FRAMES, "steps": 3} | inputs
    return run(node, **as_lists(**given))


def moving_square(frames: int = FRAMES) -> dict[str, Tensor]:
    clip = torch.full((frames, 4, 8, 8), -2.0)
    for frame in range(frames):
        clip[frame, :, 3:6, frame % 6 : frame % 6 + 3] = 6.0
    return {"samples": clip}


def weights(patcher: Any) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in patcher.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path / "output"


@pytest.fixture
def lora_node(adn) -> Any:
    return adn["ADN_TrainMotionLora"]


def test_a_lora_is_learned_and_neither_model_nor_module_changes(lora_node, model, motion, output):
    before = weights(model), weights(motion.patcher)
    altered, _, losses = train(
        lora_node, model=model, motion_module=motion, steps=60, learning_rate=1e-2, rank=4, loss="velocity"
    )
    values = losses["loss"]
    assert len(values) == 60 and sum(values[-15:]) < 0.9 * sum(values[:15])
    assert same(before[0], weights(model)) and same(before[1], weights(motion.patcher))
    assert altered.patcher.patches and not motion.patcher.patches


def test_a_module_goes_on_from_the_one_that_is_given(adn, apply, model, motion, output):
    before = weights(motion.patcher)
    trained, losses = train(adn["ADN_TrainMotionModule"], model=model, motion_module=motion, learning_rate=1e-3)
    after = weights(trained.patcher)
    assert len(losses["loss"]) == 3 and same(before, weights(motion.patcher))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if not key.endswith(".pe")}
    assert trained.family == motion.family


def test_a_module_from_nothing_changes_nothing_before_its_first_step(adn, apply, model, output):
    from node_support import ksampler

    trained, _ = train(adn["ADN_TrainMotionModule"], model=model, steps=1, learning_rate=1e-30)
    still = apply(model, trained, beta_schedule="keep the model's own")
    torch.testing.assert_close(ksampler(still), ksampler(model), rtol=1e-4, atol=1e-4)


def train_and_interrupt(node: Any, **inputs: Any) -> None:
    """The user presses Interrupt after a step."""

    def press(done: int, *_others: Any, **_more: Any) -> None:
        if done == 1:
            comfy.model_management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(press)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(node, **inputs)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)


def test_an_interrupted_training_goes_on_where_it_was(lora_node, model, motion, output):
    inputs = {"model": model, "motion_module": motion, "seed": 1}
    whole, _, whole_losses = train(lora_node, **inputs)
    assert not list((output / "animatediff_training").iterdir())
    train_and_interrupt(lora_node, **inputs)
    assert len(list((output / "animatediff_training").glob("*.pt"))) == 1
    resumed, _, losses = train(lora_node, **inputs)
    assert losses == whole_losses
    assert patched(resumed).keys() and same(patched(resumed), patched(whole))
    assert not list((output / "animatediff_training").iterdir())


def patched(motion: Any) -> dict[str, Tensor]:
    return {
        key: torch.cat([w.flatten() for w in patches[0][1].weights[:2]])
        for key, patches in motion.patcher.patches.items()
    }


@pytest.mark.parametrize("layout", ["AnimateDiff", "MotionDirector", "diffusers"])
def test_a_saved_lora_means_the_same_in_every_layout(adn, lora_node, model, motion, output, monkeypatch, layout):
    altered, lora, _ = train(
        lora_node, model=model, motion_module=motion, alpha=2.0, rank=4, projections="attention and feed-forward"
    )
    adn["ADN_SaveMotionLora"].EXECUTE_NORMALIZED(lora, "animatediff_motion_lora/mine", layout)
    name = next((output / "animatediff_motion_lora").iterdir()).name
    extensions = folder_paths.folder_names_and_paths["animatediff_motion_lora"][1]
    folder = ([str(output / "animatediff_motion_lora")], extensions)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_motion_lora", folder)
    folder_paths.filename_list_cache.pop("animatediff_motion_lora", None)
    loaded = run(adn["ADN_LoadMotionLora"], motion_module=motion, motion_lora=name, strength=1.0)
    assert len(loaded.patcher.patches) == len(altered.patcher.patches) > 0
    assert same(patched(loaded), patched(altered))


MISFITS = {
    "takes frames of 4 channels": {"latents": [{"samples": torch.zeros(FRAMES, 16, 8, 8)}]},
    "Clip 2 has the shape": {"latents": [moving_square(), {"samples": torch.zeros(1, 4, FRAMES, 8, 8)}]},
    "Clip 1 holds NaN": {"latents": [{"samples": torch.full((FRAMES, 4, 8, 8), float("nan"))}]},
    "has 0 frames": {"latents": [{"samples": torch.zeros(0, 4, 8, 8)}]},
    "A prompt has 64 features": {"conditioning": [[[torch.ones(1, 77, 64), {}]]]},
}


@pytest.mark.parametrize("words", MISFITS)
def test_latents_and_prompts_of_another_checkpoint_are_refused(lora_node, model, motion, output, words):
    with pytest.raises(ValueError, match=rf"{words}[^\n]+\.$"):
        train(lora_node, model=model, motion_module=motion, **MISFITS[words])


def test_prompts_and_clips_have_to_match(lora_node, model, motion, output, monkeypatch):
    unloaded = []
    monkeypatch.setattr(comfy.model_management, "unload_all_models", lambda: unloaded.append(True))
    with pytest.raises(ValueError, match="2 prompts for 3 clips: give one, or one for every clip"):
        train(lora_node, model=model, motion_module=motion, latents=[moving_square()] * 3, conditioning=[prompt(5)] * 2)
    assert not unloaded, "other models stay loaded for an input that is wrong"


def test_clips_that_are_too_short_are_named(lora_node, model, motion, output):
    with pytest.raises(ValueError, match="the longest of 1 has 6 frames, fewer than the 11"):
        train(lora_node, model=model, motion_module=motion, stride=2)


def test_a_wrong_base_is_named(lora_node, motion, output):
    with pytest.raises(ValueError, match="use a checkpoint of the base it was made for"):
        train(lora_node, model=small_model_of(3), motion_module=motion)


def test_an_inpainting_checkpoint_is_refused(adn, output):
    with pytest.raises(ValueError, match="SDXL that is not for inpainting"):
        train(adn["ADN_TrainMotionModule"], model=make_model(LEVELS, in_channels=9))


def small_model_of(levels: int) -> Any:
    assert levels != LEVELS
    return make_model(levels)


def test_another_seed_or_prompt_is_another_training(lora_node, model, motion, output):
    first = train(lora_node, model=model, motion_module=motion)[2]
    assert train(lora_node, model=small_model(), motion_module=motion)[2] == first
    assert train(lora_node, model=model, motion_module=motion, seed=1)[2] != first
    assert train(lora_node, model=model, motion_module=motion, conditioning=[prompt(7)])[2] != first


@pytest.mark.parametrize(
    ("inputs", "logged"), [({}, True), ({"empty_prompt": [prompt(7)]}, False), ({"caption_dropout": 0.0}, False)]
)
def test_caption_dropout_without_an_empty_prompt_is_logged(lora_node, model, motion, output, inputs, logged, caplog):
    with caplog.at_level(logging.INFO):
        train(lora_node, model=model, motion_module=motion, steps=1, **inputs)
    sentence = "Train motion LoRA: caption_dropout 0.1 does nothing without an empty_prompt."
    assert [line for line in caplog.messages if "caption_dropout" in line] == [sentence] * logged


def sampled_as(model, prediction: str, zsnr: bool):
    return ModelSamplingDiscrete().patch(model, prediction, zsnr)[0]


@pytest.mark.parametrize("changed", ["clip", "prompt", "module", "model", "prediction", "noise"])
def test_an_interrupted_training_is_not_taken_up_with_another(changed, lora_node, model, motion, load_motion, output):
    changes = {
        "clip": {"latents": [{"samples": moving_square()["samples"].flip(0)}]},
        "prompt": {"conditioning": [prompt(6)]},
        "module": {"motion_module": load_motion("v2", seed=2)},
        "model": {"model": make_model(LEVELS, seed=2)},
        "prediction": {"model": sampled_as(model, "v_prediction", zsnr=False)},
        "noise": {"model": sampled_as(model, "eps", zsnr=True)},
    }
    inputs = {"model": model, "motion_module": motion, "seed": 1, "steps": 2}
    train_and_interrupt(lora_node, **inputs)
    _, _, losses = train(lora_node, **inputs | changes[changed])
    for state in (output / "animatediff_training").iterdir():
        state.unlink()
    _, _, fresh = train(lora_node, **inputs | changes[changed])
    assert losses == fresh
