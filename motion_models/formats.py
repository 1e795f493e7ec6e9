"""What a motion-model file is: from a published layout to a family and canonical keys. Needs no ComfyUI.

Canonical keys are those of the original AnimateDiff files, which are also the parameter paths of `MotionModel`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .motion_model import MotionModel, MotionModelConfig, sinusoids

# Where a file keeps its weights, if not at the top: the official trainer, DeepSpeed, SparseCtrl, CameraCtrl.
WRAPPERS = ("state_dict", "module", "model", "controlnet", "pose_encoder_state_dict", "lora_state_dict")
PREFIXES = ("module.", "unet.", "model.")
# One digit an index: real files need no more, and a hostile one cannot ask for a million layers.
MOTION_KEY = re.compile(r"(down_blocks\.\d|up_blocks\.\d|mid_block)\.motion_modules\.\d\.temporal_transformer\.")
NORM_GROUPS = 32


@dataclass(frozen=True)
class Family:
    """A kind of motion model: what follows from how it was trained."""

    name: str
    base: str = "Stable Diffusion 1.5"
    beta_schedule: str = "AnimateDiff SD1.5"
    unet_norms_over_frames: bool = False
    """The UNet's ResBlock norms and its last norm take their statistics over all frames."""
    norm_over_frames: bool = False
    """So does the motion module's own norm."""
    pe_length: int = 32
    """Of files that hold no positional encoding: it is computed anew."""
    trained_frames: int = 16
    """Frames of the clips it was trained on: the first so many positions mean something."""
    hint: str = ""
    """Settings that the authors recommend, for the log."""


@dataclass(frozen=True)
class MotionFile:
    """A motion model as read: `state_dict` has canonical keys, all that `config` needs and no other."""

    family: Family
    config: MotionModelConfig
    state_dict: dict[str, Tensor]


class Keys:
    """The canonical keys of a file, as detection asks about them; `layout` is the one that it was published in."""

    def __init__(self, state_dict: Mapping[str, Tensor], layout: str = "original"):
        self.state_dict = state_dict
        self.layout = layout
        self.motion = self.has(r"motion_modules|temporal_transformer|temporal_attentions")
        self.mid = self.has(r"mid_block\.motion_modules\.")
        self.levels = len({key.split(".")[1] for key in state_dict if re.match(r"down_blocks\.\d+\.motion_mod", key)})
        positions = (t for key, t in state_dict.items() if MOTION_KEY.match(key) and is_pe(key) and t.ndim == 3)
        self.pe_length = next((t.shape[1] for t in positions), 0)

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

FAMILIES = {family.name: family for family in (V1, V2, V3, LONG, LCM, SDXL, HOTSHOT)}

# The weights of these cannot be told from v2's, only their names can: what the authors recommend, for the log.
HINTS_BY_NAME = (
    (r"lightning_(\d)step", r"\1 steps, cfg 1, sampler euler, scheduler sgm_uniform"),
    (r"lt_long_mm_32", "motion scale 1.15"),
)

# Other layouts in which motion modules are published: how their keys become the original ones.
HOTSHOT_KEYS = (
    (r"\.temporal_attentions\.(\d)\.", r".motion_modules.\1.temporal_transformer."),
    (r"\.pos_encoder\.positional_encoding$", ".pos_encoder.pe"),
)
DIFFUSERS_KEYS = (
    (r"\.motion_modules\.(\d)\.", r".motion_modules.\1.temporal_transformer."),
    (r"\.attn1\.", ".attention_blocks.0."),
    (r"\.attn2\.", ".attention_blocks.1."),
    (r"\.norm1\.", ".norms.0."),
    (r"\.norm2\.", ".norms.1."),
    (r"\.norm3\.", ".ff_norm."),
)
DIFFUSERS_PE = ".pos_embed.pe"  # one for both attentions

TAKE = "choose an AnimateDiff motion module, such as v3_sd15_mm.ckpt"
LATER = f"which is not supported yet: {TAKE}"
AGAIN = "download it again"
ELSEWHERE = f"not a motion module: {TAKE}; for this file use"

# The first row whose test holds says what the file is: a family, or the end of the sentence "<file> is ...".
# Files that hold a motion module and something else come before the plain modules, those without one come last.
TABLE: tuple[tuple[Callable[[Keys], bool], Family | str], ...] = (
    (lambda k: k.motion and k.has("lora"), f"a motion LoRA, {ELSEWHERE} Load Motion LoRA"),
    (lambda k: k.has("lora|hada_w1|lokr_w1"), f"a LoRA for the image model, {ELSEWHERE} Load LoRA"),
    (
        lambda k: k.motion and k.has(r"controlnet_|zero_convs|input_hint_block"),
        f"a SparseCtrl model, which only steers a motion module: {TAKE}",
    ),
    (
        lambda k: k.has(r"encoder_conv_in\.|qkv_merge|encoder_down_conv_blocks"),
        f"a CameraCtrl encoder, which only steers a motion module: {TAKE}",
    ),
    (lambda k: k.has("cc_projection"), f"a MotionCtrl camera module (CMCM), {LATER}"),
    (lambda k: not k.motion and k.has(r"^body\.\d"), f"a MotionCtrl object module (OMCM), {LATER}"),
    (lambda k: k.layout == "hotshot", HOTSHOT),
    (lambda k: k.motion and k.levels == 3, SDXL),
    (lambda k: k.has(r"fps_embedding|motion_embedding|^FancyVideo"), f"a FancyVideo motion module, {LATER}"),
    (lambda k: k.motion and k.is_pia(), f"a PIA motion module, {LATER}"),
    (lambda k: k.has(r"^img_encoder\."), f"an AnimateLCM-I2V motion module, {LATER}"),
    (lambda k: k.motion and k.mid and not k.has("pos_encoder") and k.layout == "original", LCM),
    (lambda k: k.motion and k.mid and k.pe_length == 64, LONG),
    (lambda k: k.motion and k.mid and (k.pe_length > 0 or not k.has("pos_encoder")), V2),
    (lambda k: k.motion and k.pe_length == 24, V1),
    (lambda k: k.motion and k.pe_length > 0, V3),
    (lambda k: k.motion, f"a motion module without positions, of a kind that cannot be told: {TAKE}"),
    (
        lambda k: k.has(r"control_model\.|controlnet_|zero_convs|input_hint_block"),
        f"a ControlNet, {ELSEWHERE} Load ControlNet Model",
    ),
    (lambda k: k.has(r"diffusion_model\.|first_stage_model\."), f"a checkpoint, {ELSEWHERE} Load Checkpoint"),
    (lambda k: k.has(r"^(encoder|decoder)\.(conv_in|conv_out|mid|up|down)"), f"a VAE, {ELSEWHERE} Load VAE"),
    (lambda k: k.has(r"^(input_blocks|down_blocks)\."), f"an image UNet, {ELSEWHERE} Load Diffusion Model"),
    (lambda _: True, f"no motion module: {TAKE}"),
)  # fmt: skip


def noted_family(metadata: Mapping[str, str]) -> Family | None:
    """What a saved motion module says of itself, where its weights alone would be taken for another family's."""
    family, frames = FAMILIES.get(metadata.get("family", "")), metadata.get("trained_frames", "")
    return replace(family, trained_frames=int(frames)) if family and frames.isdecimal() else family


def read_motion_file(loaded: Any, name: str, metadata: Mapping[str, str] | None = None) -> MotionFile:
    """Say what was loaded from the file `name`, in canonical keys.

    `loaded` and `metadata` are what `comfy.utils.load_torch_file` gives. Raises ValueError, one sentence for the user,
    if it is anything but a complete and finite motion model of a known family.
    """
    keys = canonical(unwrap(loaded))
    found = next(result for test, result in TABLE if test(keys))
    if isinstance(found, str):
        raise ValueError(f"{name} is {found}.")
    found = noted_family(metadata or {}) or found
    state_dict = {key: tensor for key, tensor in keys.state_dict.items() if MOTION_KEY.match(key)}
    if not state_dict:
        raise ValueError(unknown_kind(name, next(iter(keys.state_dict))))
    config = read_config(state_dict, keys.pe_length or found.pe_length, found.norm_over_frames, name)
    if not keys.pe_length:
        state_dict |= positions(config)
    check_weights(state_dict, config, name)
    # Positions stay fp32 whatever the file has; everything else keeps its type.
    # They are copied, since in other layouts several attentions share theirs.
    weights = {key: t.to(torch.float32, copy=True) if is_pe(key) else t for key, t in state_dict.items()}
    return MotionFile(found, config, weights)


def is_pe(key: str) -> bool:
    return key.endswith("pos_encoder.pe")


def unwrap(loaded: Any) -> dict[str, Tensor]:
    """The tensors of a file, out of the dicts and prefixes that trainers wrap them in."""
    if not isinstance(loaded, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(loaded.get(wrapper), Mapping):
            return unwrap(loaded[wrapper])
    return {bare(key): t for key, t in loaded.items() if isinstance(key, str) and isinstance(t, Tensor)}


def bare(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.partition(".")[2]
    return key


def canonical(state_dict: Mapping[str, Tensor]) -> Keys:
    """Motion keys of another layout become the original ones; all other keys stay."""
    if any(".temporal_attentions." in key for key in state_dict):
        return Keys({renamed(key, HOTSHOT_KEYS): t for key, t in state_dict.items()}, "hotshot")
    if not any(re.search(r"\.motion_modules\.\d\.(transformer_blocks|proj_in)\.", key) for key in state_dict):
        return Keys(state_dict)
    keys: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        if ".motion_modules." not in key:
            keys[key] = tensor
        elif key.endswith(DIFFUSERS_PE):
            block = renamed(key.removesuffix(DIFFUSERS_PE), DIFFUSERS_KEYS)
            keys |= {f"{block}.attention_blocks.{i}.pos_encoder.pe": tensor for i in range(2)}
        else:
            keys[renamed(key, DIFFUSERS_KEYS)] = tensor
    return Keys(keys, "diffusers")


def renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for old, new in rules:
        key = re.sub(old, new, key)
    return key


def positions(config: MotionModelConfig) -> dict[str, Tensor]:
    """The positional encodings of a motion model, by key."""
    return {
        f"{name}.temporal_transformer.transformer_blocks.{i}.attention_blocks.{j}.pos_encoder.pe": sinusoids(
            config.pe_length, channels
        )
        for name, channels in config.channels_by_name().items()
        for i in range(config.transformer_blocks)
        for j in range(config.attentions)
    }


def stretched(file: MotionFile, frames: int) -> MotionFile:
    """The positions of the frames that the module was trained on, spread over more frames; straight lines in fp32
    between them, the first and the last stay. ValueError if there are not more frames."""
    trained = min(file.family.trained_frames, file.config.pe_length)
    if frames <= trained:
        raise ValueError(f"{file.family.name} was trained on {trained} frames: stretch it to more than {trained}.")
    weights = {
        key: F.interpolate(t[:, :trained].float().mT, frames, mode="linear", align_corners=True).mT if is_pe(key) else t
        for key, t in file.state_dict.items()
    }
    return MotionFile(replace(file.family, trained_frames=frames), replace(file.config, pe_length=frames), weights)


def hint(family: Family, name: str) -> str:
    """Settings that the authors of a file recommend; empty where they are ComfyUI's usual ones."""
    for pattern, settings in HINTS_BY_NAME:
        found = re.search(pattern, name, re.IGNORECASE)
        if found:
            return found.expand(settings)
    return family.hint


def read_config(
    state_dict: Mapping[str, Tensor], pe_length: int, norm_over_frames: bool, name: str
) -> MotionModelConfig:
    """Read the layout from the keys and shapes; ValueError names a key without which it cannot be told."""

    def count(pattern: str) -> int:
        return 1 + max((int(index) for key in state_dict for index in re.findall(pattern, key)), default=-1)

    def channels(block: str) -> tuple[int, ...]:
        modules = range(count(rf"^{block}\.motion_modules\.(\d)"))
        keys = (f"{block}.motion_modules.{j}.temporal_transformer.proj_in.weight" for j in modules)
        return tuple(channels_of(state_dict, key, name) for key in keys)

    return MotionModelConfig(
        down=tuple(channels(f"down_blocks.{i}") for i in range(count(r"^down_blocks\.(\d)"))),
        mid=channels("mid_block"),
        up=tuple(channels(f"up_blocks.{i}") for i in range(count(r"^up_blocks\.(\d)"))),
        pe_length=pe_length,
        attentions=count(r"\.attention_blocks\.(\d)\."),
        transformer_blocks=count(r"\.transformer_blocks\.(\d)\."),
        norm_over_frames=norm_over_frames,
    )


class WithoutInit:
    """Layers whose shapes alone are wanted: initialising them takes longer than all the rest."""

    class Linear(nn.Linear):
        def reset_parameters(self) -> None:
            pass

    LayerNorm, GroupNorm = nn.LayerNorm, nn.GroupNorm


def channels_of(state_dict: Mapping[str, Tensor], key: str, name: str) -> int:
    weight = state_dict.get(key)
    if weight is None:
        raise ValueError(f"{name} is an incomplete motion module, {key} is missing: {AGAIN}.")
    if weight.ndim != 2 or weight.shape[0] % NORM_GROUPS:
        raise ValueError(f"{name} is a damaged motion module, {key} has the shape {list(weight.shape)}: {AGAIN}.")
    return weight.shape[0]


def check_weights(state_dict: Mapping[str, Tensor], config: MotionModelConfig, name: str) -> None:
    """ValueError naming the first key that is missing, unknown, of a wrong shape, or not finite."""
    expected = MotionModel(config, device=torch.device("meta"), operations=WithoutInit).state_dict()
    for key, parameter in expected.items():
        tensor = state_dict.get(key)
        if tensor is None:
            raise ValueError(f"{name} is an incomplete motion module, {key} is missing: {AGAIN}.")
        if tensor.shape != parameter.shape:
            shapes = f"{list(tensor.shape)} instead of {list(parameter.shape)}"
            raise ValueError(f"{name} is a damaged motion module, {key} has the shape {shapes}: {AGAIN}.")
        if not is_finite(tensor):
            raise ValueError(f"{name} is a damaged motion module, {key} holds NaN or infinite values: {AGAIN}.")
    unknown = next((key for key in state_dict if key not in expected), None)
    if unknown is not None:
        raise ValueError(unknown_kind(name, unknown))


def unknown_kind(name: str, key: str) -> str:
    return f"{name} is a motion module of an unknown kind, with the key {key}: {TAKE}."


def is_finite(tensor: Tensor) -> bool:
    if tensor.element_size() == 1:  # fp8 has no sum of its own
        tensor = tensor.float()
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))
