"""Inputs that several old nodes share, or that a stand-in node shows. Needs no ComfyUI.

Types are spelled as in ComfyUI-AnimateDiff-Evolved, so that a link to one of its nodes that nothing replaces stays
visible, and fits again once that pack is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .enumerations import BETA_SCHEDULES, FUSES, INTERPOLATIONS, NOISE_TYPES, SEED_GENERATORS
from .table import TYPES, Input

FAR = 2**53 - 1


def not_carried_over(name: str, instead: str) -> Input:
    """Return an input that only shows where something was linked. Without it the link would vanish silently."""
    return Input(name, name.upper(), tooltip=f"Not carried over: {instead}.", optional=True, instead=instead)


def number(name: str, default: float, low: float, high: float, tooltip: str, optional: bool = False) -> Input:
    limits = {"min": low, "max": high} | ({"step": 0.001} if isinstance(default, float) else {})
    return Input(name, TYPES[type(default)], default, tooltip, optional, limits)


def combo(name: str, default: str, options: Iterable[str], tooltip: str, optional: bool = False) -> Input:
    return Input(name, "COMBO", default, tooltip, optional, {"options": list(options)})


def file(name: str, folder: str, formerly: str = "") -> Input:
    tooltip = f"A .safetensors or .ckpt file from models/{folder}."
    return Input(name, "COMBO", "", tooltip, folder=folder, formerly=formerly)


def socket(name: str, type: str, tooltip: str, **settings: Any) -> Input:
    """Return an input without a widget, which may be left out."""
    return Input(name, type, tooltip=tooltip, optional=True, settings=settings)


def required(name: str, type: str, tooltip: str) -> Input:
    return Input(name, type, tooltip=tooltip)


# Motion modules
MODEL = required("model", "MODEL", "A checkpoint of the base that the motion module was made for.")
MODEL_NAME = file("model_name", "animatediff_models")
AUTOSELECT = "Noise schedule of the model. Autoselect uses the one that the motion module was trained with."
BETA_SCHEDULE = combo("beta_schedule", "autoselect", BETA_SCHEDULES, AUTOSELECT)
CONTEXTS = socket("context_options", "CONTEXT_OPTIONS", "Windows for long clips.")
SAMPLE_SETTINGS = socket("sample_settings", "SAMPLE_SETTINGS", "The noise that clips start from.")
M_MODELS = socket("m_models", "M_MODELS", "From Apply AnimateDiff Model.")
PREV_M_MODELS = socket("prev_m_models", "M_MODELS", "Further motion modules.")
MOTION_MODEL = required("motion_model", "MOTION_MODEL_ADE", "A motion module.")
MOTION_LORA = socket("motion_lora", "MOTION_LORA", "Motion LoRAs, such as camera movements.")
PREV_MOTION_LORA = socket("prev_motion_lora", "MOTION_LORA", "Further motion LoRAs.")
LORA_NAME = file("name", "animatediff_motion_lora", formerly="lora_name")
LORA_STRENGTH = number("strength", 1.0, 0.0, 10.0, "How strongly the LoRA changes the module.")
KEYS_SCALED = "Motion scale: multiplies the keys of temporal attention."
SCALE = socket("scale_multival", "MULTIVAL", KEYS_SCALED)
EFFECT = socket("effect_multival", "MULTIVAL", "Strength: how strongly the motion module acts.")
FLOAT_VAL = number("float_val", 1.0, 0.0, 1000.0, "The value for the whole clip.")
MASK = socket("mask_optional", "MASK", "Where the value applies; black is 0.")
MOTION_SCALE = number("motion_scale", 1.0, 0.0, 1000.0, KEYS_SCALED, optional=True)
AS_TRAINED = "Not carried over: v2 modules are always applied as they were trained."
APPLY_V2_PROPERLY = Input("apply_v2_models_properly", "BOOLEAN", True, AS_TRAINED, optional=True)
BEGINS = number("start_percent", 0.0, 0.0, 1.0, "Point in the sampling, from 0 to 1, at which it starts to act.")
ENDS = number("end_percent", 1.0, 0.0, 1.0, "Point in the sampling, from 0 to 1, at which it stops acting.")
AD_SETTINGS = not_carried_over("ad_settings", "set stretch_to of Load Motion Module to get longer movements")
AD_KEYFRAMES = not_carried_over("ad_keyframes", "use Motion Strength with a Motion Curve over the sampling")
PER_BLOCK = not_carried_over("per_block", "use Motion Strength per Level")

# Windows
LENGTH = number("context_length", 16, 1, 128, "Frames per window.")
OVERLAP = number("context_overlap", 4, 0, 128, "Frames that a window shares with the next one.")
STRIDE = number("context_stride", 1, 1, 32, "From 2 on, adds windows of every 2nd, 4th, ... frame.")
CLOSED_LOOP = Input("closed_loop", "BOOLEAN", False, "Makes the last frame lead into the first.")
BLENDED = "How overlapping windows are blended. Experimental methods are not carried over: choose another."
FUSE = combo("fuse_method", "pyramid", FUSES, BLENDED, optional=True)
EQUAL = "Also closes the loop of clips that are exactly as long as a window."
ON_EQUAL_LENGTH = Input("use_on_equal_length", "BOOLEAN", False, EQUAL, optional=True)
TAKE_OVER = "Point in the sampling, from 0 to 1, at which these windows take over."
START = number("start_percent", 0.0, 0.0, 1.0, TAKE_OVER, optional=True)
NEXT = "Not carried over: these windows are used until the next ones start."
GUARANTEE_STEPS = number("guarantee_steps", 1, 0, FAR, NEXT, optional=True)
PREV_CONTEXT = socket("prev_context", "CONTEXT_OPTIONS", "Windows to use before these start.")
VIEW_OPTS = not_carried_over("view_opts", "set 'within' of Sliding Context to the motion module")

# Noise
BATCH_OFFSET = number("batch_offset", 0, 0, FAR, "Number of frames whose noise is skipped at the beginning.")
NOISE_TYPE = combo("noise_type", "default", NOISE_TYPES, "Kind of noise that the frames start from.")
DRAWN = "comfy: one seed for the whole clip. auto1111: one seed per frame. Noise is always drawn on the CPU."
SEED_GEN = combo("seed_gen", "comfy", SEED_GENERATORS, DRAWN)
SEED_OFFSET = number("seed_offset", 0, -FAR, FAR, "Added to the sampler's seed.")
SEED_OVERRIDE = socket("seed_override", "INT", "Replaces the sampler's seed.", force_input=True, min=0, max=2**64 - 1)
NOT_SAMPLED = (
    not_carried_over("noise_layers", "use Clip Noise"),
    not_carried_over("iteration_opts", "put FreeInit before the sampler"),
    not_carried_over("custom_cfg", "set the cfg of the sampler"),
    not_carried_over("sigma_schedule", "choose a beta_schedule"),
    not_carried_over("image_inject", "sample in two passes with KSampler (Advanced)"),
    not_carried_over("ancestral_opts", "use a sampler that adds no noise of its own"),
)

# Prompts
PROMPTS = Input("prompts", "STRING", "", '"frame": "prompt" pairs, separated by commas.', settings={"multiline": True})
CLIP = required("clip", "CLIP", "The text encoder.")
LATENT = required("latent", "LATENT", "The clip. Its number of frames is used.")
PREPEND = socket("prepend_text", "STRING", "Prepended to every prompt.", force_input=True)
APPEND = socket("append_text", "STRING", "Appended to every prompt.", force_input=True)
LENGTH_OF_CLIP = "Number of frames in the clip. 0 ends the clip at the last frame that has a prompt."
MAX_LENGTH = number("max_length", 0, 0, 100000, LENGTH_OF_CLIP, optional=True)
TENSOR_INTERP = combo("tensor_interp", "lerp", INTERPOLATIONS, "How one prompt blends into the next.", optional=True)
VALUES_REPLACE = not_carried_over("values_replace", "write the values into the prompts")
