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
    size: tuple[int, int] = (300, 80)
    extra: tuple[Any, ...] = ()
    """Further values that the page saves after the widgets: the button to upload a file."""


SOCKETS = {
    **{name: name.upper() for name in ("model", "latent", "clip", "vae", "image", "mask", "audio", "video")},
    **{name: name.upper() for name in ("conditioning", "control_net")},
    **dict.fromkeys(("samples",), "LATENT"),
    "latent_image": "LATENT",
    **dict.fromkeys(("images", "pixels", "image1", "image2"), "IMAGE"),
    "interp_model": "INTERP_MODEL",
    **dict.fromkeys(("positive", "negative"), "CONDITIONING"),
    **dict.fromkeys(("width", "height", "batch_size"), "INT"),
    **dict.fromkeys(("motion_strength", "previous"), "MOTION_STRENGTH_ADN"),
    "motion_module": "MOTION_MODEL_ADN",
    "source": "CURVE,MASK,AUDIO,FLOATS,FLOAT",
    "curve": "MOTION_CURVE_ADN",
    "fps": "FLOAT",
}


def new(
    sockets: str,
    widgets: Mapping[str, Any],
    outputs: str,
    size: tuple[int, int] = (300, 80),
    extra: tuple[Any, ...] = (),
) -> NodeType:
    """Return a node type from the names of its sockets, which tell their types."""
    names_in, names_out = sockets.split(), outputs.split()
    types_in = {name: SOCKETS[name] for name in names_in}
    return NodeType(types_in, widgets, {name: SOCKETS.get(name, name) for name in names_out}, size, extra)


def stand_in_type(old_id: str) -> NodeType:
    old = OLD_NODES[old_id]
    outputs = old.stand_in.outputs if old.stand_in else ()
    return NodeType(
        sockets={entry.name: entry.type for entry in old.carried if not entry.is_widget},
        widgets={entry.name: entry.default for entry in old.carried if entry.is_widget},
        outputs={output.name or output.type: output.type for output in outputs},
        size=(300, 200),
    )


USE_EVOLVED_SAMPLING = stand_in_id("ADE_UseEvolvedSampling")
SAMPLE_SETTINGS = stand_in_id("ADE_AnimateDiffSamplingSettings")
STRENGTHS = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
NODE_TYPES = {
    "ADN_LoadMotionModule": new("", {"motion_module": "", "stretch_to": 0}, "motion_module"),
    "ADN_LoadMotionLora": new("motion_module", {"motion_lora": "", "strength": 1.0}, "motion_module"),
    "ADN_ApplyAnimateDiff": new(
        "model motion_module motion_strength",
        STRENGTHS | {"beta_schedule": "automatic", "motion_scale": 1.0}, "MODEL", (300, 200),
    ),
    "ADN_SlidingContext": new(
        "model",
        {"context_length": 16, "context_overlap": 4, "schedule": "static", "fuse": "pyramid", "context_stride": 0,
         "within": "whole UNet", "windows_at_once": 1, "free_noise": True, "start_percent": 0.0},
        "MODEL", (300, 270),
    ),
    "ADN_ClipNoise": new("model", {"noise": "constant", "share": 0.5, "period": 16}, "MODEL", (300, 110)),
    "ADN_FreeInit": new(
        "model",
        {"iterations": 3, "filter": "butterworth", "spatial_frequency": 0.25, "temporal_frequency": 0.25, "order": 4,
         "coarse_to_fine": False},
        "MODEL", (300, 180),
    ),
    "ADN_PromptSchedule": new(
        "clip latent",
        {"prompts": "", "frames": 16, "interpolation": "linear", "prefix": "", "suffix": ""},
        "CONDITIONING", (330, 290),
    ),
    "ADN_MotionStrength": new("previous", {"strength": 1.0, "motion_scale": 1.0}, "motion_strength", (290, 100)),
    "ADN_MotionCurve": new(
        "source",
        {"keyframes": "0: 0.5\n8 ease: 1\n15: 0.5", "over": "frames", "low": 0.0, "high": 1.0, "frame_rate": 8.0},
        "curve", (300, 220),
    ),
    "CheckpointLoaderSimple": new("", {"ckpt_name": ""}, "MODEL CLIP VAE", (315, 98)),
    "ModelSamplingDiscrete": new("model", {"sampling": "eps", "zsnr": False}, "MODEL", (300, 82)),
    "EmptyLatentImage": new("", {"width": 512, "height": 512, "batch_size": 1}, "LATENT", (315, 106)),
    "RepeatLatentBatch": new("samples", {"amount": 1}, "LATENT", (220, 60)),
    "RepeatImageBatch": new("image", {"amount": 1}, "IMAGE", (220, 60)),
    "RebatchImages": new("images", {"batch_size": 1}, "IMAGE", (220, 60)),
    "GetImageSize": new("image", {}, "width height batch_size", (220, 70)),
    "ImageFromBatch": new("image", {"batch_index": 0, "length": 1}, "IMAGE", (220, 82)),
    "ImageScale": new(
        "image",
        {"upscale_method": "nearest-exact", "width": 512, "height": 512, "crop": "disabled"},
        "IMAGE", (270, 130),
    ),
    "VAEEncode": new("pixels vae", {}, "LATENT", (220, 46)),
    "VAEDecode": new("samples vae", {}, "IMAGE", (220, 46)),
    "ControlNetLoader": new("", {"control_net_name": ""}, "CONTROL_NET", (315, 58)),
    "DiffControlNetLoader": new("model", {"control_net_name": ""}, "CONTROL_NET", (315, 58)),
    "ControlNetApply": new("conditioning control_net image", {"strength": 1.0}, "CONDITIONING", (315, 98)),
    "ControlNetApplyAdvanced": new(
        "positive negative control_net image vae", STRENGTHS, "positive negative", (315, 186)
    ),
    "LoadVideo": new("", {"file": ""}, "VIDEO", (310, 110), ("image",)),
    "GetVideoComponents": new("video", {}, "images audio fps", (220, 80)),
    "LoadImageDataSetFromFolder": new("", {"folder": ""}, "images", (310, 60)),
    "CreateVideo": new("images audio", {"fps": 30.0}, "VIDEO", (220, 80)),
    "SaveVideo": new("video", {"filename_prefix": "video/ComfyUI", "format": "auto", "codec": "auto"}, "", (315, 270)),
    "SaveWEBM": new(
        "images", {"filename_prefix": "ComfyUI", "codec": "vp9", "fps": 24.0, "crf": 32.0}, "", (315, 270)
    ),
    "SaveAnimatedWEBP": new(
        "images",
        {"filename_prefix": "ComfyUI", "fps": 6.0, "lossless": True, "quality": 80, "method": "default"},
        "", (315, 270),
    ),
    "SaveImage": new("images", {"filename_prefix": "ComfyUI"}, "", (315, 270)),
    "KSampler": new(
        "model positive negative latent_image",
        {"seed": 0, "control_after_generate": "fixed", "steps": 20, "cfg": 8.0, "sampler_name": "euler",
         "scheduler": "normal", "denoise": 1.0},
        "LATENT", (315, 262),
    ),
    "LoadAudio": new("", {"audio": ""}, "AUDIO", (310, 110), ("upload",)),
    "TrimAudioDuration": new("audio", {"start_index": 0.0, "duration": 60.0}, "AUDIO", (270, 82)),
    "ImageBatch": new("image1 image2", {}, "IMAGE", (220, 46)),
    "ImageScaleBy": new("image", {"upscale_method": "nearest-exact", "scale_by": 1.0}, "IMAGE", (270, 82)),
    "Canny": new("image", {"low_threshold": 0.4, "high_threshold": 0.8}, "IMAGE", (270, 82)),
    "CLIPTextEncode": new("clip", {"text": ""}, "CONDITIONING", (400, 200)),
    "LoraLoader": new(
        "model clip", {"lora_name": "", "strength_model": 1.0, "strength_clip": 1.0}, "MODEL CLIP", (315, 126)
    ),
    "LoraLoaderModelOnly": new("model", {"lora_name": "", "strength_model": 1.0}, "MODEL", (315, 82)),
    "PrimitiveInt": new("", {"value": 0, "control_after_generate": "fixed"}, "INT", (270, 82)),
    "PrimitiveFloat": new("", {"value": 0.0}, "FLOAT", (270, 58)),
    "PrimitiveStringMultiline": new("", {"value": ""}, "STRING", (300, 120)),
    "StringConcatenate": new("", {"string_a": "", "string_b": "", "delimiter": ""}, "STRING", (300, 160)),
    "PreviewAny": NodeType({"source": "*"}, {}, {}, (220, 80)),
    "ComfyMathExpression": NodeType(
        dict.fromkeys(("values.a", "values.b", "values.c"), "FLOAT,INT,BOOLEAN"), {"expression": "a + b"},
        {"FLOAT": "FLOAT", "INT": "INT"}, (300, 140),
    ),
    "ImageScaleToMaxDimension": new("image", {"upscale_method": "area", "largest_size": 512}, "IMAGE", (270, 82)),
    "FrameInterpolationModelLoader": new("", {"model_name": ""}, "INTERP_MODEL", (300, 58)),
    "FrameInterpolate": new("interp_model images", {"multiplier": 2}, "IMAGE", (270, 82)),
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
    kinds = CURVED if kind == "ADN_MotionStrength" else TYPES[type(node.widgets[name])]
    return {"name": name, "type": kinds, "link": None, "widget": {"name": name}}


def output_entry(name: str, type: str) -> dict[str, Any]:
    return {"name": name, "type": type, "links": []}


def properties(kind: str) -> dict[str, str]:
    return {"cnr_id": PACK if kind.startswith("ADN_") else "comfy-core", "Node name for S&R": kind}
