"""The nodes that old ones become: ours and ComfyUI's, with their sockets and widgets in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .inputs import TYPES
from .old_nodes import OLD_NODES, stand_in_id

PACK = "animatediff-native"


class NodeType(NamedTuple):
    sockets: Mapping[str, str]
    widgets: Mapping[str, Any]
    """Names and defaults, in the order in which the page saves them."""
    outputs: Mapping[str, str]
    size: tuple[int, int] = (300, 80)
    extra: tuple[Any, ...] = ()
    """What the page saves behind the widgets: the button to upload a file."""


MODEL = {"model": "MODEL"}
IMAGES = {"images": "IMAGE"}
CONTROLS = {"positive": "CONDITIONING", "negative": "CONDITIONING"}
MODULE = {"motion_module": "MOTION_MODEL_ADN"}
CHECKPOINT = {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}
STRENGTH = {"motion_strength": "MOTION_STRENGTH_ADN"}


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
NODE_TYPES = {
    "ADN_LoadMotionModule": NodeType({}, {"motion_module": "", "stretch_to": 0}, MODULE),
    "ADN_LoadMotionLora": NodeType(MODULE, {"motion_lora": "", "strength": 1.0}, MODULE),
    "ADN_ApplyAnimateDiff": NodeType(
        MODEL | MODULE | STRENGTH,
        {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "beta_schedule": "automatic", "motion_scale": 1.0},
        {"MODEL": "MODEL"},
        (300, 200),
    ),
    "ADN_SlidingContext": NodeType(
        MODEL,
        {
            "context_length": 16,
            "context_overlap": 4,
            "schedule": "static",
            "fuse": "pyramid",
            "context_stride": 0,
            "within": "whole UNet",
            "windows_at_once": 1,
            "free_noise": True,
            "start_percent": 0.0,
        },
        {"MODEL": "MODEL"},
        (300, 270),
    ),
    "ADN_ClipNoise": NodeType(MODEL, {"noise": "constant", "share": 0.5, "period": 16}, {"MODEL": "MODEL"}, (300, 110)),
    "ADN_FreeInit": NodeType(
        MODEL,
        {
            "iterations": 3,
            "filter": "butterworth",
            "spatial_frequency": 0.25,
            "temporal_frequency": 0.25,
            "order": 4,
            "coarse_to_fine": False,
        },
        {"MODEL": "MODEL"},
        (300, 180),
    ),
    "ADN_PromptSchedule": NodeType(
        {"clip": "CLIP", "latent": "LATENT"},
        {"prompts": "", "frames": 16, "interpolation": "linear", "prefix": "", "suffix": ""},
        {"CONDITIONING": "CONDITIONING"},
        (330, 290),
    ),
    "ADN_MotionStrength": NodeType(
        {"previous": "MOTION_STRENGTH_ADN"}, {"effect": 1.0, "scale": 1.0}, STRENGTH, (290, 100)
    ),
    "ADN_MotionCurve": NodeType(
        {"source": "CURVE,MASK,AUDIO,FLOATS,FLOAT"},
        {"keyframes": "0: 0.5\n8: 1 ease\n15: 0.5", "over": "frames", "low": 0.0, "high": 1.0, "frame_rate": 8.0},
        {"curve": "MOTION_CURVE_ADN"},
        (300, 220),
    ),
    "CheckpointLoaderSimple": NodeType(
        {}, {"ckpt_name": ""}, {name: name for name in ("MODEL", "CLIP", "VAE")}, (315, 98)
    ),
    "ModelSamplingDiscrete": NodeType(MODEL, {"sampling": "eps", "zsnr": False}, {"MODEL": "MODEL"}, (300, 82)),
    "EmptyLatentImage": NodeType({}, {"width": 512, "height": 512, "batch_size": 1}, {"LATENT": "LATENT"}, (315, 106)),
    "RepeatLatentBatch": NodeType({"samples": "LATENT"}, {"amount": 1}, {"LATENT": "LATENT"}, (220, 60)),
    "RepeatImageBatch": NodeType({"image": "IMAGE"}, {"amount": 1}, {"IMAGE": "IMAGE"}, (220, 60)),
    "RebatchImages": NodeType(IMAGES, {"batch_size": 1}, {"IMAGE": "IMAGE"}, (220, 60)),
    "GetImageSize": NodeType({"image": "IMAGE"}, {}, {"width": "INT", "height": "INT", "batch_size": "INT"}, (220, 70)),
    "ImageFromBatch": NodeType({"image": "IMAGE"}, {"batch_index": 0, "length": 1}, {"IMAGE": "IMAGE"}, (220, 82)),
    "ImageScale": NodeType(
        {"image": "IMAGE"},
        {"upscale_method": "nearest-exact", "width": 512, "height": 512, "crop": "disabled"},
        {"IMAGE": "IMAGE"},
        (270, 130),
    ),
    "VAEEncode": NodeType({"pixels": "IMAGE", "vae": "VAE"}, {}, {"LATENT": "LATENT"}, (220, 46)),
    "VAEDecode": NodeType({"samples": "LATENT", "vae": "VAE"}, {}, {"IMAGE": "IMAGE"}, (220, 46)),
    "ControlNetLoader": NodeType({}, {"control_net_name": ""}, {"CONTROL_NET": "CONTROL_NET"}, (315, 58)),
    "DiffControlNetLoader": NodeType(MODEL, {"control_net_name": ""}, {"CONTROL_NET": "CONTROL_NET"}, (315, 58)),
    "ControlNetApply": NodeType(
        {"conditioning": "CONDITIONING", "control_net": "CONTROL_NET", "image": "IMAGE"},
        {"strength": 1.0},
        {"CONDITIONING": "CONDITIONING"},
        (315, 98),
    ),
    "ControlNetApplyAdvanced": NodeType(
        CONTROLS | {"control_net": "CONTROL_NET", "image": "IMAGE", "vae": "VAE"},
        {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0},
        CONTROLS,
        (315, 186),
    ),
    "LoadVideo": NodeType({}, {"file": ""}, {"VIDEO": "VIDEO"}, (310, 110), ("image",)),
    "GetVideoComponents": NodeType({"video": "VIDEO"}, {}, IMAGES | {"audio": "AUDIO", "fps": "FLOAT"}, (220, 80)),
    "LoadImageDataSetFromFolder": NodeType({}, {"folder": ""}, IMAGES, (310, 60)),
    "CreateVideo": NodeType(IMAGES | {"audio": "AUDIO"}, {"fps": 30.0}, {"VIDEO": "VIDEO"}, (220, 80)),
    "SaveVideo": NodeType(
        {"video": "VIDEO"}, {"filename_prefix": "video/ComfyUI", "format": "auto", "codec": "auto"}, {}, (315, 270)
    ),
    "SaveWEBM": NodeType(
        IMAGES, {"filename_prefix": "ComfyUI", "codec": "vp9", "fps": 24.0, "crf": 32.0}, {}, (315, 270)
    ),
    "SaveAnimatedWEBP": NodeType(
        IMAGES,
        {"filename_prefix": "ComfyUI", "fps": 6.0, "lossless": True, "quality": 80, "method": "default"},
        {},
        (315, 270),
    ),
    "SaveImage": NodeType(IMAGES, {"filename_prefix": "ComfyUI"}, {}, (315, 270)),
    # Hidden stand-in nodes, for what no other node does
    USE_EVOLVED_SAMPLING: stand_in_type("ADE_UseEvolvedSampling"),
    SAMPLE_SETTINGS: stand_in_type("ADE_AnimateDiffSamplingSettings"),
}

CURVED = "FLOAT,MOTION_CURVE_ADN"


def input_entry(kind: str, name: str) -> dict[str, Any]:
    """An input as the page saves it: a socket, or a widget that gets its value through a link."""
    made = NODE_TYPES[kind]
    if name in made.sockets:
        return {"name": name, "type": made.sockets[name], "link": None}
    kinds = CURVED if kind == "ADN_MotionStrength" else TYPES[type(made.widgets[name])]
    return {"name": name, "type": kinds, "link": None, "widget": {"name": name}}


def output_entry(name: str, type: str) -> dict[str, Any]:
    return {"name": name, "type": type, "links": []}


def properties(kind: str) -> dict[str, str]:
    return {"cnr_id": PACK if kind.startswith("ADN_") else "comfy-core", "Node name for S&R": kind}
