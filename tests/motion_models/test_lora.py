"""Motion LoRAs in every spelling that they are published in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers_oracle as oracle
import pytest
import safetensors.torch
import torch
from comfy_support import CPU, animate, load_motion, make_model, motion_state_dict, sample
from torch import Tensor

from motion_models.lora import apply_motion_lora

RANK = 4
Change = dict[str, tuple[Tensor, Tensor]]  # layer of a motion model -> up, down


def change(family: str = "v2", feed_forward: bool = False, seed: int = 3) -> Change:
    """A random low-rank change of all attention layers of a family, and of the feed-forward ones if asked for."""
    generator = torch.Generator().manual_seed(seed)
    parts = (".to_", ".ff.net.") if feed_forward else (".to_",)
    shapes = {
        key.removesuffix(".weight"): tensor.shape
        for key, tensor in motion_state_dict(family).items()
        if key.endswith(".weight") and any(part in key for part in parts)
    }
    return {
        layer: (torch.randn(o, RANK, generator=generator) / o, torch.randn(RANK, i, generator=generator))
        for layer, (o, i) in shapes.items()
    }


def official(layer: str) -> tuple[str, str]:
    block, name = layer.removesuffix(".0").rsplit(".", 1)
    return f"{block}.processor.{name}_lora.up.weight", f"{block}.processor.{name}_lora.down.weight"


def motion_director(layer: str) -> tuple[str, str]:
    """Puts `processor` before the last part of any layer's name."""
    block, name = layer.rsplit(".", 1)
    return f"{block}.processor.{name}_lora.up.weight", f"{block}.processor.{name}_lora.down.weight"


def diffusers(layer: str) -> tuple[str, str]:
    block, name = oracle.rename(layer + ".").rstrip(".").removesuffix(".0").rsplit(".", 1)
    return f"unet.{block}.processor.{name}_lora.up.weight", f"unet.{block}.processor.{name}_lora.down.weight"


def peft(layer: str) -> tuple[str, str]:
    layer = oracle.rename(layer + ".").rstrip(".")
    return f"unet.{layer}.lora_B.weight", f"unet.{layer}.lora_A.weight"


SPELLINGS: dict[str, tuple[bool, Callable[[str], tuple[str, str]]]] = {
    "official": (False, official),
    "MotionDirector": (True, motion_director),
    "diffusers": (False, diffusers),
    "PEFT": (True, peft),
}


def write(file: Path, layers: Change, spelling: Callable[[str], tuple[str, str]], extra: dict | None = None) -> str:
    state_dict = {
        name: tensor for layer, pair in layers.items() for name, tensor in zip(spelling(layer), pair, strict=True)
    } | (extra or {})
    if file.suffix == ".ckpt":
        torch.save({"state_dict": state_dict, "animatediff_config": {}}, file)
    else:
        safetensors.torch.save_file(state_dict, file)
    return str(file)


def weights(motion: Any) -> dict[str, Tensor]:
    """The weights that ComfyUI computes from a motion model and the patches on it."""
    motion.patcher.patch_model(device_to=CPU)
    found = {key: tensor.clone() for key, tensor in motion.patcher.model.state_dict().items()}
    motion.patcher.unpatch_model()
    return found


def by_formula(family: str, layers: Change, strength: float) -> dict[str, Tensor]:
    expected = motion_state_dict(family)
    for layer, (up, down) in layers.items():
        expected[f"{layer}.weight"] = expected[f"{layer}.weight"] + strength * up @ down
    return expected


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("extension", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_equals_the_formula(spelling, extension, tmp_path):
    feed_forward, spell = SPELLINGS[spelling]
    layers = change(feed_forward=feed_forward)
    file = write(tmp_path / f"lora{extension}", layers, spell)
    motion = load_motion(tmp_path)
    assert_close(weights(apply_motion_lora(motion, file, 0.7)), by_formula("v2", layers, 0.7))
    assert_close(weights(motion), motion_state_dict("v2"))


def test_negative_strengths_and_chains_add_up(tmp_path):
    one, other = change(seed=3), change(seed=4)
    files = [write(tmp_path / f"{i}.safetensors", layers, official) for i, layers in enumerate((one, other))]
    motion = apply_motion_lora(apply_motion_lora(load_motion(tmp_path), files[0], -0.5), files[1], 2.0)
    expected = by_formula("v2", one, -0.5)
    for layer, (up, down) in other.items():
        expected[f"{layer}.weight"] = expected[f"{layer}.weight"] + 2.0 * up @ down
    assert_close(weights(motion), expected)


def test_alpha_scales_by_the_rank(tmp_path):
    layers = change()
    alphas = {official(layer)[0].replace("_lora.up.weight", ".alpha"): torch.tensor(1.0) for layer in layers}
    file = write(tmp_path / "lora.safetensors", layers, official, alphas)
    assert_close(weights(apply_motion_lora(load_motion(tmp_path), file, 1.0)), by_formula("v2", layers, 1 / RANK))


def test_a_clip_changes_and_is_bit_equal_again_without_the_lora(tmp_path):
    model, motion = make_model(), load_motion(tmp_path)
    altered = apply_motion_lora(motion, write(tmp_path / "lora.safetensors", change(), official), 1.0)
    before = sample(animate(model, motion))
    assert not torch.allclose(sample(animate(model, altered)), before, rtol=0.01, atol=0.01)
    assert torch.equal(sample(animate(model, motion)), before)


def test_strength_zero_is_bit_equal_to_none(tmp_path):
    motion = load_motion(tmp_path)
    untouched = apply_motion_lora(motion, write(tmp_path / "lora.safetensors", change(), official), 0.0)
    model = make_model()
    assert torch.equal(sample(animate(model, untouched)), sample(animate(model, motion)))


def test_a_v2_lora_on_a_module_without_middle_block_leaves_that_out(tmp_path, caplog):
    layers = change("v2")
    file = write(tmp_path / "lora.safetensors", layers, official)
    with caplog.at_level(logging.WARNING):
        altered = apply_motion_lora(load_motion(tmp_path, "v3"), file, 1.0)
    fitting = {layer: pair for layer, pair in layers.items() if not layer.startswith("mid_block")}
    assert_close(weights(altered), by_formula("v3", fitting, 1.0))
    left = 2 * (len(layers) - len(fitting))
    assert f"v3_1.safetensors has none: {left} of its {2 * len(layers)} keys are left out" in caplog.text


def test_keys_that_fit_nothing_are_counted(tmp_path, caplog):
    file = write(tmp_path / "lora.safetensors", change(), official, {"something.else": torch.zeros(2)})
    with caplog.at_level(logging.WARNING):
        apply_motion_lora(load_motion(tmp_path), file, 1.0)
    assert "1 of the " in caplog.text
    assert "something.else" in caplog.text


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora."
REFUSED: dict[str, Callable[[], dict[str, Tensor]]] = {
    "is no motion LoRA: choose": lambda: motion_state_dict("v2"),
    "use Load LoRA for this file": lambda: {
        ATTENTION + "up.weight": torch.zeros(32, 4), ATTENTION + "down.weight": torch.zeros(4, 32)
    },
    "fits no layer of v2_1.safetensors": lambda: {
        "down_blocks.9.motion_modules.0.temporal_transformer.to_q_lora.up.weight": torch.zeros(2, 2)
    },
    "is 16 x 32 instead of 32 x 32": lambda: dict(
        zip(official(next(iter(change()))), (torch.zeros(16, 4), torch.zeros(4, 32)), strict=True)
    ),
    "holds NaN": lambda: dict(
        zip(official(next(iter(change()))), (torch.full((32, 4), float("nan")), torch.zeros(4, 32)), strict=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_other_files_are_refused_in_one_sentence(words, tmp_path):
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(REFUSED[words](), file)
    with pytest.raises(ValueError) as error:
        apply_motion_lora(load_motion(tmp_path), str(file), 1.0)
    message = str(error.value)
    assert message.startswith("a.safetensors ")
    assert words in message
    assert "\n" not in message and message.endswith(".")
