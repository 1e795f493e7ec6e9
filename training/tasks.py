"""Touches comfy. The kinds of training on a frozen UNet: motion module, motion LoRA, domain adapter, SparseCtrl."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.utils
import torch
from comfy.model_sampling import rescale_zero_terminal_snr_sigmas
from torch import Tensor, nn
from torch.nn import Parameter

from ..motion_models.formats import PIA, SDXL, V2, V3, Family
from ..motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from ..motion_models.saving import domain_adapter_file, float32_copy, motion_lora_file, notes
from ..motion_models.schedules import BETA_SCHEDULES
from ..motion_models.sparse_ctrl import load_sparse_ctrl, own_keys_and_shapes
from ..motion_models.unet import (
    check_base,
    group_norms_over_frames,
    is_stable_diffusion_2,
    motion_hooks,
    unet_norms,
    unet_slots,
)
from .diffusion import alphas_cumprod
from .frozen_unet import CleanClips, FrozenUNet, frozen_copy, recomputed
from .lora import LoraOptions, layers_of, lora
from .motion import weights
from .pia import pictures, with_picture_input
from .sparse_ctrl import (
    ControlledUNet,
    SparseCtrlOptions,
    build,
    draw_keyframes,
    latent_hints,
    pytorch_attention,
    sketch_hints,
)

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..motion_models.loader import LoadedMotionModel

LISTS = ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output")
"""Keys of a UNet's configuration from whose values ComfyUI's unet_to_diffusers pops."""
SPATIAL_ATTENTION = re.compile(r"transformer_blocks\.\d+\.attn[12]\.to_(q|k|v|out\.0)$")


@dataclass(frozen=True)
class TaskOptions:
    """Options for how a task computes, and for the size of what it trains."""

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    """Type of the frozen weights."""
    recompute: bool = True
    """Whether gradients are checkpointed."""
    beta_schedule: str = "family"
    """Noise schedule: "image", "motion", or that of the motion model's "family"."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    positions: int = 32
    """Frames of the longest clip of a motion model that starts from scratch."""
    middle: bool = False
    """Whether a motion model that starts from scratch has motion modules in the middle block, as v2 has."""
    pictures: bool = False
    """Whether a motion model learns PIA's picture input."""
    sparse_ctrl: SparseCtrlOptions = field(default_factory=SparseCtrlOptions)
    vae: Any = None
    """ComfyUI's VAE, in whose pictures a SparseCtrl's sketches are found."""


@dataclass(frozen=True)
class Task:
    """The parameters to train, the UNet to train them on, and how they become a file."""

    unet: FrozenUNet
    parameters: dict[str, Parameter]
    alphas: Tensor
    """(1000,) the noise schedule."""
    file: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Maps values of the parameters to the weights that are saved."""
    notes: dict[str, str]
    models: tuple[nn.Module, ...]
    """All models that compute."""


class Start(NamedTuple):
    """The motion model that a training starts from, a copy in float32."""

    model: MotionModel
    family: Family
    notes: dict[str, str]


def start_from(model: ModelPatcher, motion: LoadedMotionModel | None, options: TaskOptions) -> Start:
    """Return a copy of a motion model, or without one a new one. ValueError if it does not fit the MODEL's UNet."""
    if motion is None:
        return start_from_scratch(model, options)
    check_base(model, motion)
    return Start(float32_copy(motion, options.device), motion.family, notes(motion))


def start_from_scratch(model: ModelPatcher, options: TaskOptions) -> Start:
    """Return a motion model whose outputs are zero, so that it changes nothing yet (arXiv 2307.04725, section 4.2).

    ValueError for a MODEL to which it could not be applied.
    """
    if is_stable_diffusion_2(model):
        raise ValueError(
            "There are no motion modules for Stable Diffusion 2 models, such as this one: use a checkpoint of Stable "
            "Diffusion 1.5 or SDXL."
        )
    blocks: dict[str, list[int]] = {}
    for slot in unet_slots(model.get_model_object("diffusion_model")):
        blocks.setdefault(slot.name.partition(".motion_modules")[0], []).append(slot.channels)
    down, up = (tuple(tuple(cs) for name, cs in blocks.items() if name.startswith(way)) for way in ("down", "up"))
    family = SDXL if len(down) == 3 else V2 if options.middle else V3
    mid = tuple(blocks["mid_block"]) if options.middle else ()
    config = MotionModelConfig(down, mid, up, pe_length=options.positions, norm_over_frames=family.norm_over_frames)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(options.seed)  # torch.manual_seed would also seed the GPUs
        motion_model = MotionModel(config)
    zero_output(motion_model)
    metadata = {
        "family": family.name,
        "base": family.base,
        "trained_frames": str(options.positions),
        "sources": "nothing",
    }
    return Start(motion_model.to(options.device).requires_grad_(False), family, metadata)


def start_pia(model: ModelPatcher, start: Start) -> Start:
    """Return the start of a training that gives a motion model for Stable Diffusion 1.5 PIA's picture input.

    ValueError for one of another base.
    """
    if start.model.config.picture_input:
        return start
    if start.family.base != PIA.base:
        raise ValueError(f"pictures: {start.family.name} is for {start.family.base}, and PIA for {PIA.base}.")
    unet: Any = model.get_model_object("diffusion_model")
    motion_model = with_picture_input(start.model, unet.input_blocks[0][0])
    return Start(motion_model, PIA, {**start.notes, "family": PIA.name})


@contextmanager
def module_task(model: ModelPatcher, motion: LoadedMotionModel | None, options: TaskOptions) -> Iterator[Task]:
    """Yield the training of all of a motion model but its positions, from scratch without one."""
    start = start_from(model, motion, options)
    start = start_pia(model, start) if options.pictures else start
    positions = {key: value for key, value in start.model.state_dict().items() if key.endswith("pos_encoder.pe")}
    with animated(model, start, options) as unet:
        yield Task(
            unet=unet,
            parameters=weights(start.model),
            alphas=noise_schedule(model, start.family, options.beta_schedule),
            file=lambda values: {**positions, **values},
            notes=start.notes,
            models=(unet.module, start.model),
        )


@contextmanager
def lora_task(model: ModelPatcher, motion: LoadedMotionModel | None, options: TaskOptions) -> Iterator[Task]:
    """Yield the training of a LoRA on a motion model. ValueError if there is none."""
    if motion is None:
        raise ValueError("motion_module: name the file of the motion module that the LoRA is trained for.")
    start = start_from(model, motion, options)
    layers = layers_of(start.model, options.lora.projections)
    with animated(model, start, options) as unet, adapted(start.model, layers, options) as parameters:
        yield Task(
            unet=unet,
            parameters=parameters,
            alphas=noise_schedule(model, start.family, options.beta_schedule),
            file=lambda values: motion_lora_file(values, options.lora.layout, options.lora.scale),
            notes={**start.notes, **options.lora.notes(), "projections": options.lora.projections},
            models=(unet.module, start.model),
        )


@contextmanager
def adapter_task(model: ModelPatcher, motion: LoadedMotionModel | None, options: TaskOptions) -> Iterator[Task]:
    """Yield the training of a LoRA on the image model's attention, for the look of a video's frames.

    It is trained on single frames, without the motion model, and left out when the motion that was learned with it is
    used (arXiv 2307.04725, section 4.1).
    """
    unet = frozen_copy(model, options.device, torch.float32)
    layers = [name for name, _ in unet.module.named_modules() if SPATIAL_ATTENTION.search(name)]
    config: Any = model.model.model_config.unet_config
    diffusers = comfy.utils.unet_to_diffusers({**config, **{key: list(config[key]) for key in LISTS if key in config}})
    names = {ours.removesuffix(".weight"): theirs.removesuffix(".weight") for theirs, ours in diffusers.items()}
    with adapted(unet.module, layers, options) as parameters, recomputing(options, unet.module):
        yield Task(
            unet=unet,
            parameters=parameters,
            alphas=to_the_end(model, alphas_cumprod("image")),
            file=lambda values: domain_adapter_file(values, names, options.lora.scale),
            notes=options.lora.notes(),
            models=(unet.module,),
        )


@contextmanager
def sparse_ctrl_task(model: ModelPatcher, motion: LoadedMotionModel | None, options: TaskOptions) -> Iterator[Task]:
    """Yield the training of a SparseCtrl on a MODEL with a motion model, both frozen. ValueError if there is none."""
    if motion is None:
        raise ValueError("motion_module: name the file of the motion module that moves the clips of a SparseCtrl.")
    start, file = start_from(model, motion, options), options.sparse_ctrl.start
    with animated(model, start, options) as unet:
        sees = options.sparse_ctrl.sees
        control = load_sparse_ctrl(str(file)) if file else build(unet.module, start.model, sees)
        control = control.float().to(options.device).requires_grad_(False)
        keys, _ = own_keys_and_shapes(control.config)
        positions = {key: value for key, value in control.state_dict().items() if key.endswith("pos_encoder.pe")}
        hints = latent_hints if control.config.takes_latents else sketch_hints(model, options.vae)
        controlled = ControlledUNet(unet.module, control)

        @contextmanager
        def moving(frames: int, clips: CleanClips | None) -> Iterator[None]:
            assert clips is not None
            keyframes = [draw_keyframes(frames, options.sparse_ctrl.keyframes, draws) for draws in clips.generators]
            controlled.hint, controlled.frames = hints(clips.latents, keyframes).flatten(0, 1), frames
            with unet.moving(frames, clips):
                yield

        def file_of(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            weights = {**positions, **values}
            return {theirs: weights[own] for theirs, own in keys.items()}

        with pytorch_attention(control), recomputing(options, control):
            yield Task(
                unet=replace(unet, module=controlled, moving=moving),
                parameters=weights(control),
                alphas=noise_schedule(model, start.family, options.beta_schedule),
                file=file_of,
                notes={**start.notes, "family": "SparseCtrl", "sees": sees, "heads": str(control.config.heads)},
                models=(unet.module, start.model, control),
            )


TASKS = {
    "motion module": module_task,
    "motion LoRA": lora_task,
    "domain adapter": adapter_task,
    "SparseCtrl": sparse_ctrl_task,
}
"""The kinds of training, by the names that a configuration has for them."""


@contextmanager
def animated(model: ModelPatcher, start: Start, options: TaskOptions) -> Iterator[FrozenUNet]:
    """Yield a frozen copy of a MODEL's UNet with the motion of `start` in it."""
    unet = frozen_copy(model, options.device, options.dtype)
    slots, res_norms = unet_slots(unet.module), unet_norms(unet.module)
    norms, limit = ExitStack(), start.model.config.pe_length

    @contextmanager
    def moving(frames: int, clips: CleanClips | None) -> Iterator[None]:
        if frames > limit:
            raise ValueError(
                f"{frames} frames are more than the {limit} that the motion module was made for: lower 'frames'."
            )
        norms.close()
        if start.family.unet_norms_over_frames:  # until the next call: the backward pass may compute this one again
            norms.enter_context(group_norms_over_frames(res_norms, frames))
        with motion_hooks(slots, start.model, frames), pictures(unet.module, start.model, clips):
            yield

    with norms, recomputing(options, unet.module, start.model):
        yield replace(unet, moving=moving)


def adapted(model: nn.Module, layers: list[str], options: TaskOptions) -> AbstractContextManager[dict[str, Parameter]]:
    """Return the context in which layers of a model have a LoRA, and the parameters of that."""
    generator = torch.Generator().manual_seed(options.seed)
    return lora(model, layers, rank=options.lora.rank, scale=options.lora.scale, generator=generator)


def recomputing(options: TaskOptions, *models: nn.Module) -> AbstractContextManager[None]:
    """Return the context in which gradients are checkpointed, if the options say so."""
    return recomputed(*models) if options.recompute else nullcontext()


def noise_schedule(model: ModelPatcher, family: Family, name: str) -> Tensor:
    """Return (1000,) alphas of a schedule by its name, or of the motion model's "family"."""
    if name != "family":
        return to_the_end(model, alphas_cumprod(name))
    schedule = BETA_SCHEDULES[family.beta_schedule]
    evenly = "motion" if schedule.beta_schedule == "sqrt_linear" else "image"
    return to_the_end(model, alphas_cumprod(evenly, schedule.linear_start, schedule.linear_end))


def to_the_end(model: ModelPatcher, alphas: Tensor) -> Tensor:
    """Return the schedule, rescaled to end in pure noise where a MODEL samples with zero terminal SNR.

    This is arXiv 2305.08891, section 3.1, as set_beta_schedule gives it to the sampler.
    """
    if not getattr(model.get_model_object("model_sampling"), "zsnr", False):
        return alphas
    return 1 / (1 + rescale_zero_terminal_snr_sigmas(((1 - alphas) / alphas).sqrt()) ** 2)
