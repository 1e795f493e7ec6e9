"""Translate keys between the original layout of AnimateDiff's files and the other layouts. Needs no ComfyUI.

The pack's own keys are the original ones, which are also the parameter paths of `MotionModel`. One table holds the
layouts of motion modules and one those of motion LoRAs; reading and writing use the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Entries that hold the weights of a file: the official trainer's, DeepSpeed's, SparseCtrl's and CameraCtrl's LoRA's.
WRAPPERS = ("state_dict", "module", "model", "controlnet", "lora_state_dict")
CAMERA_CTRL_PARTS = ("pose_encoder_state_dict", "attention_processor_state_dict")
PREFIXES = ("module.", "unet.", "model.")
LONGEST_KEY = 300  # characters; twice as many as those of any known file


class ModuleLayout(NamedTuple):
    """A layout of motion modules: where its keys differ from the original ones."""

    mark: str = ""
    """Pattern of a key that only files of this layout have."""
    rows: tuple[tuple[str, ...], ...] = ()
    """A part of this layout's key, then the original part: two parts if they share a tensor. `{n}` is a digit."""


ORIGINAL_KEYS = ModuleLayout()
HOTSHOT_KEYS = ModuleLayout(
    r"\.temporal_attentions\.",
    (
        (".temporal_attentions.{n}.", ".motion_modules.{n}.temporal_transformer."),
        (".pos_encoder.positional_encoding", ".pos_encoder.pe"),
    ),
)
DIFFUSERS_KEYS = ModuleLayout(
    r"\.motion_modules\.\d\.(transformer_blocks|proj_in)\.",
    (
        (".pos_embed.pe", ".attention_blocks.0.pos_encoder.pe", ".attention_blocks.1.pos_encoder.pe"),
        (".motion_modules.{n}.", ".motion_modules.{n}.temporal_transformer."),
        (".attn1.", ".attention_blocks.0."),
        (".attn2.", ".attention_blocks.1."),
        (".norm1.", ".norms.0."),
        (".norm2.", ".norms.1."),
        (".norm3.", ".ff_norm."),
    ),
)
OF_A_MODULE = re.compile(r"\.(motion_modules|temporal_attentions)\.\d\.")


class LoraLayout(NamedTuple):
    """A layout of motion LoRAs: its spelling of a layer and of the two matrices that change it."""

    up: str
    down: str
    layer: tuple[tuple[str, str], ...] = ()
    """Substitutions in the layer's path, one after the other."""
    module: ModuleLayout = ORIGINAL_KEYS
    prefix: str = ""


WITHOUT_INDEX = (r"\.to_out\.0$", ".to_out")
PROCESSOR = (r"\.(\w+)$", r".processor.\1")
LORA_LAYOUTS = {
    # ...attention_blocks.0.processor.to_out_lora.up.weight
    "AnimateDiff": LoraLayout("_lora.up.weight", "_lora.down.weight", (WITHOUT_INDEX, PROCESSOR)),
    # ...attention_blocks.0.to_out.processor.0_lora.up.weight
    "MotionDirector": LoraLayout("_lora.up.weight", "_lora.down.weight", (PROCESSOR,)),
    # unet...attn1.to_out.0.lora_B.weight, as PEFT names them
    "diffusers": LoraLayout(".lora_B.weight", ".lora_A.weight", module=DIFFUSERS_KEYS, prefix="unet."),
}
# More spellings of a layer's path, which are read but never written: `to_out` without its index, and kohya's.
READ_ONLY_SPELLINGS = ((WITHOUT_INDEX,), ((r"\.", "_"), (r"^", "lora_unet_")))

# Linear layers that a motion LoRA changes, by the end of their path in a motion model.
ATTENTION = r"\.to_(q|k|v|out\.0)$"
FEED_FORWARD = r"\.ff\.net\.(0\.proj|2)$"
PROJECTIONS = {"attention": ATTENTION, "attention and feed-forward": f"{ATTENTION}|{FEED_FORWARD}"}


def unwrap(loaded: Any) -> dict[str, Tensor]:
    """Return the plain tensors of a file without the dicts and prefixes that trainers wrap them in."""
    parts = [loaded.get(part) for part in CAMERA_CTRL_PARTS] if isinstance(loaded, Mapping) else []
    if any(isinstance(part, Mapping) for part in parts):
        loaded = {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}
    for _ in WRAPPERS:
        inner = (loaded.get(wrapper) for wrapper in WRAPPERS) if isinstance(loaded, Mapping) else ()
        loaded = next((content for content in inner if isinstance(content, Mapping)), loaded)
    if not isinstance(loaded, Mapping):
        return {}
    named = {key: value for key, value in loaded.items() if isinstance(key, str) and len(key) <= LONGEST_KEY}
    return {without_prefix(key): value for key, value in named.items() if is_plain(value)}


def is_plain(value: Any) -> bool:
    """Return whether something is a tensor whose numbers are in memory, each by itself."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_meta:
        return False
    return not (value.is_nested or value.is_quantized)


def without_prefix(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.partition(".")[2]
    return key


def module_layout(keys: Collection[str]) -> ModuleLayout:
    """Return the layout that the keys of a motion module or a motion LoRA follow."""
    layouts = (HOTSHOT_KEYS, DIFFUSERS_KEYS)
    return next((layout for layout in layouts if any(re.search(layout.mark, key) for key in keys)), ORIGINAL_KEYS)


def to_original(key: str, layout: ModuleLayout) -> set[str]:
    """Return the original keys for a layout's key: two if their tensor is shared; keys outside of modules stay."""
    keys = {key}
    for part, *originals in layout.rows if OF_A_MODULE.search(key) else ():
        keys = {replaced(key, part, original) for key in keys for original in originals}
    return keys


def from_original(key: str, layout: ModuleLayout) -> str:
    """Return a layout's key for an original key."""
    for part, *originals in layout.rows:
        for original in originals:
            key = replaced(key, original, part)
    return key


def replaced(key: str, old: str, new: str) -> str:
    """Return the key with one part replaced by another, where `{n}` stands for the same digit in both."""
    return re.sub(re.escape(old).replace(r"\{n\}", r"(\d)"), new.replace("{n}", r"\1"), key)


def lora_key(key: str, layout: str) -> str:
    """Return a layout's key for `<path in the motion model>.lora_up.weight` or `.lora_down.weight`."""
    spelling = LORA_LAYOUTS[layout]
    path, end = key.rsplit(".lora_", 1)
    path = from_original(substituted(path, spelling.layer), spelling.module)
    return spelling.prefix + path + (spelling.up if end.startswith("up") else spelling.down)


def layer_spellings(path: str) -> list[str]:
    """Return the names that LoRA files have for a layer once prefixes are off and keys are in the original layout."""
    spellings = (*(layout.layer for layout in LORA_LAYOUTS.values()), *READ_ONLY_SPELLINGS)
    return [substituted(path, substitutions) for substitutions in spellings]


def substituted(path: str, substitutions: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in substitutions:
        path = re.sub(pattern, replacement, path)
    return path
