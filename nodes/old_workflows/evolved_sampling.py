"""Use Evolved Sampling and the loaders of old workflows: where motion modules, windows and noise come together."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ...motion_models.loader import load_motion_model
from ...sampling.animate import animate
from ...sampling.clips import apply_sliding_context, prepare_clips
from ...sampling.context_windows import ContextOptions
from ...sampling.noise import KEY
from ..model_files import MOTION_MODULES
from . import sockets
from .beta_schedules import AUTOSELECT, OLD_BETA_SCHEDULES, with_beta_schedule
from .motion_models import EFFECT, LORA, SCALE, applied, model_name
from .sample_settings import NOT_SET, NoiseSettings
from .sockets import AppliedMotionModel, MotionLoraFile

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

DESCRIPTION = "From an old workflow. In new graphs Load Motion Module, Apply AnimateDiff and Sliding Context do this."
MODEL = io.Model.Input("model", tooltip="A checkpoint of the base that the motion module was made for.")
BETA_SCHEDULE = io.Combo.Input(
    "beta_schedule",
    options=list(OLD_BETA_SCHEDULES),
    default=AUTOSELECT,
    tooltip="Noise schedule of the model. Autoselect takes the one that the motion module was trained with.",
)
CONTEXTS = sockets.ContextOptions.Input("context_options", optional=True, tooltip="Windows for long clips.")
SETTINGS = sockets.SampleSettings.Input("sample_settings", optional=True, tooltip="The noise that clips begin with.")
ANIMATED = io.Model.Output(tooltip="The model, ready for any sampler.")


def evolved(
    model: ModelPatcher,
    motion_models: tuple[AppliedMotionModel, ...],
    beta_schedule: str,
    contexts: tuple[ContextOptions, ...] = (),
    noise: NoiseSettings = NOT_SET,
) -> io.NodeOutput:
    """A clone of `model` with all of these. The first motion module decides what autoselect is."""
    model = with_beta_schedule(model, beta_schedule, motion_models[0].motion.family if motion_models else None)
    for motion, how in motion_models:
        model = animate(model, motion, how)
    for options in contexts:
        model = apply_sliding_context(model, replace(options, free_noise=noise.noise_type == "FreeNoise"))
    first = min(contexts, key=lambda each: each.start_percent, default=None)
    settings: dict[str, Any] = model.model_options
    settings[KEY] = (*settings.get(KEY, ()), *noise.arrangements(first.length if first else None))
    return io.NodeOutput(prepare_clips(model))


class OldUseEvolvedSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        motion_models = sockets.MotionModels.Input("m_models", optional=True, tooltip="From Apply AnimateDiff Model.")
        inputs = [MODEL, BETA_SCHEDULE, motion_models, CONTEXTS, SETTINGS]
        return sockets.old_node("UseEvolvedSampling", "Use Evolved Sampling", DESCRIPTION, inputs, ANIMATED)

    @classmethod
    def execute(
        cls, model, beta_schedule: str, m_models=(), context_options=(), sample_settings=NOT_SET
    ) -> io.NodeOutput:
        return evolved(model, m_models, beta_schedule, context_options, sample_settings)


class OldAnimateDiffLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [MODEL, model_name(), BETA_SCHEDULE, CONTEXTS, LORA, SETTINGS, SCALE, EFFECT]
        inputs += sockets.not_carried_over("ad_settings", "ad_keyframes", "per_block")
        return sockets.old_node("AnimateDiffLoaderGen1", "AnimateDiff Loader", DESCRIPTION, inputs, ANIMATED)

    @classmethod
    def execute(
        cls,
        model,
        model_name: str,
        beta_schedule: str,
        context_options: tuple[ContextOptions, ...] = (),
        motion_lora: tuple[MotionLoraFile, ...] = (),
        sample_settings: NoiseSettings = NOT_SET,
        scale_multival=1.0,
        effect_multival=1.0,
        **others,
    ) -> io.NodeOutput:
        sockets.refuse(others)
        motion = load_motion_model(MOTION_MODULES.path(model_name))
        motion = applied(motion, motion_lora, scale=scale_multival, effect=effect_multival)
        return evolved(model, (motion,), beta_schedule, context_options, sample_settings)

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **_):
        return MOTION_MODULES.fingerprint(model_name)


class OldAnimateDiffLoaderWithContext(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [MODEL, model_name(), BETA_SCHEDULE, CONTEXTS, LORA, SETTINGS]
        inputs += [
            io.Float.Input(
                "motion_scale",
                default=1.0,
                min=0.0,
                max=1000.0,
                step=0.001,
                optional=True,
                tooltip="How sharply frames follow each other.",
            ),
            io.Boolean.Input(
                "apply_v2_models_properly",
                default=True,
                optional=True,
                tooltip="Not carried over: v2 modules are always applied as they were trained.",
            ),
            *sockets.not_carried_over("ad_settings", "ad_keyframes"),
        ]
        name = "AnimateDiff Loader [Legacy]"
        return sockets.old_node("AnimateDiffLoaderWithContext", name, DESCRIPTION, inputs, ANIMATED)

    @classmethod
    def execute(
        cls,
        model,
        model_name: str,
        beta_schedule: str,
        context_options: tuple[ContextOptions, ...] = (),
        motion_lora: tuple[MotionLoraFile, ...] = (),
        sample_settings: NoiseSettings = NOT_SET,
        motion_scale: float = 1.0,
        apply_v2_models_properly: bool = True,
        **others,
    ) -> io.NodeOutput:
        sockets.refuse(others)
        motion = load_motion_model(MOTION_MODULES.path(model_name))
        if motion.config.mid and not apply_v2_models_properly:
            logging.warning(f"AnimateDiff: {motion.name} is applied as it was trained, apply_v2_models_properly is on.")
        motion = applied(motion, motion_lora, motion_scale)
        return evolved(model, (motion,), beta_schedule, context_options, sample_settings)

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **_):
        return MOTION_MODULES.fingerprint(model_name)
