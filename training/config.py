"""What a training is told, read from a TOML file. ValueError names the key that is wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .data import DataOptions
from .data.options import is_address
from .loop import FitOptions
from .lora import LoraOptions
from .motion import MotionOptions


@dataclass(frozen=True)
class SampleOptions:
    """[samples], clips rendered on the way with what is learned so far."""

    __pydantic_config__ = {"extra": "forbid"}
    every: int = 0
    """Steps between them; 0 for none."""
    prompts: tuple[str, ...] = ()
    negative: str = ""
    seed: int = 0
    steps: int = 20
    cfg: float = 7.5
    sampler: str = "euler_ancestral"
    scheduler: str = "normal"
    size: tuple[int, int] = (256, 256)
    """Width and height."""


@dataclass(frozen=True)
class Config:
    __pydantic_config__ = {"extra": "forbid"}
    train: Literal["motion module", "motion LoRA", "domain adapter"]
    checkpoint: Path
    """The image model, with its text encoder and VAE."""
    output: Path
    """Folder of the finished file, the state to go on from, and the samples."""
    data: DataOptions
    fit: FitOptions
    name: str = "motion"
    """Of the finished file."""
    motion_module: Path | None = None
    """What a motion LoRA alters, or a motion module goes on from; without one, a module starts from nothing."""
    positions: int = 32
    """Longest clip of a module that starts from nothing."""
    middle: bool = False
    """Whether it has a motion module in the middle block, as v2."""
    beta_schedule: Literal["family", "motion", "image"] = "family"
    """Of the noise in training. Another than the family's is there to see what it costs (v1 of the paper, table 2)."""
    loras: tuple[Path, ...] = ()
    """On the image model while motion is learned, such as a domain adapter."""
    vae: Path | None = None
    objective: MotionOptions = field(default_factory=MotionOptions)
    lora: LoraOptions = field(default_factory=LoraOptions)
    samples: SampleOptions = field(default_factory=SampleOptions)
    recompute: bool = True
    """Gradient checkpointing: a third more time, a fraction of the memory."""
    save_every: float = 60.0
    """Seconds between states to go on from."""
    custom_nodes: tuple[Path, ...] = ()
    """Packs without which ComfyUI cannot load the checkpoint."""


def read_config(file: Path) -> Config:
    """Paths in it are relative to its own folder. ValueError, in one line, for all that is wrong in it."""
    toml = toml_reader()
    try:
        table = toml.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}.") from error
    except toml.TOMLDecodeError as error:
        raise ValueError(f"{file} is no TOML: {error}.") from error
    return below(file.resolve().parent, check(table, file))


def toml_reader() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    try:
        import tomli  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError("Python 3.10 needs one more package to read this file: pip install .[training]") from error
    return tomli


def check(table: Mapping[str, Any], file: Path) -> Config:
    import pydantic

    try:
        return pydantic.TypeAdapter(Config).validate_python(table)
    except pydantic.ValidationError as errors:
        found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {sentence(each['msg'])}" for each in errors.errors())
        raise ValueError(f"{file}: {found}.") from None


def sentence(message: str) -> str:
    """A part of one: ours end with a full stop, and pydantic's begin with a capital letter."""
    message = message.removeprefix("Value error, ").removesuffix(".")
    return message[:1].lower() + message[1:]


def below(folder: Path, value: Any) -> Any:
    """A configuration whose relative paths start in `folder`."""
    if isinstance(value, DataOptions) and value.shards:
        shards = value.shards.split("::")  # as webdataset does
        value = replace(value, shards="::".join(each if is_address(each) else str(folder / each) for each in shards))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: below(folder, getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(below(folder, each) for each in value)
    return folder / value if isinstance(value, Path) else value
