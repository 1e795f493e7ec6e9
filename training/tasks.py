"""Touches comfy. What can be trained: a motion module, a motion LoRA, or a domain adapter, on a frozen image model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import comfy.utils
import torch
from comfy.model_sampling import rescale_zero_terminal_snr_sigmas
from torch import Tensor, nn
from torch.nn import Parameter

from ..motion_models.formats import SDXL, V2, V3, Family
from ..motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from ..motion_models.saving import domain_adapter_file, float32_copy, motion_lora_file, notes, patched_weights
from ..motion_models.schedules import BETA_SCHEDULES
from ..motion_models.unet import group_norms_over_frames, motion_hooks, unet_norms, unet_slots
from ..sampling.animate import check_base, is_stable_diffusion_2
from .diffusion import alphas_cumprod
from .image_model import ImageModel, frozen_copy, recomputed
from .lora import LoraOptions, layers_of, lora
from .motion import Moving, weights

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..motion_models.loader import LoadedMotionModel

SPATIAL_ATTENTION = re.compile(r"transformer_blocks\.\d+\.attn[12]\.to_(q|k|v|out\.0)$")


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and how it becomes a file."""

    image_model: ImageModel
    moving: Moving
    parameters: dict[str, Parameter]
    alphas: Tensor
    """(1000,) the noise schedule."""
    file: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """From values of the parameters to what is saved."""
    notes: dict[str, str]
    models: tuple[nn.Module, ...]
    """All that is computed with."""


class Start(NamedTuple):
    """The motion model that a training starts from, a copy in float32."""

    model: MotionModel
    family: Family
    notes: dict[str, str]


def from_file(model: ModelPatcher, motion: LoadedMotionModel, device: torch.device) -> Start:
    """ValueError if the motion model was made for another UNet."""
    check_base(model, motion)
    return Start(float32_copy(motion, device), motion.family, notes(motion))


def from_nothing(model: ModelPatcher, positions: int, middle: bool, seed: int, device: torch.device) -> Start:
    """A motion model whose outputs are zero, so that it changes nothing yet (arXiv 2307.04725, section 4.2).
    ValueError for a MODEL to which it could not be applied."""
    if is_stable_diffusion_2(model):
        raise ValueError(
            "This is a model of Stable Diffusion 2's kind, for which there are no motion modules: use a checkpoint of "
            "Stable Diffusion 1.5 or SDXL."
        )
    slots = unet_slots(model.get_model_object("diffusion_model"))
    blocks: dict[str, list[int]] = {}
    for slot in slots:
        blocks.setdefault(slot.name.partition(".motion_modules")[0], []).append(slot.channels)
    down, up = (tuple(tuple(cs) for name, cs in blocks.items() if name.startswith(way)) for way in ("down", "up"))
    family = SDXL if len(down) == 3 else V2 if middle else V3
    mid = tuple(blocks["mid_block"]) if middle else ()
    config = MotionModelConfig(down, mid, up, positions, norm_over_frames=family.norm_over_frames)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
        motion_model = MotionModel(config)
    zero_output(motion_model)
    told = {"family": family.name, "base": family.base, "trained_frames": str(positions), "sources": "nothing"}
    return Start(motion_model.to(device).requires_grad_(False), family, told)


@contextmanager
def module_task(
    model: ModelPatcher, start: Start, schedule: str, dtype: torch.dtype, recompute: bool
) -> Iterator[Task]:
    with animated(model, start, dtype, recompute) as (image_model, moving):
        positions = {key: value for key, value in start.model.state_dict().items() if key.endswith("pos_encoder.pe")}

        def file(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {**positions, **values}

        alphas, models = noise_schedule(model, start, schedule), (image_model.unet, start.model)
        yield Task(image_model, moving, weights(start.model), alphas, file, start.notes, models)


@contextmanager
def lora_task(
    model: ModelPatcher,
    start: Start,
    schedule: str,
    options: LoraOptions,
    seed: int,
    dtype: torch.dtype,
    recompute: bool,
) -> Iterator[Task]:
    layers, generator = layers_of(start.model, options.projections), torch.Generator().manual_seed(seed)
    with (
        animated(model, start, dtype, recompute) as (image_model, moving),
        lora(start.model, layers, options.rank, options.scale, generator) as parameters,
    ):

        def file(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return motion_lora_file(values, options.layout, options.scale)

        told = {**start.notes, **options.notes(), "projections": options.projections}
        alphas, models = noise_schedule(model, start, schedule), (image_model.unet, start.model)
        yield Task(image_model, moving, parameters, alphas, file, told, models)


@contextmanager
def adapter_task(
    model: ModelPatcher, options: LoraOptions, seed: int, device: torch.device, recompute: bool
) -> Iterator[Task]:
    """A LoRA on the image model's attention, for the look of a video's frames: trained on single ones, and left out
    when the motion that was learned with it is used (arXiv 2307.04725, section 4.1)."""
    image_model = frozen_copy(model, patched_weights(model, "diffusion_model."), device, torch.float32)
    layers = [name for name, _ in image_model.unet.named_modules() if SPATIAL_ATTENTION.search(name)]
    config: Any = model.model.model_config.unet_config
    diffusers = comfy.utils.unet_to_diffusers({**config, **{key: list(config[key]) for key in LISTS if key in config}})
    names = {ours.removesuffix(".weight"): theirs.removesuffix(".weight") for theirs, ours in diffusers.items()}

    def file(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return domain_adapter_file(values, names, options.scale)

    learning = lora(image_model.unet, layers, options.rank, options.scale, torch.Generator().manual_seed(seed))
    with learning as parameters, recomputing(image_model, None, recompute):
        alphas, models = to_the_end(model, alphas_cumprod("image")), (image_model.unet,)
        yield Task(image_model, lambda _: nullcontext(), parameters, alphas, file, options.notes(), models)


LISTS = ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output")  # it pops from them


@contextmanager
def animated(
    model: ModelPatcher, start: Start, dtype: torch.dtype, recompute: bool
) -> Iterator[tuple[ImageModel, Moving]]:
    """A frozen copy of a MODEL's UNet, and how motion gets into it for a call."""
    device = next(start.model.parameters()).device
    image_model = frozen_copy(model, patched_weights(model, "diffusion_model."), device, dtype)

    slots, res_norms = unet_slots(image_model.unet), unet_norms(image_model.unet)
    norms, limit = ExitStack(), start.model.config.pe_length

    @contextmanager
    def moving(frames: int) -> Iterator[None]:
        if frames > limit:
            raise ValueError(
                f"{frames} frames are more than the {limit} that the motion module was made for: set fewer."
            )
        norms.close()
        if start.family.unet_norms_over_frames:  # until the next call: the backward pass may compute this one again
            norms.enter_context(group_norms_over_frames(res_norms, frames))
        with motion_hooks(slots, start.model, frames):
            yield

    with norms, recomputing(image_model, start.model, recompute):
        yield image_model, moving


def recomputing(image_model: ImageModel, motion_model: MotionModel | None, recompute: bool):
    models = [image_model.unet, *([] if motion_model is None else [motion_model])]
    return recomputed(*models) if recompute else nullcontext()


def noise_schedule(model: ModelPatcher, start: Start, name: str) -> Tensor:
    """By name, or that of the motion model's family."""
    if name != "family":
        return to_the_end(model, alphas_cumprod(name))
    family = BETA_SCHEDULES[start.family.beta_schedule]
    evenly = "motion" if family.beta_schedule == "sqrt_linear" else "image"
    return to_the_end(model, alphas_cumprod(evenly, family.linear_start, family.linear_end))


def to_the_end(model: ModelPatcher, alphas: Tensor) -> Tensor:
    """The same schedule, but up to nothing but noise where a MODEL samples with zero terminal SNR (arXiv 2305.08891,
    section 3.1), as set_beta_schedule gives it to the sampler."""
    if not getattr(model.get_model_object("model_sampling"), "zsnr", False):
        return alphas
    return 1 / (1 + rescale_zero_terminal_snr_sigmas(((1 - alphas) / alphas).sqrt()) ** 2)
