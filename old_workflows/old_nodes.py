"""The old packs' nodes, a row each, from which the stand-in nodes and the converter work. Needs no ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import inputs
from .table import Becomes, Input, OldNode, OldOutput, StandIn, unused, widgets


def without(names: Sequence[str], *gone: str) -> tuple[str, ...]:
    return tuple(name for name in names if name not in gone)


def names(entries: Sequence[Input]) -> tuple[str, ...]:
    return tuple(entry.name for entry in entries)


LOADED = (OldOutput("MODEL", "The model, ready for any sampler."),)
MODULE = (OldOutput("MOTION_MODEL_ADE", "For Apply AnimateDiff Model.", "MOTION_MODEL"),)
LORAS = (OldOutput("MOTION_LORA", "For the node that applies the motion module."),)
MULTIVAL = (OldOutput("MULTIVAL", "For scale_multival or effect_multival."),)
APPLIED = (OldOutput("M_MODELS", "For Use Evolved Sampling."),)
CONTEXT = (OldOutput("CONTEXT_OPTIONS", "For Use Evolved Sampling or a loader.", "CONTEXT_OPTS"),)
SETTINGS = (OldOutput("SAMPLE_SETTINGS", "For Use Evolved Sampling or a loader.", "settings"),)
ENCODED = (OldOutput("CONDITIONING", "Conditioning with one entry per frame."),)
LATENTS = (OldOutput("LATENT", "The same latent."),)
APPLIES = "Load Motion Module, Apply AnimateDiff and Sliding Context do this"
WINDOWED = "Sliding Context does this, before the sampler"
SCHEDULED = "Prompt Schedule does this"

LOADER = (
    inputs.MODEL,
    inputs.MODEL_NAME,
    inputs.BETA_SCHEDULE,
    inputs.CONTEXTS,
    inputs.MOTION_LORA,
    inputs.SAMPLE_SETTINGS,
)
AROUND_PROMPTS, INTERPOLATED = (inputs.PREPEND, inputs.APPEND), (inputs.TENSOR_INTERP, inputs.VALUES_REPLACE)
BLEND = (inputs.FUSE, inputs.ON_EQUAL_LENGTH)
WHEN = (inputs.START, inputs.GUARANTEE_STEPS, inputs.PREV_CONTEXT)
STRIDED = (inputs.LENGTH, inputs.STRIDE, inputs.OVERLAP)
STRENGTH = (inputs.MOTION_LORA, inputs.SCALE, inputs.EFFECT)
KEYFRAMES = (inputs.AD_KEYFRAMES, inputs.PER_BLOCK)
V1_MODEL = (*widgets(model_name=""), *unused(unlimited_area_hack=False))
RANGE = {"start_percent": 0.0, "end_percent": 1.0}
VIEW = {"view_length": 16, "view_stride": 1, "view_overlap": 4}
FRAMES = (
    Input("frame_load_cap", "INT", 0, formerly="image_load_cap"),
    Input("skip_first_frames", "INT", 0, formerly="skip_first_images"),
    *widgets(select_every_nth=1),
)
CONTROL = widgets(strength=1.0, **RANGE)
CONTROLNET_NAME = (Input("control_net_name", "STRING", "", formerly="cnet"),)
FORMAT = (
    r"(image|video)/(gif|webp|ffmpeg-gif|gifski|webm|h26[45]-mp4|h264-webm|mp4|(8|16)bit-png|ProRes|av1-webm|\S*-mp4)"
)
COMBINE = (
    *widgets(frame_rate=8, loop_count=0),
    Input("filename_prefix", "STRING", "AnimateDiff", settings={"pattern": f"(?!{FORMAT}$)"}),
    Input("format", "STRING", "image/gif", settings={"pattern": FORMAT}),
    *widgets(pingpong=False),
    Input("save_output", "BOOLEAN", True, settings={"options": ("Enabled", "Disabled")}, formerly="save_image"),
)
VIDEO = widgets(video="", force_rate=0, force_size="Custom", custom_width=0, custom_height=0) + FRAMES
WEIGHTS = widgets(pw_a=0.0, pw_b=0.0, pw_c=0.0, pw_d=0.0)
AROUND = widgets(print_output=False, pre_text="", app_text="", start_frame=0, end_frame=0) + WEIGHTS
TRAVEL = (*widgets(text="", max_frames=16), *AROUND)
TRAVEL_LATENT = (*widgets(text=""), *AROUND)
INTERPOLATIONS = ("RIFE VFI", "FILM VFI", "GMFSS Fortuna VFI", "IFRNet VFI", "IFUnet VFI", "AMT VFI", "M2M VFI")
PAGE_ONLY = ("Label (rgthree)", "Fast Groups Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Bookmark (rgthree)")
# Packs' nodes that apply LoRAs: whether a switch stands before each one, and the number of values for it
LORA_LOADERS = {
    "CR LoRA Stack": (1, 4),
    "CR Load LoRA": (1, 4),
    "CR Apply LoRA Stack": (0, 4),
    "LoraStackLoader_PoP": (1, 4),
    "LoRA Stacker": (0, 4),
    "Lora Loader Stack (rgthree)": (0, 2),
    "Power Lora Loader (rgthree)": (0, 1),
    "Load Lora": (0, 3),
    "LoraLoader|pysssss": (0, 4),
}
PLAIN = (*PAGE_ONLY, *LORA_LOADERS, "ImpactMakeImageBatch")  # nodes whose widgets are not read by name
CONSTANTS = {
    **dict.fromkeys(
        ("INTConstant", "Int Literal", "ImpactInt", "easy int", "Int Input [Dream]", "CR Integer", "Seed (rgthree)",
         "CR Seed", "Seed Generator", "Seed", "Seed Everywhere", "easy seed"),
        "PrimitiveInt",
    ),
    **dict.fromkeys(
        ("FloatConstant", "Float Literal", "Cfg Literal", "ImpactFloat", "easy float", "Float Input [Dream]",
         "CR Float"),
        "PrimitiveFloat",
    ),
    **dict.fromkeys(
        ("Text Multiline", "Text box", "Text String", "String to Text", "String Literal", "Simple String", "ttN text",
         "CR Prompt Text", "CR Text", "StringConstant", "StringConstantMultiline", "easy string"),
        "PrimitiveStringMultiline",
    ),
}  # fmt: skip


def travel_versions(entries: Sequence[Input]) -> tuple[tuple[str, ...], ...]:
    """Return the orders of saved values: FizzNodes inserted widgets over time, then turned some into sockets."""
    newest = names(entries)
    printing = (newest, without(newest, "pre_text", "app_text", *names(WEIGHTS)), without(newest, "print_output"))
    return tuple(
        without(version, *gone) for version in printing for gone in ((), ("end_frame",), ("start_frame", "end_frame"))
    )


OLD_NODES: dict[str, OldNode] = {
    # ComfyUI-AnimateDiff-Evolved: what the page replaces
    "ADE_AnimateDiffLoaderGen1": OldNode(
        (*LOADER, inputs.SCALE, inputs.EFFECT, inputs.AD_SETTINGS, *KEYFRAMES),
        stand_in=StandIn("AnimateDiff Loader", APPLIES, LOADED),
    ),
    "ADE_AnimateDiffLoaderWithContext": OldNode(
        (*LOADER, inputs.MOTION_SCALE, inputs.APPLY_V2_PROPERLY, inputs.AD_SETTINGS, inputs.AD_KEYFRAMES),
        stand_in=StandIn("AnimateDiff Loader [Legacy]", APPLIES, LOADED),
    ),
    "ADE_LoadAnimateDiffModel": OldNode(
        (inputs.MODEL_NAME, inputs.AD_SETTINGS),
        stand_in=StandIn("Load AnimateDiff Model", "Load Motion Module does this", MODULE),
    ),
    "ADE_AnimateDiffLoRALoader": OldNode(
        (inputs.LORA_NAME, inputs.LORA_STRENGTH, inputs.PREV_MOTION_LORA),
        stand_in=StandIn("Load AnimateDiff LoRA", "Load Motion LoRA does this, after Load Motion Module", LORAS),
    ),
    "ADE_MultivalDynamic": OldNode(
        (inputs.FLOAT_VAL, inputs.MASK),
        stand_in=StandIn("Multival", "Motion Strength and Motion Curve do this", MULTIVAL),
    ),
    "ADE_ApplyAnimateDiffModelSimple": OldNode(
        (inputs.MOTION_MODEL, *STRENGTH, *KEYFRAMES),
        stand_in=StandIn("Apply AnimateDiff Model (Simple)", "Apply AnimateDiff does this", APPLIED),
    ),
    "ADE_ApplyAnimateDiffModel": OldNode(
        (inputs.MOTION_MODEL, inputs.BEGINS, inputs.ENDS, *STRENGTH, inputs.PREV_M_MODELS, *KEYFRAMES),
        stand_in=StandIn("Apply AnimateDiff Model (Adv.)", "a chain of Apply AnimateDiff nodes does this", APPLIED),
    ),
    "ADE_UseEvolvedSampling": OldNode(
        (inputs.MODEL, inputs.BETA_SCHEDULE, inputs.M_MODELS, inputs.CONTEXTS, inputs.SAMPLE_SETTINGS),
        stand_in=StandIn("Use Evolved Sampling", APPLIES, LOADED),
    ),
    "ADE_StandardStaticContextOptions": OldNode(
        (inputs.LENGTH, inputs.OVERLAP, *BLEND, *WHEN, inputs.VIEW_OPTS),
        stand_in=StandIn("Context Options: Standard Static", WINDOWED, CONTEXT),
    ),
    "ADE_StandardUniformContextOptions": OldNode(
        (*STRIDED, *BLEND, *WHEN, inputs.VIEW_OPTS),
        stand_in=StandIn("Context Options: Standard Uniform", WINDOWED, CONTEXT),
    ),
    "ADE_LoopedUniformContextOptions": OldNode(
        (*STRIDED, inputs.CLOSED_LOOP, *BLEND, *WHEN, inputs.VIEW_OPTS),
        stand_in=StandIn("Context Options: Looped Uniform", WINDOWED, CONTEXT),
    ),
    "ADE_AnimateDiffUniformContextOptions": OldNode(
        (*STRIDED, *unused(context_schedule="uniform"), inputs.CLOSED_LOOP, *BLEND, *WHEN, inputs.VIEW_OPTS),
        replaced_by="ADN_OldLoopedUniformContextOptions",
        missing={"fuse_method": "flat"},
    ),
    "ADE_BatchedContextOptions": OldNode(
        (inputs.LENGTH, *WHEN), stand_in=StandIn("Context Options: Batched", WINDOWED, CONTEXT)
    ),
    "ADE_AnimateDiffSamplingSettings": OldNode(
        (inputs.BATCH_OFFSET, inputs.NOISE_TYPE, inputs.SEED_GEN, inputs.SEED_OFFSET,
         *unused(adapt_denoise_steps=False), inputs.SEED_OVERRIDE, *inputs.NOT_SAMPLED),
        stand_in=StandIn("Sample Settings", "Sliding Context (FreeNoise) and Clip Noise do this", SETTINGS),
    ),
    "ADE_PromptScheduling": OldNode(
        (inputs.PROMPTS, inputs.CLIP, *AROUND_PROMPTS, *unused(print_schedule=False), inputs.MAX_LENGTH, *INTERPOLATED),
        stand_in=StandIn("Prompt Scheduling", SCHEDULED, ENCODED),
    ),
    "ADE_PromptSchedulingLatents": OldNode(
        (inputs.PROMPTS, inputs.CLIP, inputs.LATENT, *AROUND_PROMPTS, *unused(print_schedule=False), *INTERPOLATED),
        stand_in=StandIn("Prompt Scheduling [Latents]", SCHEDULED, ENCODED + LATENTS),
    ),
    "ADE_EmptyLatentImageLarge": OldNode(
        widgets(width=512, height=512, batch_size=1),
        becomes=Becomes("EmptyLatentImage", "width height batch_size"),
        replaced_by="EmptyLatentImage",
    ),
    # and what the converter alone rewrites
    "AnimateDiffLoaderV1": OldNode((*V1_MODEL, *widgets(beta_schedule="autoselect"))),
    "ADE_AnimateDiffLoaderV1Advanced": OldNode(
        (*V1_MODEL, *STRIDED, *unused(context_schedule="uniform"), inputs.CLOSED_LOOP,
         *widgets(beta_schedule="autoselect")),
    ),
    "ADE_LoadAnimateLCMI2VModel": OldNode(widgets(model_name="")),
    "ADE_InjectI2VIntoAnimateDiffModel": OldNode(widgets(model_name="")),
    "ADE_LoadAnimateDiffModelWithCameraCtrl": OldNode((*widgets(model_name=""), *unused(camera_ctrl=""))),
    "ADE_InjectPIAIntoAnimateDiffModel": OldNode(widgets(model_name="")),
    "ADE_ApplyAnimateLCMI2VModel": OldNode(
        (*unused(ref_drift=0.0, apply_ref_when_disabled=False), *widgets(**RANGE))
    ),
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": OldNode(widgets(**RANGE)),
    "ADE_ApplyAnimateDiffModelWithPIA": OldNode(widgets(**RANGE)),
    "ADE_AdjustPESweetspotStretch": OldNode(
        (*widgets(sweetspot=16, new_sweetspot=16), *unused(print_adjustment=False))
    ),
    "ADE_ViewsOnlyContextOptions": OldNode((inputs.START, inputs.GUARANTEE_STEPS)),
    "ADE_StandardStaticViewOptions": OldNode(widgets(view_length=16, view_overlap=4, fuse_method="pyramid")),
    "ADE_StandardUniformViewOptions": OldNode(widgets(**VIEW, fuse_method="pyramid")),
    "ADE_LoopedUniformViewOptions": OldNode(
        widgets(**VIEW, closed_loop=False, fuse_method="pyramid", use_on_equal_length=False)
    ),
    "ADE_IterationOptsDefault": OldNode(widgets(iterations=1, iter_batch_offset=0, iter_seed_offset=1)),
    "ADE_IterationOptsFreeInit": OldNode(
        widgets(iterations=2, filter="gaussian", d_s=0.25, d_t=0.25, n_butterworth=4, sigma_step=999,
                apply_to_1st_iter=False, init_type="FreeInit [sampler sigma]", iter_batch_offset=0, iter_seed_offset=1),
    ),
    "ADE_CustomCFGSimple": OldNode(widgets(cfg=8.0)),
    "ADE_CustomCFG": OldNode(),
    "ADE_SigmaSchedule": OldNode(widgets(sigma_schedule="autoselect")),
    "ADE_MultivalScaledMask": OldNode(widgets(min_float_val=0.0, max_float_val=1.0, scaling="absolute")),
    "ADE_AnimateDiffKeyframe": OldNode(widgets(start_percent=0.0, inherit_missing=True, guarantee_steps=1)),
    "ADE_ValueScheduling": OldNode(
        (*widgets(values=""), *unused(print_schedule=False, max_length=0))
    ),
    "ADE_ValueSchedulingLatents": OldNode((*widgets(values=""), *unused(print_schedule=False))),
    "ADE_UpscaleAndVAEEncode": OldNode(widgets(scale_method="lanczos", crop="disabled")),
    "CheckpointLoaderSimpleWithNoiseSelect": OldNode(
        widgets(ckpt_name="", beta_schedule="autoselect", use_custom_scale_factor=False, scale_factor=0.18215),
        becomes=Becomes("CheckpointLoaderSimple", "ckpt_name", (0, 1, 2)),
    ),
    "ADE_AnimateDiffUnload": OldNode(becomes=Becomes(outputs=["model"])),
    "ADE_FloatToFloats": OldNode(becomes=Becomes(outputs=["FLOAT"])),
    # FizzNodes
    "BatchPromptSchedule": OldNode(TRAVEL, travel_versions(TRAVEL)),
    "BatchPromptScheduleLatentInput": OldNode(TRAVEL_LATENT, travel_versions(TRAVEL_LATENT)),
    # VideoHelperSuite, and Combine before it
    "ADE_AnimateDiffCombine": OldNode(
        COMBINE,
        (
            ("frame_rate", "loop_count", "save_output", "filename_prefix", "pingpong"),
            ("frame_rate", "loop_count", "save_output", "filename_prefix", "format", "pingpong"),
            names(COMBINE),
        ),
    ),
    "VHS_VideoCombine": OldNode((*COMBINE, *widgets(crf=20))),
    "VHS_LoadVideo": OldNode(VIDEO, (names(VIDEO), without(names(VIDEO), "custom_width", "custom_height"))),
    "VHS_LoadImages": OldNode((*widgets(directory=""), *FRAMES)),
    "VHS_DuplicateLatents": OldNode(
        widgets(multiply_by=1), becomes=Becomes("RepeatLatentBatch", "samples=latents amount=multiply_by")
    ),
    "VHS_DuplicateImages": OldNode(
        widgets(multiply_by=1), becomes=Becomes("RepeatImageBatch", "image=images amount=multiply_by")
    ),
    "VHS_SplitImages": OldNode(widgets(split_index=0)),
    "VHS_LoadAudioUpload": OldNode(widgets(audio="", start_time=0.0, duration=0.0)),
    "VHS_VAEDecodeBatched": OldNode(unused(per_batch=16), becomes=Becomes("VAEDecode", "samples vae")),
    "VHS_VAEEncodeBatched": OldNode(unused(per_batch=16), becomes=Becomes("VAEEncode", "pixels vae")),
    "VHS_MergeImages": OldNode(
        unused(merge_strategy="match A", scale_method="nearest-exact", crop="disabled"),
        becomes=Becomes("ImageBatch", "image1=images_A image2=images_B"),
    ),
    "VHS_GetImageCount": OldNode(becomes=Becomes("GetImageSize", "image=images", [2])),
    "VHS_VideoInfo": OldNode(),
    "VHS_VideoInfoSource": OldNode(),
    "VHS_VideoInfoLoaded": OldNode(),
    # The first ComfyUI pack, by ArtVentureX
    "AnimateDiffModuleLoader": OldNode((inputs.MODEL_NAME,)),
    "AnimateDiffLoraLoader": OldNode((inputs.LORA_NAME, inputs.LORA_STRENGTH)),
    "AnimateDiffSlidingWindowOptions": OldNode(
        (*STRIDED, *unused(context_schedule="uniform"), inputs.CLOSED_LOOP)
    ),
    "AnimateDiffSampler": OldNode(
        (*unused(inject_method="default"),
         *widgets(frame_number=16, seed=0, control_after_generate="fixed", steps=20, cfg=8.0, sampler_name="euler",
                  scheduler="normal", denoise=1.0)),
    ),
    # Advanced-ControlNet
    "ControlNetLoaderAdvanced": OldNode(CONTROLNET_NAME, becomes=Becomes("ControlNetLoader", "control_net_name")),
    "DiffControlNetLoaderAdvanced": OldNode(
        CONTROLNET_NAME, becomes=Becomes("DiffControlNetLoader", "model control_net_name")
    ),
    "ACN_AdvancedControlNetApply": OldNode(
        CONTROL,
        becomes=Becomes(
            "ControlNetApplyAdvanced",
            "positive negative control_net image vae=vae_optional strength start_percent end_percent",
            (0, 1, "model_optional"),
        ),
    ),
    "ACN_AdvancedControlNetApplySingle": OldNode(
        CONTROL,
        becomes=Becomes("ControlNetApply", "conditioning control_net image strength", (0, "model_optional")),
    ),
    # Common packs
    "CR Latent Batch Size": OldNode(
        widgets(batch_size=1), becomes=Becomes("RepeatLatentBatch", "samples=latent amount=batch_size")
    ),
    "CannyEdgePreprocessor": OldNode(
        widgets(low_threshold=100, high_threshold=200, resolution=512), becomes=Becomes("Canny", "image")
    ),
    "Image Save": OldNode(
        widgets(output_path="", filename_prefix="ComfyUI"), becomes=Becomes("SaveImage", "images filename_prefix", ())
    ),
    "BNK_CLIPTextEncodeAdvanced": OldNode(
        widgets(text="", token_normalization="none", weight_interpretation="comfy"),
        becomes=Becomes("CLIPTextEncode", "clip text"),
    ),
    "smZ CLIPTextEncode": OldNode(widgets(text="", parser="comfy"), becomes=Becomes("CLIPTextEncode", "clip text")),
    "Get Image Size": OldNode(becomes=Becomes("GetImageSize", "image", (0, 1))),
    "GetImageSize+": OldNode(becomes=Becomes("GetImageSize", "image", (0, 1, 2))),
    "ImageSizeAndBatchSize": OldNode(becomes=Becomes("GetImageSize", "image", (0, 1, 2))),
    "ImageGenResolutionFromImage": OldNode(becomes=Becomes("GetImageSize", "image", (0, 1))),
    "ImpactImageInfo": OldNode(becomes=Becomes("GetImageSize", "image=value", (2, 1, 0))),
    "GetImageSizeAndCount": OldNode(becomes=Becomes("GetImageSize", "image", ("image", 0, 1, 2))),
    "ImpactImageBatchToImageList": OldNode(becomes=Becomes("RebatchImages", "images=image")),
    "ImageListToImageBatch": OldNode(becomes=Becomes("RebatchImages", "images", values={"batch_size": 4096})),
    "ShowText|pysssss": OldNode(becomes=Becomes("PreviewAny", "source=text", ["text"])),
    "Display Int (rgthree)": OldNode(becomes=Becomes("PreviewAny", "source=input", ["input"])),
    "Display Any (rgthree)": OldNode(becomes=Becomes("PreviewAny", "source", ["source"])),
    "Image Resize": OldNode(
        widgets(mode="rescale", supersample="true", interpolation="lanczos", rescale_factor=2.0, width=1024,
                height=1536)
    ),
    "ImageResize+": OldNode(
        (*widgets(width=512, height=512, interpolation="nearest"), Input("method", "STRING", "stretch"),
         *widgets(condition="always", multiple_of=0, keep_proportion=False)),
        (("width", "height", "interpolation", "method", "condition", "multiple_of"),
         ("width", "height", "interpolation", "keep_proportion")),
    ),
    "Text Concatenate": OldNode(
        widgets(delimiter=", ", clean_whitespace="true", text_a="", text_b="", text_c="", text_d="")
    ),
    "CR Text Concatenate": OldNode(
        (*widgets(text1="", text2=""), Input("delimiter", "STRING", "", formerly="separator"))
    ),
    **{name: OldNode(widgets(ckpt_name="", clear_cache_after_n_frames=10, multiplier=2)) for name in INTERPOLATIONS},
    **{name: OldNode() for name in PLAIN},
    **{name: OldNode(widgets(value={"PrimitiveInt": 0, "PrimitiveFloat": 0.0}.get(kind, "")))
       for name, kind in CONSTANTS.items()},
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
    "ACN_AdvancedControlNetApply_v2": "ACN_AdvancedControlNetApply",
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
    return OLD_NODES[old_id].replaced_by or STAND_IN + old_id.removeprefix("ADE_")


def row_of(type: str) -> OldNode:
    return OLD_NODES.get(name_of(type), OldNode())


def name_of(type: str) -> str:
    """Return the name under which a node stands in `OLD_NODES`."""
    return ALIASES.get(type, type)


def is_old(type: str) -> bool:
    return name_of(type) in OLD_NODES or type.startswith(PREFIXES) or OTHERS.fullmatch(type) is not None
