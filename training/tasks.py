"""Touches comfy. The kinds of training: a motion module, a motion LoRA, or a domain adapter, on a frozen UNet."""

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

from ..motion_models.formats import SDXL, V2, V3, Family
from ..motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from ..motion_models.saving import domain_adapter_file, float32_copy, motion_lora_file, notes
from ..motion_models.schedules import BETA_SCHEDULES
from ..motion_models.unet import group_norms_over_frames, motion_hooks, unet_norms, unet_slots
from ..sampling.animate import check_base, is_stable_diffusion_2
from .diffusion import alphas_cumprod
from .frozen_unet import FrozenUNet, frozen_copy, recomputed
from .lora import LoraOptions, layers_of, lora
from .motion import weights

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


@contextmanager
def module_task(model: ModelPatcher, motion: LoadedMotionModel | None, options: TaskOptions) -> Iterator[Task]:
    """Yield the training of all of a motion model but its positions, from scratch without one."""
    start = start_from(model, motion, options)
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


TASKS = {"motion module": module_task, "motion LoRA": lora_task, "domain adapter": adapter_task}
"""The kinds of training, by the names that a configuration has for them."""


@contextmanager
def animated(model: ModelPatcher, start: Start, options: TaskOptions) -> Iterator[FrozenUNet]:
    """Yield a frozen copy of a MODEL's UNet with the motion of `start` in it."""
    unet = frozen_copy(model, options.device, options.dtype)
    slots, res_norms = unet_slots(unet.module), unet_norms(unet.module)
    norms, limit = ExitStack(), start.model.config.pe_length

    @contextmanager
    def moving(frames: int) -> Iterator[None]:
        if frames > limit:
            raise ValueError(
                f"{frames} frames are more than the {limit} that the motion module was made for: lower 'frames'."
            )
        norms.close()
        if start.family.unet_norms_over_frames:  # until the next call: the backward pass may compute this one again
            norms.enter_context(group_norms_over_frames(res_norms, frames))
        with motion_hooks(slots, start.model, frames):
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
