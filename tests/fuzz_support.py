"""Hostile files: motion modules and LoRAs of every layout, with one or two faults at random places."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import diffusers_oracle
import lora_support
import safetensors.torch
import torch
from comfy_support import motion_state_dict
from picture_support import picture_weights
from torch import Tensor

from animatediff_native.motion_models.key_layouts import HOTSHOT_KEYS, from_original
from animatediff_native.motion_models.motion_model import MotionModelConfig

State = dict[Any, Any]
CHANNELS = (32,)


class Runs:
    """Makes a folder when a loader runs what it reads."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def long() -> State:
    return motion_state_dict(config=MotionModelConfig.for_unet(CHANNELS, mid=True, pe_length=64))


FAMILIES: dict[str, Callable[[], State]] = {
    **{name: partial(motion_state_dict, name, channels=CHANNELS) for name in ("v1", "v2", "v3")},
    "LongAnimateDiff": long,
    "AnimateLCM": lambda: {key: t for key, t in FAMILIES["v2"]().items() if "pos_encoder" not in key},
    "PIA": lambda: picture_weights("PIA", CHANNELS),
    "AnimateLCM-I2V": lambda: picture_weights("AnimateLCM-I2V", CHANNELS),
    "SDXL": lambda: motion_state_dict("v3", channels=(32, 32, 32)),
    "HotshotXL": lambda: {from_original(key, HOTSHOT_KEYS): t for key, t in FAMILIES["v3"]().items()},
    "diffusers": lambda: {diffusers_oracle.rename(key): t for key, t in FAMILIES["v2"]().items()},
}


@cache
def module(family: str) -> State:
    return FAMILIES[family]()


@cache
def layers() -> dict[str, torch.Size]:
    state_dict = motion_state_dict("v2", channels=CHANNELS)
    return {key.removesuffix(".weight"): t.shape for key, t in state_dict.items() if ".to_" in key and t.ndim == 2}


LORA_EXTRAS = {
    ".alpha": lambda o, i: torch.tensor(2.0),
    ".dora_scale": lambda o, i: torch.ones(o, 1),
    ".lora_mid.weight": lambda o, i: torch.eye(4)[..., None, None],
    ".reshape_weight": lambda o, i: torch.tensor([o, i]),
    ".diff": lambda o, i: torch.zeros(o, i),
}
OTHER_FORMS: dict[str, Callable[[int, int], State]] = {
    "LoHa": lambda o, i: {
        ".hada_w1_a": torch.ones(o, 4), ".hada_w1_b": torch.ones(4, i),
        ".hada_w2_a": torch.ones(o, 4) / 9, ".hada_w2_b": torch.ones(4, i) / 9,
    },
    "LoKr": lambda o, i: {
        ".lokr_w1": torch.ones(4, 4), ".lokr_w2_a": torch.ones(o // 4, 2), ".lokr_w2_b": torch.ones(2, i // 4),
    },
    "GLoRA": lambda o, i: {
        ".a1.weight": torch.ones(i, 4) / 99, ".a2.weight": torch.ones(4, i) / 99,
        ".b1.weight": torch.ones(o, 4) / 99, ".b2.weight": torch.ones(4, i) / 99,
    },
    "OFT": lambda o, i: {".oft_blocks": torch.ones(o // 8, 8, 8) / 9},
}  # fmt: skip


def lora(spelling: str) -> State:
    """A LoRA of a published spelling, or of another form beside a low-rank change of a layer."""
    if spelling in lora_support.SPELLINGS:
        spell = lora_support.SPELLINGS[spelling][1]
        return {
            key: t
            for layer, (o, i) in layers().items()
            for key, t in zip(spell(layer), (torch.ones(o, 4) / 9, torch.ones(4, i) / 9), strict=True)
        }
    first = next(iter(layers()))
    up, down = (f"{first}.lora_{end}.weight" for end in ("up", "down"))
    other = list(layers())[1]
    changes = {f"{other}{end}": t for end, t in OTHER_FORMS[spelling](*layers()[other]).items()}
    return {up: torch.ones(32, 4), down: torch.ones(4, 32), **changes}


TENSORS: dict[str, Callable[[Tensor, random.Random], Any]] = {
    "NaN": lambda t, r: torch.full_like(t, float("nan")),
    "infinite": lambda t, r: torch.full_like(t, float("inf")),
    "largest": lambda t, r: torch.full_like(t, 3e38),
    "integer": lambda t, r: t.to(r.choice([torch.int64, torch.int8, torch.bool])),
    "complex": lambda t, r: t.to(torch.complex64),
    "fp8": lambda t, r: t.to(torch.float8_e4m3fn),
    "double": lambda t, r: t.double(),
    "one number": lambda t, r: torch.tensor(1.0),
    "empty": lambda t, r: t.new_zeros(r.choice([(0,), (0, 32), (32, 0)])),
    "two numbers": lambda t, r: t.new_ones(2),
    "turned": lambda t, r: t.mT.contiguous() if t.ndim > 1 else t[None],
    "longer": lambda t, r: torch.cat([t, t]) if t.ndim else t.new_ones(9),
    "deeper": lambda t, r: t[..., None, None],
    "inflated": lambda t, r: torch.zeros(1).expand(*(r.choice([7, 10**5]) for _ in t.shape[:2]), 10**4),
    "huge": lambda t, r: torch.zeros(1).expand(10**6, *t.shape),
    "meta": lambda t, r: t.to("meta"),
    "sparse": lambda t, r: t.to_sparse(),
    "quantised": lambda t, r: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "nested": lambda t, r: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "text": lambda t, r: "a" * 1000,
    "list": lambda t, r: [t],
    "parameter": lambda t, r: torch.nn.Parameter(t.float()),
}


def is_small(value: Any) -> bool:
    """Whether something is a plain tensor of no more numbers than a file may hold."""
    plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    return plain and not value.is_quantized and not value.is_nested and value.numel() < 10**6


def damaged_state(state: State, rng: random.Random) -> tuple[str, State]:
    """Return a state dict with a fault, and the fault's name."""
    state, key = dict(state), rng.choice(list(state))
    fault = rng.choice([*TENSORS, "missing", "half", "renamed", "long key", "extra", "odd key", "deep index"])
    if fault in TENSORS:
        state[key] = TENSORS[fault](state[key], rng) if is_small(state[key]) else state[key]
    elif fault == "missing":
        del state[key]
    elif fault == "half":
        state = {k: t for k, t in state.items() if rng.random() < 0.5}
    elif fault == "renamed":
        at = rng.randrange(len(key))
        state[key[:at] + rng.choice(["", "9", ".", "é", "\n", "{n}", "lora"]) + key[at + 1 :]] = state.pop(key)
    elif fault == "long key":
        state[rng.choice([key * 1000, "module." * 15000 + key, "x" * 100_000])] = state[key]
    elif fault == "extra":
        end = rng.choice(list(LORA_EXTRAS))
        stem = key
        for tail in ("_lora.up.weight", ".lora_up.weight", ".lora_B.weight", ".weight"):
            stem = stem.removesuffix(tail)
        value = LORA_EXTRAS[end](32, 32)
        change = rng.choice([None, None, *TENSORS])
        state[stem + end] = TENSORS[change](value.float(), rng) if change else value
    elif fault == "odd key":
        state[rng.choice([7, None, ("a", "b"), b"bytes", ""])] = state[key]
    else:
        state[key.replace(".0.", ".9.", rng.choice([1, 9]))] = state.pop(key)
    return fault, state


def wrapped(state: State, rng: random.Random) -> Any:
    """Return the state dict in the dicts that trainers write, or in worse ones."""
    kind = rng.choice(["plain"] * 6 + ["state_dict", "deep", "self", "list", "tensor", "number"])
    if kind == "state_dict":
        return {"state_dict": state, "epoch": 3}
    if kind == "deep":
        inner: Any = state
        for _ in range(rng.choice([2, 7, 300])):
            inner = {rng.choice(["state_dict", "module", "model"]): inner, "x": 1}
        return inner
    if kind == "self":
        loop: dict[str, Any] = {}
        loop["module"] = loop["state_dict"] = loop
        return loop | {"module": loop}
    return {"plain": state, "list": list(state), "tensor": torch.ones(3), "number": 7}[kind]


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data)), rng.choice([1, 8, 100, 10_000])
    return rng.choice([
        lambda: data[:at],
        lambda: data[:at] + rng.randbytes(length) + data[at + length :],
        lambda: data[:at] + rng.randbytes(length) + data[at:],
        lambda: data[:at] + data[at + length :],
        lambda: bytes(8) + data[8:],
        lambda: data[: rng.randrange(200)] + rng.randbytes(4) + data[rng.randrange(200) :],
    ])()  # fmt: skip


METADATA = (None, {}, {"family": "AnimateDiff v2", "trained_frames": "9" * 5000}, {"family": "AnimateDiff v3",
            "trained_frames": "0"}, {"family": "x" * 1000, "trained_frames": "-1"}, {"family": "HotshotXL"},
            {"family": "PIA"}, {"family": "AnimateDiff v1", "trained_frames": "٣"})  # fmt: skip


def write_hostile(folder: Path, state: State, rng: random.Random) -> tuple[Path, str]:
    """Write a file with faults and return it with a description of them."""
    faults = []
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        if state:
            fault, state = damaged_state(state, rng)
            faults.append(fault)
    file = folder / f"hostile{rng.choice(['.safetensors', '.ckpt', '.pt'])}"
    if file.suffix == ".safetensors":
        plain = {str(key): t.detach().clone().contiguous() for key, t in state.items() if is_small(t)}
        safetensors.torch.save_file(plain, file, rng.choice(METADATA))
    elif rng.random() < 0.05:
        faults.append("code")
        file.write_bytes(pickle.dumps({**state, "code": Runs(folder / "marker")}, protocol=2))
    else:
        old = rng.random() < 0.2 and not {"nested", "sparse"} & set(faults)
        torch.save(wrapped(state, rng), file, _use_new_zipfile_serialization=not old)
    if rng.random() < 0.25:
        faults.append("bytes")
        file.write_bytes(damaged_bytes(file.read_bytes(), rng))
    return file, " and ".join(faults)


def save_module(file: Path) -> None:
    safetensors.torch.save_file(module("v2"), file)
