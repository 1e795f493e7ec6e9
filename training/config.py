"""The configuration of a training, read from a TOML file. ValueError names the key that is wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import reduce
from math import inf
from pathlib import Path
from typing import Any, Literal

from ..sampling.timeline import cut
from .data import DataOptions
from .data.options import is_address
from .diffusion import TIMESTEPS
from .loop import FitOptions
from .lora import LoraOptions
from .motion import MotionOptions
from .sparse_ctrl import SparseCtrlOptions

LORAS = ("motion LoRA", "domain adapter")
"""Trainings of a LoRA."""

LIMITS: dict[str, tuple[float, float]] = {
    "positions": (1, 4096),
    "save_every": (0, 1e9),
    "data.frames": (1, 4096),
    "data.stride": (1, 1e6),
    "data.size": (8, 16384),
    "data.amount": (0, 1),
    "data.variants": (1, 1e6),
    "fit.steps": (1, 1e9),
    "fit.learning_rate": (1e-12, 1),
    "fit.weight_decay": (0, 1e6),
    "fit.warmup": (0, 1e9),
    "fit.clip": (0, inf),
    "fit.average": (0, 1),
    "objective.batch": (1, 4096),
    "objective.accumulate": (1, 1e6),
    "objective.seed": (0, 1e12),
    "objective.least": (0, 1e6),
    "objective.first_timestep": (0, TIMESTEPS - 1),
    "objective.noise_offset": (0, 1),
    "objective.from_noise": (0, 1),
    "objective.caption_dropout": (0, 1),
    "lora.rank": (1, 4096),
    "lora.alpha": (0, 1e6),
    "sparse_ctrl.keyframes": (1, 4096),
    "samples.every": (0, 1e9),
    "samples.seed": (0, 2**64 - 1),
    "samples.steps": (1, 10_000),
    "samples.cfg": (0, 100),
    "samples.size": (8, 16384),
}
"""The smallest and largest number of keys. NaN is in none of these ranges."""


@dataclass(frozen=True)
class SampleOptions:
    """[samples] of a configuration: clips rendered on the way with what is learned so far."""

    __pydantic_config__ = {"extra": "forbid"}
    every: int = 0
    """Steps between samples; 0 for none on the way."""
    prompts: tuple[str, ...] = ()
    negative: str = ""
    seed: int = 0
    steps: int = 20
    cfg: float = 7.5
    sampler: str = "euler_ancestral"
    scheduler: str = "normal"
    size: tuple[int, int] = (256, 256)
    """Width and height."""
    keyframes: tuple[Path, ...] = ()
    """Pictures that a SparseCtrl or PIA sees in its samples."""
    keyframe_positions: str = ""
    """Their frames, as Keyframe Images reads them, such as "0, -1"; empty spreads them evenly."""


@dataclass(frozen=True)
class Config:
    """A configuration, whose nested options are its tables."""

    __pydantic_config__ = {"extra": "forbid"}
    train: Literal["motion module", "motion LoRA", "domain adapter", "SparseCtrl"]
    checkpoint: Path
    """The image model, with its text encoder and VAE."""
    output: Path
    """Folder of the finished file, the state to resume from, and the samples."""
    data: DataOptions
    fit: FitOptions
    name: str = "motion"
    """Name of the finished file."""
    motion_module: Path | None = None
    """Motion module that a motion LoRA alters, that is fine-tuned, or that moves the clips of a SparseCtrl; without
    one, a module starts from scratch."""
    positions: int = 32
    """Frames of the longest clip of a module that starts from scratch."""
    pictures: bool = False
    """Whether a motion module learns PIA's picture input, with which a clip can start from a picture."""
    middle: bool = False
    """Whether a module that starts from scratch has motion modules in the middle block, as v2 has."""
    beta_schedule: Literal["family", "motion", "image"] = "family"
    """Noise schedule. Others than the family's show what a wrong one costs (arXiv 2307.04725v1, table 2)."""
    loras: tuple[Path, ...] = ()
    """LoRAs on the image model while motion is learned, such as a domain adapter."""
    vae: Path | None = None
    """VAE instead of the checkpoint's."""
    objective: MotionOptions = field(default_factory=MotionOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)
    sparse_ctrl: SparseCtrlOptions = field(default_factory=SparseCtrlOptions)
    samples: SampleOptions = field(default_factory=SampleOptions)
    recompute: bool = True
    """Gradient checkpointing: a third more time, a fraction of the memory."""
    save_every: float = 60.0
    """Seconds between states to resume from."""
    custom_nodes: tuple[Path, ...] = ()
    """Node packs without which ComfyUI cannot load the checkpoint. Their code runs: name only those you trust."""


def read_config(file: Path) -> Config:
    """Return a configuration, whose relative paths start in the folder of the file.

    ValueError, in one line, for all that is wrong in the file.
    """
    toml = toml_reader()
    try:
        table = toml.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not TOML: {error}.") from error
    config = check(table, file)
    for reason, keys in idle_keys(config, table).items():
        logging.info(f"{file.name}: {', '.join(keys)} {'does' if len(keys) == 1 else 'do'} nothing {reason}.")
    return in_folder(file.resolve().parent, config)


def idle_keys(config: Config, table: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the keys that are set in a table and do nothing in its training, by the reason."""
    task, data = config.train, config.data
    candidates = {
        f'with train = "{task}"': {
            "lora": task not in LORAS,
            "sparse_ctrl": task != "SparseCtrl",
            "pictures": task != "motion module",
            "beta_schedule": task == "domain adapter",
            "samples.keyframes": task in LORAS,
        },
        "unless a motion module starts from scratch": dict.fromkeys(
            ("positions", "middle"), task != "motion module" or config.motion_module is not None
        ),
        "without data.camera_motion": dict.fromkeys(("data.amount", "data.variants"), not data.camera_motion),
        "with data.shards": dict.fromkeys(("data.captions", "data.cache"), bool(data.shards)),
        "with data.frames = 1": {"data.stride": data.frames == 1},
    }
    tables = {"": table, **{f"{name}.": table.get(name, {}) for name in ("data", "samples")}}
    present = {prefix + key for prefix, inner in tables.items() for key in inner}
    idle = {reason: [key for key in keys if keys[key] and key in present] for reason, keys in candidates.items()}
    return {reason: keys for reason, keys in idle.items() if keys}


def toml_reader() -> Any:
    """Return the module that reads TOML. ValueError if Python is too old to have it."""
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    try:
        import tomli  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError("Python 3.10 needs one more package to read this file: pip install .[training]") from error
    return tomli


def check(table: Mapping[str, Any], file: Path) -> Config:
    """Return the configuration of a table. ValueError names every key that is wrong."""
    import pydantic

    def refused(clauses: Iterable[str]) -> ValueError:
        return ValueError(f"{file}: {'; '.join(clauses)}.")

    try:
        config = pydantic.TypeAdapter(Config).validate_python(table)
    except pydantic.ValidationError as errors:
        raise refused(
            f"{'.'.join(map(str, error['loc']))}: {clause(error['msg'])}" for error in errors.errors()
        ) from None
    if wrong := list(out_of_range(config)):
        raise refused(wrong)
    return config


def out_of_range(config: Config) -> Iterator[str]:
    """Yield a clause for each number that is not within LIMITS."""
    for key, (low, high) in LIMITS.items():
        numbers: Any = reduce(getattr, key.split("."), config)
        if not all(low <= number <= high for number in (numbers if isinstance(numbers, tuple) else (numbers,))):
            yield f"{key}: {cut(str(numbers))} is not from {low:g} to {high:g}"


def clause(message: str) -> str:
    """Return a message as part of a sentence: ours end with a full stop, pydantic's begin with a capital letter."""
    message = message.removeprefix("Value error, ").removesuffix(".")
    return message[:1].lower() + message[1:]


def in_folder(folder: Path, value: Any) -> Any:
    """Return a configuration, or a value of it, whose relative paths start in `folder`."""
    if isinstance(value, DataOptions) and value.shards:
        shards = (shard if is_address(shard) else (folder / shard).as_posix() for shard in value.shards.split("::"))
        value = replace(value, shards="::".join(shards))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: in_folder(folder, getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(in_folder(folder, inner) for inner in value)
    return folder / value if isinstance(value, Path) else value
