"""Nodes of VideoHelperSuite and of common packs that have counterparts in ComfyUI, a row each. Needs no ComfyUI."""

from __future__ import annotations

from .table import Becomes, Input, OldNode, names, same, widgets, without

FRAMES = (
    Input("frame_load_cap", "INT", 0, formerly="image_load_cap"),
    Input("skip_first_frames", "INT", 0, formerly="skip_first_images"),
    *widgets(select_every_nth=1),
)
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
INTERPOLATIONS = ("RIFE VFI", "FILM VFI", "GMFSS Fortuna VFI", "IFRNet VFI", "IFUnet VFI", "AMT VFI", "M2M VFI",
                  "STMFNet VFI")  # fmt: skip
POSES = ("DWPreprocessor", "OpenposePreprocessor")
DEPTHS = ("MiDaS-DepthMapPreprocessor", "Zoe-DepthMapPreprocessor", "LeReS-DepthMapPreprocessor",
          "DepthAnythingPreprocessor", "DepthAnythingV2Preprocessor")  # fmt: skip
PAGE_ONLY = ("Label (rgthree)", "Fast Groups Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Bookmark (rgthree)",
             "LoraInfo")  # fmt: skip
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
CONSTANTS = {
    **dict.fromkeys(
        ("INTConstant", "Int Literal", "ImpactInt", "easy int", "Int Input [Dream]", "CR Integer", "Seed (rgthree)",
         "CR Seed", "Seed Generator", "Seed", "Seed Everywhere", "easy seed", "Primitive integer [Crystools]"),
        "PrimitiveInt",
    ),
    **dict.fromkeys(
        ("FloatConstant", "Float Literal", "Cfg Literal", "ImpactFloat", "easy float", "Float Input [Dream]",
         "CR Float", "Primitive float [Crystools]"),
        "PrimitiveFloat",
    ),
    **dict.fromkeys(
        ("Text Multiline", "Text box", "Text String", "String to Text", "String Literal", "Simple String", "ttN text",
         "CR Prompt Text", "CR Text", "StringConstant", "StringConstantMultiline", "easy string",
         "Primitive string [Crystools]"),
        "PrimitiveStringMultiline",
    ),
}  # fmt: skip


COMMON_NODES: dict[str, OldNode] = {
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
    "VHS_DuplicateLatents": same("RepeatLatentBatch", "samples=latents amount=multiply_by", multiply_by=1),
    "VHS_DuplicateImages": same("RepeatImageBatch", "image=images amount=multiply_by", multiply_by=1),
    "VHS_SplitImages": OldNode(widgets(split_index=0)),
    "VHS_LoadAudioUpload": OldNode(widgets(audio="", start_time=0.0, duration=0.0)),
    "VHS_VAEDecodeBatched": same("VAEDecode", "samples vae", per_batch=16),
    "VHS_VAEEncodeBatched": same("VAEEncode", "pixels vae", per_batch=16),
    "VHS_MergeImages": same(
        "ImageBatch", "image1=images_A image2=images_B",
        merge_strategy="match A", scale_method="nearest-exact", crop="disabled",
    ),
    "VHS_GetImageCount": same("GetImageSize", "image=images", outputs=[2]),
    # Advanced-ControlNet becomes ComfyUI's own ControlNet: Sliding Context gives each window its hints.
    "ControlNetLoaderAdvanced": OldNode(CONTROLNET_NAME, becomes=Becomes("ControlNetLoader", "control_net_name")),
    "DiffControlNetLoaderAdvanced": OldNode(
        CONTROLNET_NAME, becomes=Becomes("DiffControlNetLoader", "model control_net_name")
    ),
    "ACN_AdvancedControlNetApplySingle": same(
        "ControlNetApply", "conditioning control_net image strength",
        outputs=(0, "model_optional"), strength=1.0, start_percent=0.0, end_percent=1.0,
    ),
    # Images, sizes and lists
    "Image scale to side": OldNode(
        widgets(side_length=512, side="Longest", upscale_method="nearest-exact", crop="disabled")
    ),
    "CR Latent Batch Size": same("RepeatLatentBatch", "samples=latent amount=batch_size", batch_size=1),
    "CannyEdgePreprocessor": same("Canny", "image", low_threshold=100, high_threshold=200, resolution=512),
    "AIO_Preprocessor": OldNode(widgets(preprocessor="none", resolution=512)),
    **{name: OldNode(widgets(detect_hand="enable", detect_body="enable", detect_face="enable")) for name in POSES},
    **{name: OldNode() for name in DEPTHS},
    "Upscale Model Loader": same("UpscaleModelLoader", "model_name", model_name=""),
    "Image Save": same("SaveImage", "images filename_prefix", outputs=(), output_path="", filename_prefix="ComfyUI"),
    "Get Image Size": same("GetImageSize", "image", outputs=(0, 1)),
    "GetImageSize+": same("GetImageSize", "image", outputs=(0, 1, 2)),
    "ImageSizeAndBatchSize": same("GetImageSize", "image", outputs=(0, 1, 2)),
    "ImageGenResolutionFromImage": same("GetImageSize", "image", outputs=(0, 1)),
    "ImpactImageInfo": same("GetImageSize", "image=value", outputs=(2, 1, 0)),
    "GetImageSizeAndCount": same("GetImageSize", "image", outputs=("image", 0, 1, 2)),
    "ImpactImageBatchToImageList": same("RebatchImages", "images=image"),
    "ImageListToImageBatch": same("RebatchImages", "images", values={"batch_size": 4096}),
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
    **{name: OldNode(widgets(ckpt_name="", clear_cache_after_n_frames=10, multiplier=2)) for name in INTERPOLATIONS},
    # Texts, numbers and what is shown
    "BNK_CLIPTextEncodeAdvanced": same(
        "CLIPTextEncode", "clip text", text="", token_normalization="none", weight_interpretation="comfy"
    ),
    "smZ CLIPTextEncode": same("CLIPTextEncode", "clip text", text="", parser="comfy"),
    "SimpleMath+": same(
        "ComfyMathExpression", "values.a=a values.b=b values.c=c expression=value", outputs=(1, 0), value=""
    ),
    "ShowText|pysssss": same("PreviewAny", "source=text", outputs=["text"]),
    "Display Int (rgthree)": same("PreviewAny", "source=input", outputs=["input"]),
    "Display Any (rgthree)": same("PreviewAny", "source", outputs=["source"]),
    "Text Concatenate": OldNode(
        widgets(delimiter=", ", clean_whitespace="true", text_a="", text_b="", text_c="", text_d="")
    ),
    "CR Text Concatenate": OldNode(
        (*widgets(text1="", text2=""), Input("delimiter", "STRING", "", formerly="separator"))
    ),
    **{name: OldNode() for name in (*PAGE_ONLY, *LORA_LOADERS, "ImpactMakeImageBatch")},
    **{name: OldNode(widgets(value={"PrimitiveInt": 0, "PrimitiveFloat": 0.0}.get(kind, "")))
       for name, kind in CONSTANTS.items()},
}  # fmt: skip
