"""Load Motion Module with files of all kinds: good ones load in every wrapping, others are refused in one sentence."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from comfy_support import motion_state_dict
from node_support import run

State = dict[str, torch.Tensor]
MODULE = "down_blocks.0.motion_modules.0.temporal_transformer."


def module(family: str = "v3") -> State:
    return motion_state_dict(family, channels=(32,))


def named(*keys: str) -> State:
    return {key: torch.ones(32, 32) for key in keys}


def save(content: dict, path: Path) -> None:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)


@pytest.fixture
def load(adn, motion_folder) -> Callable[[str], object]:
    return lambda name: run(adn["ADN_LoadMotionModule"], motion_module=name)


def refusal(load, name: str) -> str:
    """The error for a file: one sentence that names it."""
    with pytest.raises(ValueError) as refused:
        load(name)
    message = str(refused.value)
    assert name in message
    assert re.fullmatch(r"[^\n]+\.", message), message
    assert not re.search(r"[.!?] +[A-Z]", message), "more than one sentence: " + message
    return message


# Good files

WRAPPED = {
    "plain": lambda sd: sd,
    "state_dict": lambda sd: {"state_dict": sd},
    "trainer": lambda sd: {"epoch": 1, "global_step": 5, "state_dict": {f"module.{k}": v for k, v in sd.items()}},
    "deepspeed": lambda sd: {"module": {f"module.{k}": v for k, v in sd.items()}},
    "controlnet": lambda sd: {"controlnet": sd},
    "with a config": lambda sd: {"animatediff_config": {"unet_use_temporal_attention": False}, **sd},
    "unet prefix": lambda sd: {f"unet.{k}": v for k, v in sd.items()},
    "model prefix": lambda sd: {f"model.{k}": v for k, v in sd.items()},
}
FLAT = ("plain", "unet prefix", "model prefix")  # safetensors hold no nested dicts


@pytest.mark.parametrize(
    ("wrapping", "extension"),
    [*((wrapping, ".ckpt") for wrapping in WRAPPED), *((wrapping, ".safetensors") for wrapping in FLAT)],
)
def test_good_file_loads_in_every_wrapping(load, motion_folder, wrapping, extension):
    state_dict = module("v2")
    save(WRAPPED[wrapping](state_dict), motion_folder / f"good{extension}")
    loaded = load(f"good{extension}")
    assert loaded.name == f"good{extension}"
    assert loaded.family.name == "AnimateDiff v2"
    weights = loaded.patcher.model.state_dict()
    assert weights.keys() == state_dict.keys()
    assert all(torch.equal(weights[key], state_dict[key]) for key in state_dict)


# Files that are something else: the words with which they are refused

OTHERS: dict[str, tuple[str, Callable[[], dict]]] = {
    "kohya.safetensors": (
        "LoRA for the image model",
        lambda: named(*(f"lora_unet_mid_block_attentions_0_proj_in.lora_{end}.weight" for end in ("up", "down"))),
    ),
    "v3_adapter.ckpt": (
        "LoRA for the image model",
        lambda: named("down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"),
    ),
    "pan_left.ckpt": (
        "motion LoRA",
        lambda: {
            "animatediff_config": {},
            "state_dict": named(MODULE + "transformer_blocks.0.attention_blocks.0.processor.to_q_lora.down.weight"),
        },
    ),
    "sparsectrl.ckpt": (
        "SparseCtrl model",
        lambda: {"controlnet": module() | named("controlnet_cond_embedding.conv_in.weight", "conv_in.weight")},
    ),
    "checkpoint.safetensors": (
        "a checkpoint",
        lambda: named("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"),
    ),
    "vae.safetensors": ("a VAE", lambda: named("encoder.conv_in.weight", "decoder.conv_in.weight")),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_kind_of_file_is_refused_by_name(load, motion_folder, name):
    words, content = OTHERS[name]
    save(content(), motion_folder / name)
    assert words in refusal(load, name)


def test_missing_key_is_named(load, motion_folder):
    key = MODULE + "transformer_blocks.0.ff_norm.bias"
    save({k: v for k, v in module().items() if k != key}, motion_folder / "incomplete.safetensors")
    assert key in refusal(load, "incomplete.safetensors")


def test_nan_weight_is_named(load, motion_folder):
    broken = module()
    broken[MODULE + "proj_out.weight"][3, 3] = float("nan")
    save(broken, motion_folder / "nan.safetensors")
    assert MODULE + "proj_out.weight holds NaN" in refusal(load, "nan.safetensors")


# Files that are damaged


class Creates:
    """Pickled, this creates a file when it is loaded by a loader that runs what it reads."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGED: dict[str, Callable[[Path], object]] = {
    "truncated.safetensors": lambda path: (save(module(), path), cut_in_half(path)),
    "truncated.ckpt": lambda path: (save(module(), path), cut_in_half(path)),
    "random.safetensors": lambda path: path.write_bytes(os.urandom(10000)),
    "random.ckpt": lambda path: path.write_bytes(os.urandom(10000)),
    "empty.safetensors": lambda path: path.touch(),
    "empty.ckpt": lambda path: path.touch(),
    "text.ckpt": lambda path: path.write_text("<html>404 Not Found</html>"),
    "code.ckpt": lambda path: torch.save({**module(), "extra": Creates(path.parent / "marker")}, path),
    "raw_code.ckpt": lambda path: path.write_bytes(pickle.dumps(Creates(path.parent / "marker"), protocol=2)),
    "code_as.safetensors": lambda path: torch.save(Creates(path.parent / "marker"), path),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_file_is_refused_and_runs_nothing(load, motion_folder, name):
    DAMAGED[name](motion_folder / name)
    words = "holds more than weights" if name in ("code.ckpt", "raw_code.ckpt") else "is not a weights file"
    assert words in refusal(load, name)
    assert not (motion_folder / "marker").exists()
    save(module(), motion_folder / "good.safetensors")
    assert load("good.safetensors").family.name == "AnimateDiff v3"


def test_the_marker_appears_when_a_loader_runs_code(tmp_path):
    """The test above would see it."""
    DAMAGED["code.ckpt"](tmp_path / "code.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "code.ckpt", weights_only=True)
    assert not (tmp_path / "marker").exists()
    torch.load(tmp_path / "code.ckpt", weights_only=False)
    assert (tmp_path / "marker").exists()


def test_a_file_that_cannot_be_read_is_not_called_damaged(load, motion_folder, monkeypatch):
    save(module(), motion_folder / "locked.safetensors")

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("comfy.utils.load_torch_file", refuse)  # tests may run as root, whom no file refuses
    assert refusal(load, "locked.safetensors") == "locked.safetensors cannot be read: Permission denied."


@pytest.mark.parametrize("name", ["gone.safetensors", "folder", "../outside.safetensors"])
def test_what_is_no_file_of_the_folder_is_not_found(load, motion_folder, name):
    (motion_folder / "folder").mkdir()
    save(module(), motion_folder.parent / "outside.safetensors")
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        load(name)


def nested(levels: int) -> dict:
    content: dict = module()
    for _ in range(levels):
        content = {"module": content, "epoch": 1}
    return content


def of_itself() -> dict:
    content: dict = {"epoch": 1}
    content["module"] = content
    return content


def packed(path: Path) -> None:
    """A file of a few KB that unpacks to 40 MB, which torch would read."""
    save({"x": torch.zeros(10_000_000)}, path)
    entries = {entry.filename: zipfile.ZipFile(path).read(entry) for entry in zipfile.ZipFile(path).infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)


def with_weight(tensor: object, key: str = MODULE + "proj_out.weight") -> dict:
    return module() | {key: tensor}


PE = MODULE + "transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
WEIGHT = torch.ones(32, 32)
HOSTILE: dict[str, tuple[str, Callable[[], dict]]] = {
    "inflated": ("promises more weights than it holds", lambda: with_weight(torch.ones(1).expand(10**5, 10**5))),
    "long": ("promises more weights than it holds", lambda: with_weight(torch.ones(1).expand(1, 10**8, 32), PE)),
    "nested": ("not a motion module", lambda: nested(300)),
    "of itself": ("not a motion module", of_itself),
    "meta": (MODULE + "proj_out.weight is missing", lambda: with_weight(WEIGHT.to("meta"))),
    "sparse": (MODULE + "proj_out.weight is missing", lambda: with_weight(WEIGHT.to_sparse())),
    "quantised": (
        MODULE + "proj_out.weight is missing",
        lambda: with_weight(torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)),
    ),
    "ragged": (
        MODULE + "proj_out.weight is missing",
        lambda: with_weight(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
    ),
    "integer": (MODULE + "proj_out.weight holds int64 values", lambda: with_weight(WEIGHT.long())),
    "complex": (MODULE + "proj_out.weight holds complex64 values", lambda: with_weight(WEIGHT.to(torch.complex64))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_what_it_seems_is_refused(load, motion_folder, name):
    words, content = HOSTILE[name]
    save(content(), motion_folder / f"{name}.ckpt")
    assert words in refusal(load, f"{name}.ckpt")


def test_a_packed_file_is_refused_before_it_is_unpacked(load, motion_folder):
    packed(motion_folder / "packed.ckpt")
    assert "is not a weights file" in refusal(load, "packed.ckpt")


@pytest.mark.parametrize("key", [MODULE + "x" * 100_000, "module." * 15_000 + "x", 7, b"bytes"])
def test_a_key_that_no_module_has_does_not_matter(load, motion_folder, key):
    save(module() | {key: WEIGHT}, motion_folder / "keys.ckpt")
    assert load("keys.ckpt").family.name == "AnimateDiff v3"


@pytest.mark.parametrize("frames", ["9" * 5000, "0", "-1", "1e9", "٣", "99999"])
def test_a_number_of_trained_frames_that_cannot_be_is_ignored(load, motion_folder, frames):
    metadata = {"family": "AnimateDiff v3", "trained_frames": frames}
    safetensors.torch.save_file(module(), motion_folder / "frames.safetensors", metadata)
    assert load("frames.safetensors").family.trained_frames == 16


# The folder


def options(adn) -> list[str]:
    return adn["ADN_LoadMotionModule"].define_schema().inputs[0].options


def test_empty_folder_shows_one_entry_that_says_what_to_do(adn, load, motion_folder):
    assert len(options(adn)) == 1
    entry = options(adn)[0]
    assert "models/animatediff_models" in entry
    with pytest.raises(ValueError, match=re.escape(str(motion_folder))):
        load(entry)


def test_folder_lists_weights_files_alone(adn, motion_folder):
    for name in ("a.ckpt", "b.safetensors", "c.pt", "notes.txt", "preview.png"):
        (motion_folder / name).touch()
    assert options(adn) == ["a.ckpt", "b.safetensors", "c.pt"]


def test_a_choice_that_another_node_makes_is_not_loaded_again_every_time(adn):
    """ComfyUI asks for its fingerprint before it is known."""
    for node, name in (("ADN_LoadMotionModule", "motion_module"), ("ADN_LoadMotionLora", "motion_lora")):
        fingerprints = {adn[node].fingerprint_inputs(**{name: None}) for _ in range(2)}
        assert fingerprints == {""}


def test_replaced_file_is_loaded_again(adn, motion_folder):
    path, fingerprint = motion_folder / "a.safetensors", adn["ADN_LoadMotionModule"].fingerprint_inputs
    save(module(), path)
    first = fingerprint(motion_module="a.safetensors")
    assert fingerprint(motion_module="a.safetensors") == first
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert fingerprint(motion_module="a.safetensors") != first
    assert fingerprint(motion_module="gone.safetensors") != first
