"""The old packs' nodes: which they are, and the names of their widgets, which workflows hold as bare lists."""

from __future__ import annotations

import re
from typing import Any

WINDOW = ("context_length", "context_stride", "context_overlap")
LATER = ("fuse_method", "use_on_equal_length", "start_percent", "guarantee_steps")
RANGE = ("start_percent", "end_percent")
STATIC_VIEW = ("view_length", "view_overlap", "fuse_method")
VIEW = ("view_length", "view_stride", "view_overlap")
PWS = ("pw_a", "pw_b", "pw_c", "pw_d")

WIDGETS: dict[str, tuple[str, ...]] = {
    "ADE_AnimateDiffLoaderGen1": ("model_name", "beta_schedule"),
    "ADE_AnimateDiffLoaderWithContext": ("model_name", "beta_schedule", "motion_scale", "apply_v2_models_properly"),
    "AnimateDiffLoaderV1": ("model_name", "unlimited_area_hack", "beta_schedule"),
    "ADE_AnimateDiffLoaderV1Advanced": (
        *("model_name", "unlimited_area_hack", *WINDOW, "context_schedule", "closed_loop", "beta_schedule"),
    ),
    "ADE_UseEvolvedSampling": ("beta_schedule",),
    "ADE_LoadAnimateDiffModel": ("model_name",),
    "ADE_LoadAnimateLCMI2VModel": ("model_name",),
    "ADE_InjectI2VIntoAnimateDiffModel": ("model_name",),
    "ADE_LoadAnimateDiffModelWithCameraCtrl": ("model_name", "camera_ctrl"),
    "ADE_InjectPIAIntoAnimateDiffModel": ("model_name",),
    "ADE_ApplyAnimateDiffModelSimple": (),
    "ADE_ApplyAnimateDiffModel": RANGE,
    "ADE_ApplyAnimateLCMI2VModel": ("ref_drift", "apply_ref_when_disabled", *RANGE),
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": RANGE,
    "ADE_ApplyAnimateDiffModelWithPIA": RANGE,
    "ADE_AnimateDiffLoRALoader": ("lora_name", "strength"),
    "ADE_AdjustPESweetspotStretch": ("sweetspot", "new_sweetspot", "print_adjustment"),
    "ADE_StandardStaticContextOptions": ("context_length", "context_overlap", *LATER),
    "ADE_StandardUniformContextOptions": (*WINDOW, *LATER),
    "ADE_LoopedUniformContextOptions": (*WINDOW, "closed_loop", *LATER),
    "ADE_AnimateDiffUniformContextOptions": (*WINDOW, "context_schedule", "closed_loop", *LATER),
    "ADE_BatchedContextOptions": ("context_length", "start_percent", "guarantee_steps"),
    "ADE_ViewsOnlyContextOptions": ("start_percent", "guarantee_steps"),
    "ADE_StandardStaticViewOptions": STATIC_VIEW,
    "ADE_StandardUniformViewOptions": (*VIEW, "fuse_method"),
    "ADE_LoopedUniformViewOptions": (*VIEW, "closed_loop", "fuse_method", "use_on_equal_length"),
    "ADE_AnimateDiffSamplingSettings": ("batch_offset", "noise_type", "seed_gen", "seed_offset"),
    "ADE_IterationOptsDefault": ("iterations", "iter_batch_offset", "iter_seed_offset"),
    "ADE_IterationOptsFreeInit": (
        *("iterations", "filter", "d_s", "d_t", "n_butterworth", "sigma_step", "apply_to_1st_iter", "init_type"),
        *("iter_batch_offset", "iter_seed_offset"),
    ),
    "ADE_MultivalDynamic": ("float_val",),
    "ADE_MultivalScaledMask": ("min_float_val", "max_float_val", "scaling"),
    "ADE_AnimateDiffKeyframe": ("start_percent", "inherit_missing", "guarantee_steps"),
    "ADE_ValueScheduling": ("values", "print_schedule", "max_length"),
    "ADE_ValueSchedulingLatents": ("values", "print_schedule"),
    "ADE_PromptScheduling": ("prompts", "print_schedule", "max_length", "tensor_interp"),
    "ADE_PromptSchedulingLatents": ("prompts", "print_schedule", "tensor_interp"),
    "ADE_EmptyLatentImageLarge": ("width", "height", "batch_size"),
    "ADE_UpscaleAndVAEEncode": ("scale_method", "crop"),
    "ADE_AnimateDiffCombine": ("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_image"),
    "CheckpointLoaderSimpleWithNoiseSelect": ("ckpt_name", "beta_schedule", "use_custom_scale_factor", "scale_factor"),
    "BatchPromptSchedule": (
        *("text", "max_frames", "print_output", "pre_text", "app_text", "start_frame", "end_frame", *PWS),
    ),
    "BatchPromptScheduleLatentInput": (
        *("text", "print_output", "pre_text", "app_text", "start_frame", "end_frame", *PWS),
    ),
    "VHS_VideoCombine": (*("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_output", "crf"),),
    "VHS_LoadVideo": (
        *("video", "force_rate", "force_size", "custom_width", "custom_height"),
        *("frame_load_cap", "skip_first_frames", "select_every_nth"),
    ),
    "VHS_LoadImages": ("directory", "image_load_cap", "skip_first_images", "select_every_nth"),
    "VHS_DuplicateLatents": ("multiply_by",),
    "VHS_DuplicateImages": ("multiply_by",),
    "ControlNetLoaderAdvanced": ("control_net_name",),
    "DiffControlNetLoaderAdvanced": ("control_net_name",),
    "ACN_AdvancedControlNetApply": ("strength", *RANGE),
    "ACN_AdvancedControlNetApplySingle": ("strength", *RANGE),
}
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
    "ACN_AdvancedControlNetApply_v2": "ACN_AdvancedControlNetApply",
    "ACN_AdvancedControlNetApplySingle_v2": "ACN_AdvancedControlNetApplySingle",
}
TEXTS = {
    *("model_name", "camera_ctrl", "lora_name", "beta_schedule", "context_schedule", "fuse_method", "noise_type"),
    *("seed_gen", "filter", "init_type", "scaling", "values", "prompts", "tensor_interp", "text", "pre_text"),
    *("app_text", "scale_method", "crop", "filename_prefix", "format", "ckpt_name", "control_net_name", "video"),
    *("force_size", "directory"),
}
PREFIXES = ("ADE_", "VHS_", "ACN_", "AnimateDiff", "BatchPromptSchedule", "BatchStringSchedule", "BatchValueSchedule")
OTHERS = re.compile(
    "PromptSchedule|StringSchedule|ValueSchedule|(Custom|ScaledSoft|Soft)(ControlNet|T2IAdapter)Weights|"
    "(Timestep|Latent)Keyframe(Group|Timing|BatchedGroup|Interpolation)?"
)


def name_of(type: str) -> str:
    """The name under which it stands in `WIDGETS`."""
    return ALIASES.get(type, type)


def is_old(type: str) -> bool:
    return name_of(type) in WIDGETS or type.startswith(PREFIXES) or OTHERS.fullmatch(type) is not None


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    """The node's widgets by name. Those that its version did not have are missing, and so are those that cannot be
    what they are called: when a pack put in a widget, the page gave the values after it to the wrong ones."""
    values = node.get("widgets_values") or []
    listed = WIDGETS.get(name_of(node["type"]), ())
    if not isinstance(values, dict):
        values = dict(zip(names(name_of(node["type"]), values), values, strict=False))
    return {name: value for name, value in values.items() if name not in listed or plausible(name, value)}


def plausible(name: str, value: Any) -> bool:
    return isinstance(value, str if name in TEXTS else (int, float))


def names(name: str, values: list[Any]) -> tuple[str, ...]:
    """Of the widgets that a version of the node had, which its values show."""
    listed = WIDGETS.get(name, ())
    if "print_output" in listed:
        return schedule_names(listed, values)
    if name == "ADE_AnimateDiffCombine" and (values[2:3] in (["Enabled"], ["Disabled"]) or is_switch(values, 2)):
        late = () if is_switch(values, 4) else ("format",)
        return ("frame_rate", "loop_count", "save_image", "filename_prefix", *late, "pingpong")
    if name == "VHS_LoadVideo" and not all(isinstance(value, (int, float)) for value in values[3:8]):
        return tuple(each for each in listed if not each.startswith("custom_"))
    return listed


def schedule_names(listed: tuple[str, ...], values: list[Any]) -> tuple[str, ...]:
    """FizzNodes has put widgets in between from version to version, and in the end made sockets of some."""
    gone, at = set(), listed.index("print_output")
    if is_switch(values, at):
        at += 1
    else:
        gone.add("print_output")
    if not any(isinstance(value, str) for value in values[at : at + 2]):
        gone |= {"pre_text", "app_text", *PWS}
    for later in ("end_frame", "start_frame"):
        if len(listed) - len(gone) > len(values):
            gone.add(later)
    return tuple(each for each in listed if each not in gone)


def is_switch(values: list[Any], index: int) -> bool:
    return index < len(values) and isinstance(values[index], bool)
