"""Touches comfy. Loaders and Use Evolved Sampling of old workflows: where motion modules, windows and noise meet."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..motion_models.loader import LoadedMotionModel, load_motion_model
from ..motion_models.lora import apply_motion_lora
from ..nodes.model_files import MOTION_LORAS, MOTION_MODULES
from ..sampling import curves
from ..sampling.animate import MotionSettings, animate
from ..sampling.clips import apply_sliding_context, prepare_clips
from ..sampling.context_windows import ContextOptions
from ..sampling.noise import KEY
from ..sampling.strength import MotionStrength
from .beta_schedules import set_old_beta_schedule
from .enumerations import KEEP
from .stand_in_noise import NOT_SET, NoiseSettings

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class AppliedMotionModel(NamedTuple):
    """One entry of the tuple in an M_MODELS socket, which begins with the last one added."""

    motion: LoadedMotionModel
    settings: MotionSettings


class MotionLoraFile(NamedTuple):
    """One entry of the tuple in a MOTION_LORA socket."""

    path: str
    strength: float


Multival = float | curves.Curve
Loras = tuple[MotionLoraFile, ...]


def load(model_name: str) -> LoadedMotionModel:
    return load_motion_model(MOTION_MODULES.path(model_name))


def add_lora(name: str, strength: float, prev_motion_lora: Loras = ()) -> Loras:
    return (*prev_motion_lora, MotionLoraFile(MOTION_LORAS.path(name), strength))


def multival(float_val: float | list[float], mask_optional: Any = None) -> Multival:
    if isinstance(float_val, (int, float)):
        return float_val if mask_optional is None else curves.Curve(curves.from_mask(mask_optional, 0.0, float_val))
    if mask_optional is not None:
        raise ValueError("A list of values and a mask are not carried over together: disconnect one of them.")
    return curves.Curve(curves.from_numbers(float_val))


def apply(
    motion_model: LoadedMotionModel,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    motion_lora: Loras = (),
    scale_multival: Multival = 1.0,
    effect_multival: Multival = 1.0,
    prev_m_models: tuple[AppliedMotionModel, ...] = (),
    motion_scale: float = 1.0,
) -> tuple[AppliedMotionModel, ...]:
    """Return a motion module with its LoRAs, and those before it. The node that uses them sets the noise schedule."""
    for lora in motion_lora:
        motion_model = apply_motion_lora(motion_model, lora.path, lora.strength)
    settings = MotionSettings(
        motion_scale=motion_scale,
        start_percent=start_percent,
        end_percent=end_percent,
        beta_schedule=KEEP,
        motion_strength=(MotionStrength(strength=effect_multival, motion_scale=scale_multival),),
    )
    return (AppliedMotionModel(motion_model, settings), *prev_m_models)


def loader(
    model: ModelPatcher,
    model_name: str,
    beta_schedule: str,
    context_options: tuple[ContextOptions, ...] = (),
    sample_settings: NoiseSettings = NOT_SET,
    **strength,
) -> ModelPatcher:
    return evolved(model, beta_schedule, apply(load(model_name), **strength), context_options, sample_settings)


def legacy_loader(model_name: str, apply_v2_models_properly: bool = True, **inputs) -> ModelPatcher:
    motion = load(model_name)
    if motion.config.mid and not apply_v2_models_properly:
        logging.warning(
            f"AnimateDiff: apply_v2_models_properly is always on; {motion.name} is applied as it was trained."
        )
    return loader(model_name=model_name, **inputs)


def evolved(
    model: ModelPatcher,
    beta_schedule: str,
    m_models: tuple[AppliedMotionModel, ...] = (),
    context_options: tuple[ContextOptions, ...] = (),
    sample_settings: NoiseSettings = NOT_SET,
) -> ModelPatcher:
    """Return a clone of `model` with all of these. The first motion module decides what autoselect is."""
    model = model.clone()
    set_old_beta_schedule(model, beta_schedule, m_models[0].motion.family if m_models else None)
    for motion, settings in m_models:
        model = animate(model, motion, settings)
    for options in context_options:
        model = apply_sliding_context(model, replace(options, free_noise=sample_settings.noise_type == "FreeNoise"))
    first = min(context_options, key=lambda options: options.start_percent, default=None)
    model_options: dict[str, Any] = model.model_options
    arrangements = sample_settings.arrangements(first.length if first else None)
    model_options[KEY] = (*model_options.get(KEY, ()), *arrangements)
    return prepare_clips(model)
