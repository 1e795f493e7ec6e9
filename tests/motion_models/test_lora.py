"""Motion LoRAs in every spelling that they are published in."""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import lora_support
import pytest
import safetensors.torch
import torch
from comfy_support import CPU, animate, load_motion, make_model, motion_state_dict, sample
from lora_support import RANK, SPELLINGS, Change, official, weights, write
from node_support import CHANNELS, LEVELS
from torch import Tensor

from animatediff_native.motion_models.loader import LoadedMotionModel
from animatediff_native.motion_models.lora import apply_motion_lora

core_nodes: Any = importlib.import_module("nodes")  # ComfyUI's nodes.py; type checkers would see the pack's own folder


def load(folder: Path, family: str = "v2") -> LoadedMotionModel:
    return load_motion(folder, family, channels=CHANNELS)


change = partial(lora_support.change, channels=CHANNELS)


def by_formula(family: str, layers: Change, strength: float) -> dict[str, Tensor]:
    expected = motion_state_dict(family, channels=CHANNELS)
    for layer, (up, down) in layers.items():
        expected[f"{layer}.weight"] = expected[f"{layer}.weight"] + strength * up @ down
    return expected


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(actual[key], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("extension", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_equals_the_formula(spelling, extension, tmp_path):
    feed_forward, spell = SPELLINGS[spelling]
    layers = change(feed_forward=feed_forward)
    file = write(tmp_path / f"lora{extension}", layers, spell)
    motion = load(tmp_path)
    assert_close(weights(apply_motion_lora(motion, file, 0.7)), by_formula("v2", layers, 0.7))
    assert_close(weights(motion), motion_state_dict("v2", channels=CHANNELS))


def test_negative_strengths_and_chains_add_up(tmp_path):
    one, other = change(seed=3), change(seed=4)
    files = [write(tmp_path / f"{i}.safetensors", layers, official) for i, layers in enumerate((one, other))]
    motion = apply_motion_lora(apply_motion_lora(load(tmp_path), files[0], -0.5), files[1], 2.0)
    expected = by_formula("v2", one, -0.5)
    for layer, (up, down) in other.items():
        expected[f"{layer}.weight"] = expected[f"{layer}.weight"] + 2.0 * up @ down
    assert_close(weights(motion), expected)


def test_alpha_scales_by_the_rank(tmp_path):
    layers = change()
    alphas = {official(layer)[0].replace("_lora.up.weight", ".alpha"): torch.tensor(1.0) for layer in layers}
    file = write(tmp_path / "lora.safetensors", layers, official, alphas)
    assert_close(weights(apply_motion_lora(load(tmp_path), file, 1.0)), by_formula("v2", layers, 1 / RANK))


def test_a_clip_changes_and_is_bit_equal_again_without_the_lora(tmp_path):
    model, motion = make_model(LEVELS), load(tmp_path)
    altered = apply_motion_lora(motion, write(tmp_path / "lora.safetensors", change(), official), 1.0)
    before = sample(animate(model, motion))
    assert not torch.allclose(sample(animate(model, altered)), before, rtol=0.01, atol=0.01)
    assert torch.equal(sample(animate(model, motion)), before)


def test_strength_zero_is_bit_equal_to_none(tmp_path):
    motion = load(tmp_path)
    untouched = apply_motion_lora(motion, write(tmp_path / "lora.safetensors", change(), official), 0.0)
    model = make_model(LEVELS)
    assert torch.equal(sample(animate(model, untouched)), sample(animate(model, motion)))


@pytest.mark.parametrize("strengths", [(0.7, -0.7), (0.5, 0.25, -0.75)])
def test_a_lora_and_its_opposite_are_bit_equal_to_none(tmp_path, strengths):
    """Also with another one between them."""
    file, other = (write(tmp_path / f"{i}.safetensors", change(seed=i), official) for i in (3, 4))
    motion = load(tmp_path)
    changed = motion
    for strength in strengths:
        changed = apply_motion_lora(changed, file, strength)
    model = make_model(LEVELS)
    assert torch.equal(sample(animate(model, changed)), sample(animate(model, motion)))
    both = apply_motion_lora(apply_motion_lora(apply_motion_lora(motion, file, 0.7), other, 1.0), file, -0.7)
    alone = apply_motion_lora(motion, other, 1.0)
    assert torch.equal(sample(animate(model, both)), sample(animate(model, alone)))


def test_the_v3_domain_adapter_goes_through_comfyuis_load_lora(tmp_path, monkeypatch):
    """It alters the spatial attention of the image model, in the spelling of the official file."""
    model = make_model(levels=4)
    before = {key: tensor.clone() for key, tensor in model.model.state_dict().items()}
    layers = {
        name.removesuffix(".weight").removesuffix(".0"): f"diffusion_model.{key}"
        for name, key in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items()
        if re.search(r"attn[12]\.to_(q|k|v|out\.0)\.weight$", name)
    }
    generator, adapter, expected = torch.Generator().manual_seed(3), {}, {}
    for name, key in layers.items():
        o, i = before[key].shape
        up, down = torch.randn(o, 2, generator=generator) / o, torch.randn(2, i, generator=generator)
        spelled = name.replace(".to_", ".processor.to_")
        adapter |= {f"{spelled}_lora.up.weight": up, f"{spelled}_lora.down.weight": down}
        expected[key] = before[key] + 0.8 * up @ down
    torch.save({"state_dict": adapter}, tmp_path / "v3_sd15_adapter.ckpt")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".ckpt"}))
    adapted = core_nodes.LoraLoaderModelOnly().load_lora_model_only(model, "v3_sd15_adapter.ckpt", 0.8)[0]
    adapted.patch_model(device_to=CPU)
    assert len(expected) == 2 * 4 * 16  # both attentions of all transformer blocks
    for key, tensor in adapted.model.state_dict().items():
        torch.testing.assert_close(tensor, expected.get(key, before[key]), rtol=1e-5, atol=1e-6)
    adapted.unpatch_model()


def test_a_v2_lora_on_a_module_without_middle_block_leaves_that_out(tmp_path, caplog):
    layers = change("v2")
    file = write(tmp_path / "lora.safetensors", layers, official)
    with caplog.at_level(logging.WARNING):
        altered = apply_motion_lora(load(tmp_path, "v3"), file, 1.0)
    fitting = {layer: pair for layer, pair in layers.items() if not layer.startswith("mid_block")}
    assert_close(weights(altered), by_formula("v3", fitting, 1.0))
    left = 2 * (len(layers) - len(fitting))
    assert f"v3_1.safetensors has none: {left} of its {2 * len(layers)} keys are left out" in caplog.text


def test_changes_that_are_no_low_rank_ones_are_left_out_and_counted(tmp_path, caplog):
    """Some trainers put whole differences and biases beside them."""
    layer = next(iter(change()))
    extra = {f"{layer}.diff": torch.zeros(2, 2), f"{layer}.diff_b": torch.zeros(2)}
    with caplog.at_level(logging.WARNING):
        motion = apply_motion_lora(load(tmp_path), write(tmp_path / "l.safetensors", change(), official, extra), 1.0)
    assert "2 of the" in caplog.text
    assert torch.isfinite(sample(animate(make_model(LEVELS), motion))).all()


def test_a_lora_stored_in_fp8_loads(tmp_path):
    small = {
        layer: (up.to(torch.float8_e4m3fn), down.to(torch.float8_e4m3fn)) for layer, (up, down) in change().items()
    }
    motion = apply_motion_lora(load(tmp_path), write(tmp_path / "l.safetensors", small, official), 1.0)
    assert torch.isfinite(sample(animate(make_model(LEVELS), motion))).all()


def test_keys_that_fit_nothing_are_counted(tmp_path, caplog):
    file = write(tmp_path / "lora.safetensors", change(), official, {"something.else": torch.zeros(2)})
    with caplog.at_level(logging.WARNING):
        apply_motion_lora(load(tmp_path), file, 1.0)
    assert "1 of the " in caplog.text
    assert "something.else" in caplog.text


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora."
REFUSED: dict[str, Callable[[], dict[str, Tensor]]] = {
    "is not a motion LoRA: choose": lambda: motion_state_dict("v2", channels=CHANNELS),
    "use Load LoRA for this file": lambda: {
        ATTENTION + "up.weight": torch.zeros(32, 4), ATTENTION + "down.weight": torch.zeros(4, 32)
    },
    "fits no layer of v2_1.safetensors": lambda: {
        "down_blocks.9.motion_modules.0.temporal_transformer.to_q_lora.up.weight": torch.zeros(2, 2)
    },
    "_lora.up.weight is 16 x 4: choose": lambda: dict(
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
        apply_motion_lora(load(tmp_path), str(file), 1.0)
    message = str(error.value)
    assert message.startswith("a.safetensors ")
    assert words in message
    assert "\n" not in message and message.endswith(".")


LAYER = next(iter(change()))
UP, DOWN = f"{LAYER}.lora_up.weight", f"{LAYER}.lora_down.weight"
PLAIN = {UP: torch.ones(32, 4), DOWN: torch.ones(4, 32)}
OTHER_FORMS: dict[str, dict[str, Tensor]] = {
    "LoHa": {"hada_w1_a": torch.ones(32, 4), "hada_w1_b": torch.ones(4, 32), "hada_w2_a": torch.ones(32, 2),
             "hada_w2_b": torch.ones(2, 32)},
    "LoKr": {"lokr_w1": torch.ones(4, 8), "lokr_w2_a": torch.ones(8, 2), "lokr_w2_b": torch.ones(2, 4)},
    "GLoRA": {"a1.weight": torch.ones(32, 4), "a2.weight": torch.ones(4, 32), "b1.weight": torch.ones(32, 4),
              "b2.weight": torch.ones(4, 32)},
    "OFT": {"oft_blocks": torch.rand(4, 8, 8)},
    "DoRA": {"lora_up.weight": torch.ones(32, 4), "lora_down.weight": torch.ones(4, 32),
             "dora_scale": torch.ones(32, 1)},
}  # fmt: skip
NAN = float("nan")
# A change of one of these, and the key and the words with which it is refused.
FAULTS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "NaN alpha": ({".alpha": torch.tensor(NAN)}, ".alpha holds NaN"),
    "no alpha": ({".alpha": torch.zeros(0)}, ".alpha is 0"),
    "two alphas": ({".alpha": torch.ones(2)}, ".alpha is 2"),
    "complex alpha": ({".alpha": torch.ones((), dtype=torch.complex64)}, ".alpha holds complex64 values"),
    "NaN scale": ({".dora_scale": torch.full((32, 1), NAN)}, ".dora_scale holds NaN"),
    "NaN mid": ({".lora_mid.weight": torch.full((4, 4, 1, 1), NAN)}, ".lora_mid.weight holds NaN"),
    "flat mid": ({".lora_mid.weight": torch.ones(4, 4)}, ".lora_mid.weight is 4 x 4"),
    "reshape": ({".reshape_weight": torch.tensor([10**6, 10**7])}, ".reshape_weight is 2"),
    "no down": ({".lora_down.weight": None}, ".lora_down.weight is missing"),
    "no up": ({".lora_up.weight": None}, ".lora_up.weight is missing"),
    "rank 0": ({".lora_up.weight": torch.ones(32, 0)}, ".lora_up.weight is 32 x 0"),
    "one number": ({".lora_up.weight": torch.tensor(1.0)}, ".lora_up.weight is one number"),
    "integers": ({".lora_up.weight": torch.ones(32, 4, dtype=torch.int8)}, ".lora_up.weight holds int8 values"),
    "infinite": ({".lora_down.weight": torch.full((4, 32), float("inf"))}, ".lora_down.weight holds NaN or infinite"),
    "ranks differ": ({".lora_down.weight": torch.ones(5, 32)}, ".lora_down.weight is 5 x 32"),
}  # fmt: skip


def refused(motion: Any, lora: dict[str, Any], file: Any) -> str:
    torch.save(lora, file)
    with pytest.raises(ValueError, match=rf"^{file.name} (is a damaged motion LoRA, |does not fit )[^\n]+\.$") as error:
        apply_motion_lora(motion, str(file), 1.0)
    return str(error.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_tensor_that_is_used_is_checked(fault, tmp_path):
    tensors, words = FAULTS[fault]
    lora = PLAIN | {LAYER + end: tensor for end, tensor in tensors.items()}
    message = refused(load(tmp_path), {key: t for key, t in lora.items() if t is not None}, tmp_path / "a.ckpt")
    assert LAYER + words in message


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_other_forms_of_changes_apply_and_are_checked_as_well(form, tmp_path):
    """Each of their tensors once of NaN, once of another shape, and once missing."""
    other = list(change())[1]
    motion, form = load(tmp_path), {f"{other}.{end}": t for end, t in OTHER_FORMS[form].items()}
    torch.save(PLAIN | form, tmp_path / "good.ckpt")
    altered = weights(apply_motion_lora(motion, str(tmp_path / "good.ckpt"), 1.0))
    assert altered[f"{other}.weight"].isfinite().all()
    assert not torch.equal(altered[f"{other}.weight"], weights(motion)[f"{other}.weight"])
    for key, tensor in form.items():
        for wrong in (torch.full_like(tensor, NAN), torch.cat([tensor, tensor]), tensor[None]):
            assert key.rpartition(".")[0] in refused(motion, PLAIN | form | {key: wrong}, tmp_path / "a.ckpt")
        if not key.endswith(("dora_scale", "oft_blocks")):
            rest = {k: t for k, t in form.items() if k != key}
            assert f"{key} is missing" in refused(motion, PLAIN | rest, tmp_path / "a.ckpt")


def test_a_file_that_is_overwritten_or_cut_while_it_is_used_changes_nothing(tmp_path):
    file = tmp_path / "lora.safetensors"
    motion = apply_motion_lora(load(tmp_path), write(file, change(), official), 1.0)
    expected = weights(motion)
    with file.open("r+b") as stream:
        stream.write(bytes(file.stat().st_size))
    assert_close(weights(motion), expected)
    os.truncate(file, 10)  # a map of the file would end the process now
    assert_close(weights(motion), expected)
