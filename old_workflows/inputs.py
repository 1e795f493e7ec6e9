"""Inputs that several old nodes share, or that a stand-in node shows. Needs no ComfyUI.

Types are spelled as in ComfyUI-AnimateDiff-Evolved, so that a link to one of its nodes that nothing replaces stays
visible, and fits again once that pack is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .enumerations import BETA_SCHEDULES, CAMERA_MOTIONS, FUSES, INTERPOLATIONS, NOISE_TYPES, SEED_GENERATORS
from .table import TYPES, Input, unused

FAR = 2**53 - 1


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


def refused(name: str, type: str, instead: str) -> Input:
    """Return an input that shows what was linked to it; without it the link would vanish silently."""
    return Input(name, type, tooltip=f"Not carried over: {instead}.", optional=True, instead=instead)


LENS_LIMITS = {"min": 0.0, "max": 1.0, "step": 1e-9}
CONTROL_PERCENTS = "set start_percent and end_percent of Apply ControlNet"
PIA_PRESETS = [
    f"{kind} ({amount} Motion)"
    for kind in ("Animation", "Loop", "Style Transfer")
    for amount in ("Small", "Medium", "Large")
]
KEYS_SCALED = "Motion scale: multiplies the keys of temporal attention."
NOT_CARRIED_OVER = {  # and what to do instead
    "ad_settings": "set stretch_to of Load Motion Module to get longer movements",
    "ad_keyframes": "use Motion Strength with a Motion Curve over the sampling",
    "per_block": "use Motion Strength per Level",
    "view_opts": "set 'within' of Sliding Context to the motion module",
    "noise_layers": "use Clip Noise",
    "iteration_opts": "put FreeInit before the sampler",
    "custom_cfg": "set the cfg of the sampler",
    "sigma_schedule": "choose a beta_schedule",
    "image_inject": "sample in two passes with KSampler (Advanced)",
    "ancestral_opts": "use a sampler that adds no noise of its own",
    "values_replace": "write the values into the prompts",
}
ENTRIES = (
    required("model", "MODEL", "A checkpoint of the base that the motion module was made for."),
    file("model_name", "animatediff_models"),
    combo("beta_schedule", "autoselect", BETA_SCHEDULES,
           "Noise schedule of the model. Autoselect uses the one that the motion module was trained with."),
    socket("context_options", "CONTEXT_OPTIONS", "Windows for long clips."),
    socket("sample_settings", "SAMPLE_SETTINGS", "The noise that clips start from."),
    socket("m_models", "M_MODELS", "From Apply AnimateDiff Model."),
    socket("prev_m_models", "M_MODELS", "Further motion modules."),
    required("motion_model", "MOTION_MODEL_ADE", "A motion module."),
    socket("motion_lora", "MOTION_LORA", "Motion LoRAs, such as camera movements."),
    socket("prev_motion_lora", "MOTION_LORA", "Further motion LoRAs."),
    number("strength", 1.0, 0.0, 10.0, "How strongly the LoRA changes the module."),
    socket("scale_multival", "MULTIVAL", KEYS_SCALED),
    socket("effect_multival", "MULTIVAL", "Strength: how strongly the motion module acts."),
    number("float_val", 1.0, 0.0, 1000.0, "The value for the whole clip."),
    socket("mask_optional", "MASK", "Where the value applies; black is 0."),
    number("motion_scale", 1.0, 0.0, 1000.0, KEYS_SCALED, optional=True),
    Input("apply_v2_models_properly",
           "BOOLEAN", True, "Not carried over: v2 modules are always applied as they were trained.", optional=True),
    number("context_length", 16, 1, 128, "Frames per window."),
    number("context_overlap", 4, 0, 128, "Frames that a window shares with the next one."),
    number("context_stride", 1, 1, 32, "From 2 on, adds windows of every 2nd, 4th, ... frame."),
    Input("closed_loop", "BOOLEAN", False, "Makes the last frame lead into the first."),
    combo("fuse_method", "pyramid", FUSES, optional=True,
          tooltip="How overlapping windows are blended. Experimental methods are not carried over: choose another."),
    Input("use_on_equal_length", "BOOLEAN", False,
          "Also closes the loop of clips that are exactly as long as a window.", optional=True),
    number("start_percent", 0.0, 0.0, 1.0,
           "Point in the sampling, from 0 to 1, at which these windows take over.", optional=True),
    number("guarantee_steps", 1, 0, FAR,
           "Not carried over: these windows are used until the next ones start.", optional=True),
    socket("prev_context", "CONTEXT_OPTIONS", "Windows to use before these start."),
    number("batch_offset", 0, 0, FAR, "Number of frames whose noise is skipped at the beginning."),
    combo("noise_type", "default", NOISE_TYPES, "Kind of noise that the frames start from."),
    combo("seed_gen", "comfy", SEED_GENERATORS,
           "comfy: one seed for the whole clip. auto1111: one seed per frame. Noise is always drawn on the CPU."),
    number("seed_offset", 0, -FAR, FAR, "Added to the sampler's seed."),
    socket("seed_override", "INT", "Replaces the sampler's seed.", force_input=True, min=0, max=2**64 - 1),
    Input("prompts", "STRING", "", '"frame": "prompt" pairs, separated by commas.', settings={"multiline": True}),
    required("clip", "CLIP", "The text encoder."),
    required("latent", "LATENT", "The clip. Its number of frames is used."),
    socket("prepend_text", "STRING", "Prepended to every prompt.", force_input=True),
    socket("append_text", "STRING", "Appended to every prompt.", force_input=True),
    number("max_length", 0, 0, 100000,
           "Number of frames in the clip. 0 ends the clip at the last frame that has a prompt.", optional=True),
    combo("tensor_interp", "lerp", INTERPOLATIONS, "How one prompt blends into the next.", optional=True),
    # Pictures that a clip follows
    required("image", "IMAGE", "One picture, or several as a batch."),
    required("vae", "VAE", "The checkpoint's VAE."),
    required("latent_size", "LATENT", "The clip. The picture gets its size."),
    required("ref_latent", "LATENT", "The picture that the clip follows."),
    number("ref_drift", 0.0, 0.0, 10.0, "How much frames differ from each other."),
    required("cameractrl_poses", "CAMERACTRL_POSES", "Where the camera is in each frame."),
    *(required(name, "CAMERACTRL_POSES", "Camera poses.") for name in ("poses", "poses_first", "poses_last")),
    socket("prev_poses", "CAMERACTRL_POSES", "Poses from whose last one these go on."),
    socket("cameractrl_multival", "MULTIVAL", "How closely the clip follows the camera."),
    file("camera_ctrl", "animatediff_models"),
    *(combo(f"motion_type{n}", "Static", CAMERA_MOTIONS, "A movement of the camera.") for n in ("", *"123456")),
    *(number(f"strength{n}", 1.0, 0.0, 10.0, "Multiplies the movement.") for n in "123456"),
    number("speed", 1.0, -100.0, 100.0, "Multiplies all movements."),
    number("frame_length", 16, 0, FAR, "Number of poses."),
    *(Input(name, "FLOAT", value, "Of the camera, in parts of the picture's size.", settings=LENS_LIMITS)
      for name, value in {"fx": 0.474812461, "fy": 0.844111024, "cx": 0.5, "cy": 0.5}.items()),
    number("orig_pose_width", 1280, 1, FAR, "Width of what was filmed."),
    number("orig_pose_height", 720, 1, FAR, "Height of what was filmed."),
    socket("pia_input", "PIA_INPUT", "How closely each frame follows the picture."),
    required("multival", "MULTIVAL", "How closely each frame follows the picture."),
    socket("mult_multival", "MULTIVAL", "Multiplies the values of the preset."),
    combo("preset", PIA_PRESETS[0], PIA_PRESETS, "How far frames move away from the picture."),
    number("batch_index", 0, -FAR, FAR, "The frame of the picture."),
    combo("scale_method", "nearest-exact", ("nearest-exact", "bilinear", "area", "bicubic", "lanczos"),
          "How the picture is scaled."),
    combo("crop", "center", ("disabled", "center"), "How a picture of another shape fits the clip."),
    file("sparsectrl_name", "controlnet"),
    Input("use_motion", "BOOLEAN", True, "Whether SparseCtrl's own motion modules act."),
    number("motion_strength", 1.0, 0.0, 10.0, "How strongly SparseCtrl's own motion modules act."),
    socket("sparse_method", "SPARSE_METHOD", "The frames of the pictures."),
    combo("context_aware", "nearest_hint", ("nearest_hint", "off"), optional=True,
          tooltip="What a context window of a long clip sees if none of its frames has a picture."),
    *(number(name, 1.0, 0.0, 10.0, "Not carried over: 1 is used.", optional=True)
      for name in ("sparse_hint_mult", "sparse_nonhint_mult", "sparse_mask_mult")),
    Input("indexes", "STRING", "0", "The frame of each picture; -1 is the last one."),
    combo("spread", "uniform", ("uniform", "starting", "ending", "center"), "Where the pictures are in the clip."),
    # ControlNet
    required("positive", "CONDITIONING", "The positive prompt."),
    required("negative", "CONDITIONING", "The negative prompt."),
    required("control_net", "CONTROL_NET", "A ControlNet or SparseCtrl model."),
    socket("model_optional", "MODEL", "A model, handed on."),
    socket("vae_optional", "VAE", "The checkpoint's VAE, for ControlNets that need it."),
    refused("tk_optional", "TIMESTEP_KEYFRAME", CONTROL_PERCENTS),
    refused("timestep_kf", "TIMESTEP_KEYFRAME", CONTROL_PERCENTS),
    refused("latent_kf_override", "LATENT_KEYFRAME", "set one strength for all frames"),
    refused("weights_override", "CONTROL_NET_WEIGHTS", "set the strength"),
    *unused(context_schedule="uniform", adapt_denoise_steps=False, print_schedule=False, print_values=False,
            apply_ref_when_disabled=False),
    *(refused(name, name.upper(), instead) for name, instead in NOT_CARRIED_OVER.items()),
)  # fmt: skip
INPUTS = {entry.name: entry for entry in ENTRIES} | {
    "lora_name": file("name", "animatediff_motion_lora", formerly="lora_name"),
    "begins": number("start_percent", 0.0, 0.0, 1.0, "Point in the sampling, from 0 to 1, at which it starts to act."),
    "ends": number("end_percent", 1.0, 0.0, 1.0, "Point in the sampling, from 0 to 1, at which it stops acting."),
    "control_strength": number("strength", 1.0, 0.0, 10.0, "How strongly the ControlNet acts."),
    "control_mask": refused("mask_optional", "MASK", "use Conditioning (Set Mask)"),
}
"""By the names that the rows of the table call them."""


def entries(names: str) -> tuple[Input, ...]:
    """Return inputs in the order of their names."""
    return tuple(INPUTS[name] for name in names.split())
