"""The AnimateDiff packs' nodes, a row each, from which the stand-in nodes and the converter work. Needs no ComfyUI."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from .common_packs import COMMON_NODES
from .inputs import entries
from .table import Becomes, OldNode, OldOutput, StandIn, names, same, widgets, without

MODEL = OldOutput("MODEL", "The model, ready for any sampler.")
CONTEXT = OldOutput("CONTEXT_OPTIONS", "For Use Evolved Sampling or a loader.", "CONTEXT_OPTS")
MULTIVAL = OldOutput("MULTIVAL", "For scale_multival or effect_multival.")
APPLIED = OldOutput("M_MODELS", "For Use Evolved Sampling.")
MOTION_MODEL = OldOutput("MOTION_MODEL_ADE", "For Apply AnimateDiff Model.", "MOTION_MODEL")
METHOD = OldOutput("SPARSE_METHOD", "For Load SparseCtrl Model.")
PIA_INPUT = OldOutput("PIA_INPUT", "For Apply AnimateDiff-PIA Model.")
LATENT = OldOutput("LATENT", "The latent.")
ENCODED = OldOutput("CONDITIONING", "Conditioning with one entry per frame.")
APPLIES = "Load Motion Module, Apply AnimateDiff and Sliding Context do this"
WINDOWED = "Sliding Context does this, before the sampler"
SCHEDULED = "Prompt Schedule does this"
FOLLOWED = "Keyframe Images and Apply AnimateDiff do this"
FRAMES = "frames of Keyframe Images does this"
FURTHER = "motion_lora scale_multival effect_multival ad_keyframes prev_m_models per_block"
LOADER = "model model_name beta_schedule context_options motion_lora sample_settings"
LAYERED = "fuse_method use_on_equal_length start_percent guarantee_steps prev_context view_opts"
STRIDED = "context_length context_stride context_overlap"
VIEW = {"view_length": 16, "view_stride": 1, "view_overlap": 4}
WEIGHTS = widgets(pw_a=0.0, pw_b=0.0, pw_c=0.0, pw_d=0.0)
AROUND = widgets(print_output=False, pre_text="", app_text="", start_frame=0, end_frame=0) + WEIGHTS


def stand_in(title: str, today: str, inputs: str, *outputs: OldOutput) -> OldNode:
    return OldNode(entries(inputs), stand_in=StandIn(title, today, outputs))


def read(**defaults: Any) -> OldNode:
    """Return the row of a node that only the converter reads, from the defaults of its widgets."""
    return OldNode(widgets(**defaults))


def travel(**first: Any) -> OldNode:
    """Return a row of FizzNodes, which inserted widgets over time, then turned some into sockets."""
    inputs = (*widgets(**first), *AROUND)
    newest = names(inputs)
    printing = (newest, without(newest, "pre_text", "app_text", *names(WEIGHTS)), without(newest, "print_output"))
    cut = ((), ("end_frame",), ("start_frame", "end_frame"))
    return OldNode(inputs, tuple(without(version, *gone) for version in printing for gone in cut))


OLD_NODES: dict[str, OldNode] = {
    # ComfyUI-AnimateDiff-Evolved: what the page replaces
    "ADE_AnimateDiffLoaderGen1": stand_in(
        "AnimateDiff Loader", APPLIES, f"{LOADER} scale_multival effect_multival ad_settings ad_keyframes per_block",
        MODEL,
    ),
    "ADE_AnimateDiffLoaderWithContext": stand_in(
        "AnimateDiff Loader [Legacy]", APPLIES,
        f"{LOADER} motion_scale apply_v2_models_properly ad_settings ad_keyframes", MODEL,
    ),
    "ADE_LoadAnimateDiffModel": stand_in(
        "Load AnimateDiff Model", "Load Motion Module does this", "model_name ad_settings",
        MOTION_MODEL,
    ),
    "ADE_AnimateDiffLoRALoader": stand_in(
        "Load AnimateDiff LoRA", "Load Motion LoRA does this, after Load Motion Module",
        "lora_name strength prev_motion_lora", OldOutput("MOTION_LORA", "For the node that applies the motion module."),
    ),
    "ADE_MultivalDynamic": stand_in(
        "Multival", "Motion Strength and Motion Curve do this", "float_val mask_optional", MULTIVAL
    ),
    "ADE_ApplyAnimateDiffModelSimple": stand_in(
        "Apply AnimateDiff Model (Simple)", "Apply AnimateDiff does this",
        "motion_model motion_lora scale_multival effect_multival ad_keyframes per_block", APPLIED,
    ),
    "ADE_ApplyAnimateDiffModel": stand_in(
        "Apply AnimateDiff Model (Adv.)", "a chain of Apply AnimateDiff nodes does this",
        "motion_model begins ends motion_lora scale_multival effect_multival prev_m_models ad_keyframes per_block",
        APPLIED,
    ),
    "ADE_UseEvolvedSampling": stand_in(
        "Use Evolved Sampling", APPLIES, "model beta_schedule m_models context_options sample_settings", MODEL
    ),
    "ADE_StandardStaticContextOptions": stand_in(
        "Context Options: Standard Static", WINDOWED, f"context_length context_overlap {LAYERED}", CONTEXT
    ),
    "ADE_StandardUniformContextOptions": stand_in(
        "Context Options: Standard Uniform", WINDOWED, f"{STRIDED} {LAYERED}", CONTEXT
    ),
    "ADE_LoopedUniformContextOptions": stand_in(
        "Context Options: Looped Uniform", WINDOWED, f"{STRIDED} closed_loop {LAYERED}", CONTEXT
    ),
    "ADE_AnimateDiffUniformContextOptions": OldNode(
        entries(f"{STRIDED} context_schedule closed_loop {LAYERED}"),
        replaced_by="ADN_OldLoopedUniformContextOptions",
        missing={"fuse_method": "flat"},
    ),
    "ADE_BatchedContextOptions": stand_in(
        "Context Options: Batched", WINDOWED, "context_length start_percent guarantee_steps prev_context", CONTEXT
    ),
    "ADE_AnimateDiffSamplingSettings": stand_in(
        "Sample Settings", "Sliding Context (FreeNoise) and Clip Noise do this",
        "batch_offset noise_type seed_gen seed_offset adapt_denoise_steps seed_override noise_layers iteration_opts "
        "custom_cfg sigma_schedule image_inject ancestral_opts",
        OldOutput("SAMPLE_SETTINGS", "For Use Evolved Sampling or a loader.", "settings"),
    ),
    "ADE_PromptScheduling": stand_in(
        "Prompt Scheduling", SCHEDULED,
        "prompts clip prepend_text append_text print_schedule max_length tensor_interp values_replace", ENCODED,
    ),
    "ADE_PromptSchedulingLatents": stand_in(
        "Prompt Scheduling [Latents]", SCHEDULED,
        "prompts clip latent prepend_text append_text print_schedule tensor_interp values_replace",
        ENCODED, LATENT,
    ),
    "ADE_EmptyLatentImageLarge": OldNode(
        widgets(width=512, height=512, batch_size=1),
        becomes=Becomes("EmptyLatentImage", "width height batch_size"),
        replaced_by="EmptyLatentImage",
    ),
    "ADE_LoadAnimateLCMI2VModel": stand_in(
        "Load AnimateLCM-I2V Model", "Load Motion Module does this", "model_name ad_settings", MOTION_MODEL,
        OldOutput("MOTION_MODEL_ADE", "Not carried over.", "encoder_only"),
    ),
    "ADE_ApplyAnimateLCMI2VModel": stand_in(
        "Apply AnimateLCM-I2V Model", FOLLOWED,
        f"motion_model ref_latent ref_drift apply_ref_when_disabled begins ends {FURTHER}", APPLIED,
    ),
    "ADE_UpscaleAndVAEEncode": stand_in(
        "Scale Ref Image and VAE Encode", "Keyframe Images does this", "image vae latent_size scale_method crop", LATENT
    ),
    "ADE_ApplyAnimateDiffModelWithPIA": stand_in(
        "Apply AnimateDiff-PIA Model", FOLLOWED, f"motion_model image vae begins ends pia_input {FURTHER}", APPLIED
    ),
    "ADE_InputPIA_Multival": stand_in(
        "PIA Input [Multival]", "keyframe_strength of Apply AnimateDiff does this", "multival", PIA_INPUT
    ),
    "ADE_InputPIA_PaperPresets": stand_in(
        "PIA Input [Paper Presets]", "keyframe_motion of Apply AnimateDiff does this",
        "preset batch_index mult_multival print_values", PIA_INPUT,
    ),
    # Advanced-ControlNet: what the page replaces
    "ACN_SparseCtrlLoaderAdvanced": stand_in(
        "Load SparseCtrl Model", "Load SparseCtrl does this",
        "sparsectrl_name use_motion motion_strength motion_scale sparse_method tk_optional context_aware "
        "sparse_hint_mult sparse_nonhint_mult sparse_mask_mult",
        OldOutput("CONTROL_NET", "For a node that applies a ControlNet."),
    ),
    "ACN_SparseCtrlIndexMethodNode": stand_in("SparseCtrl Index Method", FRAMES, "indexes", METHOD),
    "ACN_SparseCtrlSpreadMethodNode": stand_in("SparseCtrl Spread Method", FRAMES, "spread", METHOD),
    "ACN_SparseCtrlRGBPreprocessor": stand_in(
        "RGB SparseCtrl", "Keyframe Images does this", "image vae latent_size",
        OldOutput("IMAGE", "For the node that applies the SparseCtrl.", "proc_IMAGE"),
    ),
    **{
        name: replace(
            stand_in(
                "Apply Advanced ControlNet", "Apply ControlNet does this",
                "positive negative control_net image control_strength begins ends control_mask timestep_kf "
                "latent_kf_override weights_override model_optional vae_optional",
                OldOutput("CONDITIONING", "The positive prompt.", "positive"),
                OldOutput("CONDITIONING", "The negative prompt.", "negative"),
                OldOutput("MODEL", "The same model.", "model_opt"),
            ),
            becomes=Becomes(
                "ControlNetApplyAdvanced",
                "positive negative control_net image vae=vae_optional strength start_percent end_percent",
                (0, 1, "model_optional"),
            ),
        )
        for name in ("ACN_AdvancedControlNetApply", "ACN_AdvancedControlNetApply_v2")
    },
    # and what the converter alone rewrites
    "AnimateDiffLoaderV1": read(model_name="", unlimited_area_hack=False, beta_schedule="autoselect"),
    "ADE_AnimateDiffLoaderV1Advanced": OldNode(
        (*widgets(model_name="", unlimited_area_hack=False), *entries(f"{STRIDED} context_schedule closed_loop"),
         *widgets(beta_schedule="autoselect")),
    ),
    "ADE_InjectI2VIntoAnimateDiffModel": read(model_name=""),
    "ADE_LoadAnimateDiffModelWithCameraCtrl": read(model_name="", camera_ctrl=""),
    "ADE_InjectPIAIntoAnimateDiffModel": read(model_name=""),
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": read(start_percent=0.0, end_percent=1.0),
    "ADE_AdjustPESweetspotStretch": read(sweetspot=16, new_sweetspot=16, print_adjustment=False),
    "ADE_ContextExtras_ContextRef": read(start_percent=0.0, end_percent=0.25),
    "ADE_ContextExtras_NaiveReuse": read(start_percent=0.0, end_percent=0.15, weighted_mean=0.95),
    "ADE_ViewsOnlyContextOptions": OldNode(entries("start_percent guarantee_steps")),
    "ADE_StandardStaticViewOptions": read(view_length=16, view_overlap=4, fuse_method="pyramid"),
    "ADE_StandardUniformViewOptions": read(**VIEW, fuse_method="pyramid"),
    "ADE_LoopedUniformViewOptions": read(
        **VIEW, closed_loop=False, fuse_method="pyramid", use_on_equal_length=False
    ),
    "ADE_IterationOptsDefault": read(iterations=1, iter_batch_offset=0, iter_seed_offset=1),
    "ADE_IterationOptsFreeInit": read(
        iterations=2, filter="gaussian", d_s=0.25, d_t=0.25, n_butterworth=4, sigma_step=999, apply_to_1st_iter=False,
        init_type="FreeInit [sampler sigma]", iter_batch_offset=0, iter_seed_offset=1,
    ),
    "ADE_CustomCFGSimple": read(cfg=8.0),
    "ADE_CustomCFG": read(),
    "ADE_SigmaSchedule": read(sigma_schedule="autoselect"),
    "ADE_MultivalScaledMask": read(min_float_val=0.0, max_float_val=1.0, scaling="absolute"),
    "ADE_AnimateDiffKeyframe": read(start_percent=0.0, inherit_missing=True, guarantee_steps=1),
    "ADE_ValueScheduling": read(values="", print_schedule=False, max_length=0),
    "ADE_ValueSchedulingLatents": read(values="", print_schedule=False),
    "CheckpointLoaderSimpleWithNoiseSelect": same(
        "CheckpointLoaderSimple", "ckpt_name", outputs=(0, 1, 2),
        ckpt_name="", beta_schedule="autoselect", use_custom_scale_factor=False, scale_factor=0.18215,
    ),
    "ADE_AnimateDiffUnload": same("", "", outputs=["model"]),
    "ADE_FloatToFloats": same("", "", outputs=["FLOAT"]),
    # FizzNodes
    "BatchPromptSchedule": travel(text="", max_frames=16),
    "BatchPromptScheduleLatentInput": travel(text=""),
    # The first ComfyUI pack, by ArtVentureX
    "AnimateDiffModuleLoader": OldNode(entries("model_name")),
    "AnimateDiffLoraLoader": OldNode(entries("lora_name strength")),
    "AnimateDiffSlidingWindowOptions": OldNode(entries(f"{STRIDED} context_schedule closed_loop")),
    "AnimateDiffSampler": read(
        inject_method="default", frame_number=16, seed=0, control_after_generate="fixed", steps=20, cfg=8.0,
        sampler_name="euler", scheduler="normal", denoise=1.0,
    ),
    **COMMON_NODES,
}  # fmt: skip
ALIASES = {  # the same node under another name
    "AnimateDiffCombine": "ADE_AnimateDiffCombine",
    "AnimateDiffLoader": "AnimateDiffLoaderV1",
    "VHS_LoadVideoPath": "VHS_LoadVideo",
    "VHS_LoadVideoFFmpeg": "VHS_LoadVideo",
    "VHS_LoadVideoFFmpegPath": "VHS_LoadVideo",
    "VHS_LoadImagesPath": "VHS_LoadImages",
    "LoadImagesFromDirectory": "VHS_LoadImages",
    "ADE_MultivalDynamicFloatInput": "ADE_MultivalDynamic",
    "ADE_MultivalDynamicFloats": "ADE_MultivalDynamic",
    "ACN_ControlNetLoaderAdvanced": "ControlNetLoaderAdvanced",
    "ACN_DiffControlNetLoaderAdvanced": "DiffControlNetLoaderAdvanced",
    "ACN_AdvancedControlNetApplySingle_v2": "ACN_AdvancedControlNetApplySingle",
}
PREFIXES = ("ADE_", "VHS_", "ACN_", "AnimateDiff", "BatchPromptSchedule", "BatchStringSchedule", "BatchValueSchedule")
OTHERS = re.compile(
    "PromptSchedule|StringSchedule|ValueSchedule|(Custom|ScaledSoft|Soft)(ControlNet|T2IAdapter)Weights|"
    "(Timestep|Latent)Keyframe(Group|Timing|BatchedGroup|Interpolation)?"
)
STAND_IN = "ADN_Old"


def stand_in_id(old_id: str) -> str:
    """Return the id of the node that takes an old node's place in the page."""
    return OLD_NODES[old_id].replaced_by or STAND_IN + old_id.removeprefix("ADE_").removeprefix("ACN_")


def row_of(type: str) -> OldNode:
    return OLD_NODES.get(name_of(type), OldNode())


def name_of(type: str) -> str:
    """Return the name under which a node stands in `OLD_NODES`."""
    return ALIASES.get(type, type)


def is_old(type: str) -> bool:
    return name_of(type) in OLD_NODES or type.startswith(PREFIXES) or OTHERS.fullmatch(type) is not None
