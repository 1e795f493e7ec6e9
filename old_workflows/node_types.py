"""The nodes that old ones become, ours and ComfyUI's, with sockets and widgets in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .old_nodes import OLD_NODES, stand_in_id
from .table import TYPES

PACK = "animatediff-native"


class NodeType(NamedTuple):
    sockets: Mapping[str, str]
    """Types by name."""
    widgets: Mapping[str, Any]
    """Defaults by name, in the order in which the page saves the values."""
    outputs: Mapping[str, str]
    extra: tuple[Any, ...] = ()
    """Further values that the page saves after the widgets: the button to upload a file."""

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels, about as the page draws the node."""
        texts = sum(name in ("text", "prompts", "keyframes") for name in self.widgets)
        rows = max(len(self.sockets), len(self.outputs)) + len(self.widgets) + 5 * texts
        return 315, 20 + 26 * rows if self.outputs else 270  # without outputs, it shows what it saves


TYPES_OF_SOCKETS = {
    "LATENT": "latent samples latent_image",
    "IMAGE": "image images pixels image1 image2",
    "CONDITIONING": "conditioning positive negative",
    "INT": "width height batch_size",
    "FLOAT": "fps",
    "MOTION_MODEL_ADN": "motion_module",
    "MOTION_STRENGTH_ADN": "motion_strength previous",
    "MOTION_CURVE_ADN": "curve",
    "KEYFRAMES_ADN": "keyframes",
    "CURVE,MASK,AUDIO,FLOATS,FLOAT": "source",
    "FLOAT,INT,BOOLEAN": "values.a values.b values.c",
    **{name.upper(): name for name in ("model", "clip", "vae", "mask", "audio", "video", "control_net")},
    **{name.upper(): name for name in ("interp_model", "da3_model", "da3_geometry")},
    "POSE_KEYPOINT": "keypoints",
}
SOCKETS = {name: type for type, names in TYPES_OF_SOCKETS.items() for name in names.split()}


def new(sockets: str, outputs: str, *, extra: tuple[Any, ...] = (), **widgets: Any) -> NodeType:
    """Return a node type from the names of its sockets, which tell their types, and the defaults of its widgets."""
    types_in = {name: SOCKETS[name] for name in sockets.split()}
    return NodeType(types_in, widgets, {name: SOCKETS.get(name, name) for name in outputs.split()}, extra)


def stand_in_type(old_id: str) -> NodeType:
    old = OLD_NODES[old_id]
    outputs = old.stand_in.outputs if old.stand_in else ()
    return NodeType(
        sockets={entry.name: entry.type for entry in old.carried if not entry.is_widget},
        widgets={entry.name: entry.default for entry in old.carried if entry.is_widget},
        outputs={output.name or output.type: output.type for output in outputs},
    )


USE_EVOLVED_SAMPLING = stand_in_id("ADE_UseEvolvedSampling")
SAMPLE_SETTINGS = stand_in_id("ADE_AnimateDiffSamplingSettings")
STRENGTHS: dict[str, Any] = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
NODE_TYPES = {
    "ADN_LoadMotionModule": new("", "motion_module", motion_module="", stretch_to=0),
    "ADN_LoadMotionLora": new("motion_module", "motion_module", motion_lora="", strength=1.0),
    "ADN_ApplyAnimateDiff": new(
        "model motion_module motion_strength keyframes", "MODEL", **STRENGTHS, beta_schedule="automatic",
        motion_scale=1.0, frame_rate=8.0, keyframe_motion="small", keyframe_strength=1.0, keyframe_drift=0.8,
    ),
    "ADN_KeyframeImages": NodeType(
        {"images": "IMAGE", "vae": "VAE"}, {"frames": "", "resize": "crop"}, {"keyframes": "KEYFRAMES_ADN,IMAGE"}
    ),
    "ADN_LoadSparseCtrl": new(
        "", "CONTROL_NET", sparse_ctrl="", strength=1.0, motion_scale=1.0, far_keyframes="nearest",
    ),
    "ADN_SlidingContext": new(
        "model", "MODEL", context_length=16, context_overlap=4, schedule="static", fuse="pyramid", context_stride=0,
        within="whole UNet", windows_at_once=1, free_noise=True, start_percent=0.0, reference=0.0,
    ),
    "ADN_ClipNoise": new("model", "MODEL", noise="constant", share=0.5, period=16),
    "ADN_FreeInit": new(
        "model", "MODEL", iterations=3, filter="butterworth", spatial_frequency=0.25, temporal_frequency=0.25, order=4,
        coarse_to_fine=False,
    ),
    "ADN_PromptSchedule": new(
        "clip latent", "CONDITIONING", prompts="", frames=16, interpolation="linear", prefix="", suffix="",
    ),
    "ADN_MotionStrength": new("previous", "motion_strength", strength=1.0, motion_scale=1.0),
    "ADN_MotionCurve": new(
        "source", "curve", keyframes="0: 0.5\n8 ease: 1\n15: 0.5", over="frames", low=0.0, high=1.0, frame_rate=8.0,
    ),
    "CheckpointLoaderSimple": new("", "MODEL CLIP VAE", ckpt_name=""),
    "ModelSamplingDiscrete": new("model", "MODEL", sampling="eps", zsnr=False),
    "EmptyLatentImage": new("", "LATENT", width=512, height=512, batch_size=1),
    "RepeatLatentBatch": new("samples", "LATENT", amount=1),
    "RepeatImageBatch": new("image", "IMAGE", amount=1),
    "RebatchImages": new("images", "IMAGE", batch_size=1),
    "GetImageSize": new("image", "width height batch_size"),
    "ImageFromBatch": new("image", "IMAGE", batch_index=0, length=1),
    "ImageScale": new("image", "IMAGE", upscale_method="nearest-exact", width=512, height=512, crop="disabled"),
    "VAEEncode": new("pixels vae", "LATENT"),
    "VAEDecode": new("samples vae", "IMAGE"),
    "ControlNetLoader": new("", "CONTROL_NET", control_net_name=""),
    "DiffControlNetLoader": new("model", "CONTROL_NET", control_net_name=""),
    "ControlNetApply": new("conditioning control_net image", "CONDITIONING", strength=1.0),
    "ControlNetApplyAdvanced": new("positive negative control_net image vae", "positive negative", **STRENGTHS),
    "LoadVideo": new("", "VIDEO", file="", extra=("image",)),
    "GetVideoComponents": new("video", "images audio fps"),
    "LoadImageDataSetFromFolder": new("", "images", folder=""),
    "CreateVideo": new("images audio", "VIDEO", fps=30.0),
    "SaveVideo": new("video", "", filename_prefix="video/ComfyUI", format="auto", codec="auto"),
    "SaveWEBM": new("images", "", filename_prefix="ComfyUI", codec="vp9", fps=24.0, crf=32.0),
    "SaveAnimatedWEBP": new(
        "images", "", filename_prefix="ComfyUI", fps=6.0, lossless=True, quality=80, method="default",
    ),
    "SaveImage": new("images", "", filename_prefix="ComfyUI"),
    "KSampler": new(
        "model positive negative latent_image", "LATENT", seed=0, control_after_generate="fixed", steps=20, cfg=8.0,
        sampler_name="euler", scheduler="normal", denoise=1.0,
    ),
    "LoadAudio": new("", "AUDIO", audio="", extra=("upload",)),
    "TrimAudioDuration": new("audio", "AUDIO", start_index=0.0, duration=60.0),
    "ImageBatch": new("image1 image2", "IMAGE"),
    "ImageScaleBy": new("image", "IMAGE", upscale_method="nearest-exact", scale_by=1.0),
    "Canny": new("image", "IMAGE", low_threshold=0.4, high_threshold=0.8),
    "CLIPTextEncode": new("clip", "CONDITIONING", text=""),
    "LoraLoader": new("model clip", "MODEL CLIP", lora_name="", strength_model=1.0, strength_clip=1.0),
    "LoraLoaderModelOnly": new("model", "MODEL", lora_name="", strength_model=1.0),
    "PrimitiveInt": new("", "INT", value=0, control_after_generate="fixed"),
    "PrimitiveFloat": new("", "FLOAT", value=0.0),
    "PrimitiveStringMultiline": new("", "STRING", value=""),
    "StringConcatenate": new("", "STRING", string_a="", string_b="", delimiter=""),
    "PreviewAny": NodeType({"source": "*"}, {}, {}),
    "ComfyMathExpression": new("values.a values.b values.c", "FLOAT INT", expression="a + b"),
    "ImageScaleToMaxDimension": new("image", "IMAGE", upscale_method="area", largest_size=512),
    "FrameInterpolationModelLoader": new("", "INTERP_MODEL", model_name=""),
    "FrameInterpolate": new("interp_model images", "IMAGE", multiplier=2),
    "UpscaleModelLoader": new("", "UPSCALE_MODEL", model_name=""),
    "SDPoseKeypointExtractor": new("model vae image", "keypoints", batch_size=16),
    "SDPoseDrawKeypoints": new("keypoints", "IMAGE", draw_body=True, draw_hands=True, draw_face=True,
                               draw_feet=False, stick_width=4, face_point_size=3, score_threshold=0.3, draw_head=True),
    "LoadDA3Model": new("", "da3_model", model_name="", weight_dtype="default"),
    "DA3Inference": new("da3_model image", "da3_geometry", resolution=504, resize_method="upper_bound_resize",
                        mode="mono"),
    "DA3Render": NodeType(
        {"da3_geometry": "DA3_GEOMETRY"},
        {"output": "depth", "output.normalization": "v2_style", "output.apply_sky_clip": False},
        {"IMAGE": "IMAGE"},
    ),
    # Hidden stand-in nodes, for what no other node does
    USE_EVOLVED_SAMPLING: stand_in_type("ADE_UseEvolvedSampling"),
    SAMPLE_SETTINGS: stand_in_type("ADE_AnimateDiffSamplingSettings"),
}  # fmt: skip

CURVED = "FLOAT,MOTION_CURVE_ADN"


def input_entry(kind: str, name: str) -> dict[str, Any]:
    """Return an input as the page saves it: a socket, or a widget that gets its value through a link."""
    node = NODE_TYPES[kind]
    if name in node.sockets:
        return {"name": name, "type": node.sockets[name], "link": None}
    curved = kind == "ADN_MotionStrength" or name == "keyframe_strength"
    kinds = CURVED if curved else TYPES[type(node.widgets[name])]
    return {"name": name, "type": kinds, "link": None, "widget": {"name": name}}


def output_entry(name: str, type: str) -> dict[str, Any]:
    return {"name": name, "type": type, "links": []}


def properties(kind: str) -> dict[str, str]:
    return {"cnr_id": PACK if kind.startswith("ADN_") else "comfy-core", "Node name for S&R": kind}
