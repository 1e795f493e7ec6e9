"""Inputs of old nodes: their names, types, defaults and limits. Needs no ComfyUI.

Types are spelled as in ComfyUI-AnimateDiff-Evolved, so that a link to one of its nodes that nothing replaces stays
visible, and fits again once that pack is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .enumerations import BETA_SCHEDULES, FUSES, INTERPOLATIONS, NOISE_TYPES, SEED_GENERATORS

FAR = 2**53 - 1
MODEL_FOLDER, LORA_FOLDER = "animatediff_models", "animatediff_motion_lora"


@dataclass(frozen=True)
class Input:
    """An input of an old node; one with a default is a widget."""

    name: str
    type: str
    default: Any = None
    tooltip: str = ""
    optional: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Limits and choices, by the names that ComfyUI gives them."""
    folder: str = ""
    """The folder below models/ whose files are the choices."""
    instead: str = ""
    """What to do instead, for an input that is not carried over."""
    unused: bool = False
    """The widget has no counterpart in the stand-in node."""
    formerly: str = ""
    """The input's name in older versions."""

    @property
    def is_widget(self) -> bool:
        return self.default is not None

    def accepts(self, value: Any) -> bool:
        """Whether a saved value is of the widget's type. When a pack inserted a widget, the page gave the values after
        it to the wrong ones."""
        if self.default is None or isinstance(self.default, str):
            return self.default is None or isinstance(value, str)
        if isinstance(self.default, bool):
            return isinstance(value, bool) or value in self.settings.get("options", ())
        return isinstance(value, (int, float)) and not isinstance(value, bool)


TYPES = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}


def widgets(**defaults: Any) -> tuple[Input, ...]:
    """Return the widgets of a node that only the converter reads: a default tells the type."""
    return tuple(Input(name, TYPES[type(default)], default) for name, default in defaults.items())


def unused(name: str, default: Any) -> Input:
    return Input(name, TYPES[type(default)], default, unused=True)


def not_carried_over(name: str, instead: str) -> Input:
    """Return an input that only shows where something was linked. Without it the link would vanish silently."""
    return Input(name, name.upper(), tooltip=f"Not carried over: {instead}.", optional=True, instead=instead)


def percent(name: str, default: float, tooltip: str, optional: bool = False) -> Input:
    return Input(name, "FLOAT", default, tooltip, optional, {"min": 0.0, "max": 1.0, "step": 0.001})


def combo(name: str, default: str, options: Mapping[str, Any], tooltip: str, optional: bool = False) -> Input:
    return Input(name, "COMBO", default, tooltip, optional, {"options": list(options)})


def file(name: str, folder: str) -> Input:
    return Input(name, "COMBO", "", f"A file of models/{folder}, .safetensors or .ckpt.", folder=folder)


def socket(name: str, type: str, tooltip: str) -> Input:
    return Input(name, type, tooltip=tooltip, optional=True)


def required(name: str, type: str, tooltip: str) -> Input:
    return Input(name, type, tooltip=tooltip)


LARGE = {"min": 0.0, "max": 1000.0, "step": 0.001}

# Motion modules

MODEL = required("model", "MODEL", "A checkpoint of the base that the motion module was made for.")
MODEL_NAME = file("model_name", MODEL_FOLDER)
BETA_SCHEDULE = combo(
    "beta_schedule",
    "autoselect",
    BETA_SCHEDULES,
    "Noise schedule of the model. Autoselect takes the one that the motion module was trained with.",
)
CONTEXTS = socket("context_options", "CONTEXT_OPTIONS", "Windows for long clips.")
SAMPLE_SETTINGS = socket("sample_settings", "SAMPLE_SETTINGS", "The noise that clips begin with.")
M_MODELS = socket("m_models", "M_MODELS", "From Apply AnimateDiff Model.")
PREV_M_MODELS = socket("prev_m_models", "M_MODELS", "Further motion modules.")
MOTION_MODEL = required("motion_model", "MOTION_MODEL_ADE", "A motion module.")
MOTION_LORA = socket("motion_lora", "MOTION_LORA", "Motion LoRAs, such as camera movements.")
PREV_MOTION_LORA = socket("prev_motion_lora", "MOTION_LORA", "Further motion LoRAs.")
LORA_NAME = Input(
    "name",
    "COMBO",
    "",
    f"A file of models/{LORA_FOLDER}, .safetensors or .ckpt.",
    folder=LORA_FOLDER,
    formerly="lora_name",
)
LORA_STRENGTH = Input(
    "strength", "FLOAT", 1.0, "How much it alters the motion module.", settings={"min": 0.0, "max": 10.0, "step": 0.001}
)
SCALE = socket("scale_multival", "MULTIVAL", "How sharply frames follow each other.")
EFFECT = socket("effect_multival", "MULTIVAL", "How much of the motion is added.")
FLOAT_VAL = Input("float_val", "FLOAT", 1.0, "For the whole clip.", settings=LARGE)
MASK = socket("mask_optional", "MASK", "Where the value counts; black is 0.")
MOTION_SCALE = Input("motion_scale", "FLOAT", 1.0, "How sharply frames follow each other.", True, LARGE)
APPLY_V2_PROPERLY = Input(
    "apply_v2_models_properly",
    "BOOLEAN",
    True,
    "Not carried over: v2 modules are always applied as they were trained.",
    True,
)
BEGINS = percent("start_percent", 0.0, "Part of the sampling after which it begins to work.")
ENDS = percent("end_percent", 1.0, "Part of the sampling after which it rests.")
AD_SETTINGS = not_carried_over("ad_settings", "set stretch_to of Load Motion Module to get longer movements")
AD_KEYFRAMES = not_carried_over("ad_keyframes", "use Motion Strength with a Motion Curve over the sampling")
PER_BLOCK = not_carried_over("per_block", "use Motion Strength per Level")

# Windows

LENGTH = Input("context_length", "INT", 16, "Frames in a window.", settings={"min": 1, "max": 128})
OVERLAP = Input("context_overlap", "INT", 4, "Frames shared with the next window.", settings={"min": 0, "max": 128})
STRIDE = Input(
    "context_stride", "INT", 1, "From 2 on, also windows of every 2nd, 4th ... frame.", settings={"min": 1, "max": 32}
)
CLOSED_LOOP = Input("closed_loop", "BOOLEAN", False, "The last frame leads to the first.")
FUSE = combo(
    "fuse_method",
    "pyramid",
    FUSES,
    "How overlapping windows are blended. Experimental methods are not carried over: choose another.",
    optional=True,
)
ON_EQUAL_LENGTH = Input(
    "use_on_equal_length", "BOOLEAN", False, "A closed loop also of clips that are exactly as long as a window.", True
)
START = percent("start_percent", 0.0, "From where in the sampling on these windows are used.", optional=True)
GUARANTEE_STEPS = Input(
    "guarantee_steps", "INT", 1, "Not carried over: windows change where the next ones start.", True,
    {"min": 0, "max": FAR},
)  # fmt: skip
PREV_CONTEXT = socket("prev_context", "CONTEXT_OPTIONS", "Windows that are used before these start.")
VIEW_OPTS = not_carried_over("view_opts", "set 'within' of Sliding Context to the motion module")

# Noise

BATCH_OFFSET = Input(
    "batch_offset",
    "INT",
    0,
    "Frames whose noise is left out at the beginning.",
    settings={"min": 0, "max": FAR},
)
NOISE_TYPE = combo("noise_type", "default", NOISE_TYPES, "What the frames' noise has in common.")
SEED_GEN = combo(
    "seed_gen",
    "comfy",
    SEED_GENERATORS,
    "One seed for the clip (comfy), or one for each frame (auto1111); always drawn on the CPU.",
)
SEED_OFFSET = Input("seed_offset", "INT", 0, "Added to the seed.", settings={"min": -FAR, "max": FAR})
SEED_OVERRIDE = Input(
    "seed_override",
    "INT",
    tooltip="Instead of the seed.",
    optional=True,
    settings={"force_input": True, "min": 0, "max": 2**64 - 1},
)
SAMPLING = tuple(
    not_carried_over(name, instead)
    for name, instead in {
        "noise_layers": "use Clip Noise",
        "iteration_opts": "use FreeInit in front of the sampler",
        "custom_cfg": "set the cfg of the sampler",
        "sigma_schedule": "choose a beta_schedule",
        "image_inject": "sample in two passes with KSampler (Advanced)",
        "ancestral_opts": "use a sampler that adds no noise of its own",
    }.items()
)

# Prompts

PROMPTS = Input("prompts", "STRING", "", '"frame": "prompt", one after the other.', settings={"multiline": True})
CLIP = required("clip", "CLIP", "The text encoder.")
LATENT = required("latent", "LATENT", "The clip, whose number of frames counts.")
PREPEND = Input(
    "prepend_text", "STRING", None, "Put in front of every prompt.", optional=True, settings={"force_input": True}
)
APPEND = Input(
    "append_text", "STRING", None, "Appended to every prompt.", optional=True, settings={"force_input": True}
)
MAX_LENGTH = Input(
    "max_length",
    "INT",
    0,
    "Frames of the clip. 0 ends it with the last frame that has a prompt.",
    True,
    {"min": 0, "max": 100000},
)
TENSOR_INTERP = combo("tensor_interp", "lerp", INTERPOLATIONS, "How one prompt changes into the next.", optional=True)
VALUES_REPLACE = not_carried_over("values_replace", "write the values into the prompts")
