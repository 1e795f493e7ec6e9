"""Recognise what a motion-model file holds: its family, its configuration, and its weights. Needs no ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .key_layouts import HOTSHOT_KEYS, ORIGINAL_KEYS, module_layout, to_original, unwrap
from .motion_model import MotionModel, MotionModelConfig, sinusoids
from .picture_inputs import LCM_ENCODER, PIA_CONV

FRAMES = re.compile(r"[1-9][0-9]{0,3}")
LONGEST_ENCODING = 4096  # positions
# One digit per index: real files need no more, and a hostile one cannot ask for a million layers.
MOTION_KEY = re.compile(r"(down_blocks\.\d|up_blocks\.\d|mid_block)\.motion_modules\.\d\.temporal_transformer\.")


@dataclass(frozen=True)
class Family:
    """A kind of motion model, and what follows from how it was trained."""

    name: str
    base: str = "Stable Diffusion 1.5"
    beta_schedule: str = "AnimateDiff SD1.5"
    unet_norms_over_frames: bool = False
    """Whether the norms of the UNet's ResBlocks and its last norm take their statistics over all frames."""
    norm_over_frames: bool = False
    """Whether the motion module's own norm does so."""
    pe_length: int = 32
    """Length of the positional encoding, for files that hold none."""
    picture_input: str = ""
    """The part that sees pictures, a key of `PICTURE_INPUTS`."""
    trained_frames: int = 16
    """Frames in the clips of its training: later positions were never trained."""
    hint: str = ""
    """Settings that the authors recommend, for the log."""


@dataclass(frozen=True)
class MotionFile:
    """The content of a motion-model file; `state_dict` has exactly the keys that `config` needs."""

    family: Family
    config: MotionModelConfig
    state_dict: dict[str, Tensor]


class Keys:
    """A file's weights under the original keys, and the properties by which its kind is recognised."""

    def __init__(self, state_dict: Mapping[str, Tensor]):
        self.layout = module_layout(state_dict)
        """The layout in which the file was published."""
        self.state_dict = {key: t for name, t in state_dict.items() for key in to_original(name, self.layout)}
        self.motion = self.has(r"motion_modules|temporal_transformer|temporal_attentions")
        self.mid = self.has(r"mid_block\.motion_modules\.")
        levels = (re.match(r"down_blocks\.(\d+)\.motion_mod", key) for key in self.state_dict)
        self.levels = len({level[1] for level in levels if level})
        encodings = (t for key, t in self.state_dict.items() if MOTION_KEY.match(key) and is_pe(key) and t.ndim == 3)
        self.pe_length = next((t.shape[1] for t in encodings), 0)

    def has(self, pattern: str) -> bool:
        return any(re.search(pattern, key) for key in self.state_dict)

    def is_pia(self) -> bool:
        conv_in = self.state_dict.get("conv_in.weight")
        return conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] == 9


V1 = Family("AnimateDiff v1", unet_norms_over_frames=True)
V2 = Family("AnimateDiff v2")
V3 = Family("AnimateDiff v3")
LONG = Family("LongAnimateDiff", trained_frames=64, hint="motion scale 1.28")
LCM = Family("AnimateLCM", beta_schedule="LCM", pe_length=64, hint="6 steps, cfg 1.5, sampler lcm, its LoRA at 0.8")
PIA = Family("PIA", unet_norms_over_frames=True, picture_input=PIA_CONV)
LCM_I2V = Family(
    "AnimateLCM-I2V",
    beta_schedule="AnimateLCM-I2V",
    picture_input=LCM_ENCODER,
    pe_length=64,
    hint="2 to 4 steps, cfg 1, sampler lcm, its LoRA at 0.8",
)
SDXL = Family(
    "AnimateDiff-SDXL", base="SDXL", beta_schedule="AnimateDiff SDXL", norm_over_frames=True, hint="16 frames, cfg 8.5"
)
HOTSHOT = Family(
    "HotshotXL",
    base="SDXL",
    beta_schedule="Stable Diffusion",
    unet_norms_over_frames=True,
    trained_frames=8,
    hint="8 frames",
)

FAMILIES = {family.name: family for family in (V1, V2, V3, LONG, LCM, PIA, LCM_I2V, SDXL, HOTSHOT)}

# Settings recommended for files that are v2 by their weights and can only be told apart by their names.
HINTS_BY_NAME = (
    (r"lightning_(\d)step", r"\1 steps, cfg 1, sampler euler, scheduler sgm_uniform"),
    (r"lt_long_mm_32", "motion scale 1.15"),
)

CHOOSE = "choose an AnimateDiff motion module, such as v3_sd15_mm.ckpt"
NOT_YET = f"which is not supported yet: {CHOOSE}"
AGAIN = "download it again"
OTHER_NODE = f"not a motion module: {CHOOSE}; for this file use"
SPARSE_CTRL = f"a SparseCtrl model, {OTHER_NODE} Load SparseCtrl"
CAMERA_CTRL = f"a CameraCtrl file, {OTHER_NODE} Load CameraCtrl"

# The first row whose test holds gives the file's family, or ends the sentence "<file> is ..." that refuses it.
# Files with a motion module and something else come before plain modules; files without one come last.
TABLE: tuple[tuple[Callable[[Keys], bool], Family | str], ...] = (
    (lambda k: k.motion and k.has("lora"), f"a motion LoRA, {OTHER_NODE} Load Motion LoRA"),
    (lambda k: k.has("lora|hada_w1|lokr_w1"), f"a LoRA for the image model, {OTHER_NODE} Load LoRA"),
    (lambda k: k.motion and k.has(r"controlnet_|zero_convs|input_hint_block"), SPARSE_CTRL),
    (lambda k: k.has(r"encoder_conv_in\.|qkv_merge|encoder_down_conv_blocks"), CAMERA_CTRL),
    (lambda k: k.has("cc_projection"), f"a MotionCtrl camera module (CMCM), {NOT_YET}"),
    (lambda k: not k.motion and k.has(r"^body\.\d"), f"a MotionCtrl object module (OMCM), {NOT_YET}"),
    (lambda k: k.layout is HOTSHOT_KEYS, HOTSHOT),
    (lambda k: k.motion and k.levels == 3, SDXL),
    (lambda k: k.has(r"fps_embedding|motion_embedding|^FancyVideo"), f"a FancyVideo motion module, {NOT_YET}"),
    (lambda k: k.motion and k.is_pia(), PIA),
    (lambda k: k.motion and k.has(r"^img_encoder\."), LCM_I2V),
    (lambda k: k.motion and k.mid and not k.has("pos_encoder") and k.layout is ORIGINAL_KEYS, LCM),
    (lambda k: k.motion and k.mid and k.pe_length == 64, LONG),
    (lambda k: k.motion and k.mid and (k.pe_length > 0 or not k.has("pos_encoder")), V2),
    (lambda k: k.motion and k.pe_length == 24, V1),
    (lambda k: k.motion and k.pe_length > 0, V3),
    (lambda k: k.motion, f"a motion module of an unknown kind, without a positional encoding: {CHOOSE}"),
    (
        lambda k: k.has(r"control_model\.|controlnet_|zero_convs|input_hint_block"),
        f"a ControlNet, {OTHER_NODE} Load ControlNet Model",
    ),
    (lambda k: k.has(r"diffusion_model\.|first_stage_model\."), f"a checkpoint, {OTHER_NODE} Load Checkpoint"),
    (lambda k: k.has(r"^(encoder|decoder)\.(conv_in|conv_out|mid|up|down)"), f"a VAE, {OTHER_NODE} Load VAE"),
    (lambda k: k.has(r"^(input_blocks|down_blocks)\."), f"an image UNet, {OTHER_NODE} Load Diffusion Model"),
    (lambda _: True, f"not a motion module: {CHOOSE}"),
)  # fmt: skip


def read_motion_file(loaded: Any, name: str, metadata: Mapping[str, str] | None = None) -> MotionFile:
    """Return the motion model that was loaded from the file `name`.

    `loaded` and `metadata` are the results of `comfy.utils.load_torch_file`. Raises ValueError, one sentence for the
    user, for anything but a complete and finite motion model of a known family.
    """
    keys = Keys(unwrap(loaded))
    family = next(result for test, result in TABLE if test(keys))
    if isinstance(family, str):
        raise ValueError(f"{name} is {family}.")
    family = family_in(metadata or {}) or family
    parts = (MOTION_KEY.pattern, *((rf"{family.picture_input}\.",) if family.picture_input else ()))
    state_dict = {key: tensor for key, tensor in keys.state_dict.items() if re.match("|".join(parts), key)}
    if not any(MOTION_KEY.match(key) for key in state_dict):
        raise ValueError(unknown_kind(name, next(iter(keys.state_dict))))
    config = read_config(state_dict, keys.pe_length or family.pe_length, family=family, name=name)
    if config.pe_length > LONGEST_ENCODING:
        raise ValueError(
            f"{name} has {config.pe_length} positions, more than the {LONGEST_ENCODING} that work: {CHOOSE}."
        )
    shapes = shapes_of(config)
    if not keys.pe_length:
        state_dict |= {key: sinusoids(*shape[1:]) for key, shape in shapes.items() if is_pe(key)}
    check_weights(state_dict, shapes, name)
    # The positional encoding stays fp32 whatever type the file has; all else keeps its type.
    # It is copied, since several attentions share one in other layouts.
    weights = {key: t.to(torch.float32, copy=True) if is_pe(key) else t for key, t in state_dict.items()}
    return MotionFile(family, config, weights)


def family_in(metadata: Mapping[str, str]) -> Family | None:
    """Return the family that a saved motion module names, since its weights alone may look like another family's."""
    family, frames = FAMILIES.get(metadata.get("family", "")), metadata.get("trained_frames", "")
    return replace(family, trained_frames=int(frames)) if family and FRAMES.fullmatch(frames) else family


def is_pe(key: str) -> bool:
    return key.endswith("pos_encoder.pe")


def stretch(file: MotionFile, frames: int) -> MotionFile:
    """Return the motion model with the positions of its trained frames spread over more frames, by linear
    interpolation in fp32 that keeps the first and the last. Raises ValueError unless there are more frames."""
    trained = min(file.family.trained_frames, file.config.pe_length)
    if frames <= trained:
        raise ValueError(f"{file.family.name} was trained on {trained} frames: stretch it to more than {trained}.")
    weights = {
        key: F.interpolate(t[:, :trained].float().mT, frames, mode="linear", align_corners=True).mT if is_pe(key) else t
        for key, t in file.state_dict.items()
    }
    return MotionFile(replace(file.family, trained_frames=frames), replace(file.config, pe_length=frames), weights)


def hint(family: Family, name: str) -> str:
    """Return the settings that the authors of a file recommend; empty if those are ComfyUI's usual ones."""
    matches = ((re.search(pattern, name, re.IGNORECASE), settings) for pattern, settings in HINTS_BY_NAME)
    return next((match.expand(settings) for match, settings in matches if match), family.hint)


def read_config(state_dict: Mapping[str, Tensor], pe_length: int, family: Family, name: str) -> MotionModelConfig:
    """Return the configuration that the keys and shapes imply. Raises ValueError if a key that it needs is missing."""

    def count(pattern: str) -> int:
        return 1 + max((int(index) for key in state_dict for index in re.findall(pattern, key)), default=-1)

    def channels(block: str) -> tuple[int, ...]:
        modules = range(count(rf"^{block}\.motion_modules\.(\d)"))
        keys = (f"{block}.motion_modules.{j}.temporal_transformer.proj_in.weight" for j in modules)
        return tuple(channels_of(state_dict, key, name) for key in keys)

    down = tuple(channels(f"down_blocks.{i}") for i in range(count(r"^down_blocks\.(\d)")))
    if family.picture_input and not (down and all(down)):
        raise ValueError(incomplete(name, "a level of its down_blocks"))
    return MotionModelConfig(
        down=down,
        mid=channels("mid_block"),
        up=tuple(channels(f"up_blocks.{i}") for i in range(count(r"^up_blocks\.(\d)"))),
        pe_length=pe_length,
        attentions=count(r"\.attention_blocks\.(\d)\."),
        transformer_blocks=count(r"\.transformer_blocks\.(\d)\."),
        norm_over_frames=family.norm_over_frames,
        picture_input=family.picture_input,
    )


def channels_of(state_dict: Mapping[str, Tensor], key: str, name: str) -> int:
    weight = state_dict.get(key)
    if weight is None:
        raise ValueError(incomplete(name, key))
    if weight.ndim != 2 or weight.shape[0] % MotionModelConfig.norm_groups:
        raise ValueError(damaged(name, f"{key} has the shape {list(weight.shape)}"))
    return weight.shape[0]


class WithoutInit:
    """Layers of which only the shapes are wanted: initialising them would take longer than all the rest."""

    class Linear(nn.Linear):
        def reset_parameters(self) -> None:
            pass

    LayerNorm, GroupNorm, Conv2d = nn.LayerNorm, nn.GroupNorm, nn.Conv2d


def shapes_of(config: MotionModelConfig) -> dict[str, torch.Size]:
    """Return the shape of every weight of a motion model, by key."""
    model = MotionModel(config, device=torch.device("meta"), operations=WithoutInit)
    return {key: parameter.shape for key, parameter in model.state_dict().items()}


def check_weights(state_dict: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], name: str) -> None:
    """Raise ValueError for the first key that is missing, unknown, of a wrong shape, or not finite."""
    for key, shape in shapes.items():
        tensor = state_dict.get(key)
        if tensor is None:
            raise ValueError(incomplete(name, key))
        if tensor.shape != shape:
            raise ValueError(damaged(name, f"{key} has the shape {list(tensor.shape)} instead of {list(shape)}"))
        if not tensor.is_floating_point():
            raise ValueError(damaged(name, f"{key} holds {str(tensor.dtype).removeprefix('torch.')} values"))
        if not is_finite(tensor):
            raise ValueError(damaged(name, f"{key} holds NaN or infinite values"))
    unknown = next((key for key in state_dict if key not in shapes), None)
    if unknown is not None:
        raise ValueError(unknown_kind(name, unknown))


def incomplete(name: str, key: str) -> str:
    return f"{name} is incomplete, because {key} is missing: {AGAIN}."


def damaged(name: str, fault: str) -> str:
    return f"{name} is damaged, because {fault}: {AGAIN}."


def unknown_kind(name: str, key: str) -> str:
    return f"{name} is of an unknown kind, with the key {key}: choose another file."


def is_finite(tensor: Tensor) -> bool:
    if tensor.element_size() == 1:  # fp8 tensors cannot be summed
        tensor = tensor.float()
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))
