"""Motion modules of old workflows: loaded, altered and listed before they are applied."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...motion_models.loader import LoadedMotionModel, load_motion_model
from ...motion_models.lora import apply_motion_lora
from ...motion_models.schedules import KEEP
from ...sampling import curves
from ...sampling.animate import MotionSettings
from ...sampling.strength import MotionStrength
from ..model_files import MOTION_LORAS, MOTION_MODULES
from . import sockets
from .sockets import AppliedMotionModel, MotionLoraFile

MOTION_MODEL = sockets.MotionModel.Input("motion_model", tooltip="A motion module.")
LORA = sockets.MotionLoras.Input("motion_lora", optional=True, tooltip="Motion LoRAs, such as camera movements.")
SCALE = sockets.Multival.Input("scale_multival", optional=True, tooltip="How sharply frames follow each other.")
EFFECT = sockets.Multival.Input("effect_multival", optional=True, tooltip="How much of the motion is added.")
APPLIED = sockets.MotionModels.Output(tooltip="For Use Evolved Sampling.")


def model_name() -> io.Combo.Input:
    return io.Combo.Input(
        "model_name",
        options=MOTION_MODULES.choices(),
        tooltip=f"A file of models/{MOTION_MODULES.name}, .safetensors or .ckpt.",
    )


def range_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


def applied(
    motion: LoadedMotionModel,
    loras: tuple[MotionLoraFile, ...] = (),
    motion_scale: float = 1.0,
    scale: float | curves.Curve = 1.0,
    effect: float | curves.Curve = 1.0,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
) -> AppliedMotionModel:
    """A motion module with its LoRAs, which leaves the noise schedule to the node that applies it."""
    for lora in loras:
        motion = apply_motion_lora(motion, lora.path, lora.strength)
    strength = (MotionStrength(effect, scale),)
    return AppliedMotionModel(motion, MotionSettings(1.0, motion_scale, start_percent, end_percent, KEEP, strength))


class OldLoadAnimateDiffModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        description = "From an old workflow. In new graphs Load Motion Module does this."
        inputs = [model_name(), *sockets.not_carried_over("ad_settings")]
        output = sockets.MotionModel.Output(display_name="MOTION_MODEL", tooltip="For Apply AnimateDiff Model.")
        return sockets.old_node("LoadAnimateDiffModel", "Load AnimateDiff Model", description, inputs, output)

    @classmethod
    def execute(cls, model_name: str, **others) -> io.NodeOutput:
        sockets.refuse(others)
        return io.NodeOutput(load_motion_model(MOTION_MODULES.path(model_name)))

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **_):
        return MOTION_MODULES.fingerprint(model_name)


class OldMotionLoraLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        description = "From an old workflow. In new graphs Load Motion LoRA does this, after Load Motion Module."
        tooltip = f"A file of models/{MOTION_LORAS.name}, .safetensors or .ckpt."
        inputs = [
            io.Combo.Input("name", options=MOTION_LORAS.choices(), tooltip=tooltip),
            io.Float.Input(
                "strength", default=1.0, min=0.0, max=10.0, step=0.001, tooltip="How much it alters the motion module."
            ),
            sockets.MotionLoras.Input("prev_motion_lora", optional=True, tooltip="Further motion LoRAs."),
        ]
        output = sockets.MotionLoras.Output(tooltip="For the node that applies the motion module.")
        return sockets.old_node("AnimateDiffLoRALoader", "Load AnimateDiff LoRA", description, inputs, output)

    @classmethod
    def execute(cls, name: str, strength: float, prev_motion_lora: tuple[MotionLoraFile, ...] = ()) -> io.NodeOutput:
        return io.NodeOutput((*prev_motion_lora, MotionLoraFile(MOTION_LORAS.path(name), strength)))

    @classmethod
    def fingerprint_inputs(cls, name: str, **_):
        return MOTION_LORAS.fingerprint(name)


class OldMultival(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        description = "From an old workflow. In new graphs Motion Strength and Motion Curve do this."
        inputs = [
            io.Float.Input("float_val", default=1.0, min=0.0, max=1000.0, step=0.001, tooltip="For the whole clip."),
            io.Mask.Input("mask_optional", optional=True, tooltip="Where the value counts; black is 0."),
        ]
        output = sockets.Multival.Output(tooltip="For scale_multival or effect_multival.")
        return sockets.old_node("MultivalDynamic", "Multival", description, inputs, output)

    @classmethod
    def execute(cls, float_val: float | list[float], mask_optional: Any = None) -> io.NodeOutput:
        if isinstance(float_val, (int, float)):
            if mask_optional is None:
                return io.NodeOutput(float_val)
            return io.NodeOutput(curves.Curve(curves.from_mask(mask_optional, 0.0, float_val)))
        if mask_optional is not None:
            raise ValueError("A list of values and a mask are not carried over together: disconnect one of them.")
        return io.NodeOutput(curves.Curve(curves.from_numbers(float_val)))


class OldApplyAnimateDiffModelSimple(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        description = "From an old workflow. In new graphs Apply AnimateDiff does this."
        inputs = [MOTION_MODEL, LORA, SCALE, EFFECT, *sockets.not_carried_over("ad_keyframes", "per_block")]
        name = "Apply AnimateDiff Model (Simple)"
        return sockets.old_node("ApplyAnimateDiffModelSimple", name, description, inputs, APPLIED)

    @classmethod
    def execute(cls, motion_model, motion_lora=(), scale_multival=1.0, effect_multival=1.0, **others) -> io.NodeOutput:
        sockets.refuse(others)
        return io.NodeOutput((applied(motion_model, motion_lora, scale=scale_multival, effect=effect_multival),))


class OldApplyAnimateDiffModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        description = "From an old workflow. In new graphs Apply AnimateDiff does this, one after the other."
        inputs = [
            MOTION_MODEL,
            range_input("start_percent", 0.0, "Part of the sampling after which it begins to work."),
            range_input("end_percent", 1.0, "Part of the sampling after which it rests."),
            LORA,
            SCALE,
            EFFECT,
            sockets.MotionModels.Input("prev_m_models", optional=True, tooltip="Further motion modules."),
            *sockets.not_carried_over("ad_keyframes", "per_block"),
        ]
        name = "Apply AnimateDiff Model (Adv.)"
        return sockets.old_node("ApplyAnimateDiffModel", name, description, inputs, APPLIED)

    @classmethod
    def execute(
        cls,
        motion_model,
        start_percent: float,
        end_percent: float,
        motion_lora=(),
        scale_multival=1.0,
        effect_multival=1.0,
        prev_m_models: tuple[AppliedMotionModel, ...] = (),
        **others,
    ) -> io.NodeOutput:
        sockets.refuse(others)
        new = applied(motion_model, motion_lora, 1.0, scale_multival, effect_multival, start_percent, end_percent)
        return io.NodeOutput((new, *prev_m_models))
