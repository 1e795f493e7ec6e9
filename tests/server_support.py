"""A real ComfyUI server with the pack and its miniature models: what it is asked, and what is read of its answers."""

from __future__ import annotations

import io
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageSequence

from animatediff_native.tools.comfy_app import INPUTS, MODELS, PACKS, stand_ins
from animatediff_native.tools.comfy_server import ComfyServer
from animatediff_native.tools.workflow import with_stand_ins, workflow_to_prompt

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NODES = (
    "ADN_LoadMotionModule",
    "ADN_LoadMotionLora",
    "ADN_ApplyAnimateDiff",
    "ADN_SlidingContext",
    "ADN_PromptSchedule",
    "ADN_ClipNoise",
    "ADN_FreeInit",
    "ADN_MotionStrength",
    "ADN_MotionStrengthPerLevel",
    "ADN_MotionCurve",
    "ADN_MergeMotionModules",
    "ADN_SaveMotionModule",
    "ADN_TrainMotionLora",
    "ADN_TrainMotionModule",
    "ADN_SaveMotionLora",
    "ADN_ScoreAnimation",
)
STEPS, SIZE = 2, 64  # what the workflows ask for takes minutes; the demo and the evaluation render in full


def miniature_server(base: Path, packs: dict[str, Path] = PACKS, arguments: tuple[str, ...] = ()) -> ComfyServer:
    """With the miniature's models and videos beside what `base` holds already; not started yet."""
    comfyui = Path(os.environ["ADN_COMFYUI"])
    return ComfyServer(comfyui, base, packs=packs, models=MODELS, inputs=INPUTS, arguments=("--cpu", *arguments))


def fetch(server: ComfyServer, path: str, body: bytes | None = None) -> bytes:
    """What the server answers; with a body it is a POST."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{server.port}{path}", data=body, timeout=120) as answer:
        return answer.read()


# Prompts


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """As the page makes it; replacing nodes, ComfyUI expects a title."""
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}


def nodes_of(prompt: dict[str, Any], class_type: str) -> list[dict[str, Any]]:
    """The inputs of each."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == class_type]


def shortened(workflow: str, object_info: dict[str, Any]) -> dict[str, Any]:
    """An example workflow as a prompt for the miniature, of few steps and small pictures."""
    saved = json.loads((ROOT / "workflows" / f"{workflow}.json").read_text(encoding="utf-8"))
    prompt = with_stand_ins(workflow_to_prompt(saved, object_info), stand_ins())
    for class_type in ("KSampler", "ADN_TrainMotionLora"):
        for inputs in nodes_of(prompt, class_type):
            inputs["steps"] = STEPS
    for class_type in ("EmptyLatentImage", "ImageScale"):
        for inputs in nodes_of(prompt, class_type):
            inputs |= {"width": SIZE, "height": SIZE}
    return prompt


def four_frames(object_info: dict[str, Any]) -> dict[str, Any]:
    """The demo's workflow, in a second or two."""
    prompt = shortened("text_to_animation", object_info)
    nodes_of(prompt, "EmptyLatentImage")[0]["batch_size"] = 4
    return prompt


def problems(prompt: dict[str, Any], object_info: dict[str, Any]) -> Iterator[str]:
    """What the editor would mark red: inputs that are missing or unknown, choices and numbers that do not exist."""
    for entry in prompt.values():
        name, schema = entry["class_type"], object_info[entry["class_type"]]["input"]
        inputs = schema.get("required", {}) | schema.get("optional", {})
        yield from (f"{name} lacks {key}" for key in schema.get("required", {}) if key not in entry["inputs"])
        for key, value in entry["inputs"].items():
            kind, *options = inputs.get(key.split(".")[0], (None,))
            if kind is None:
                yield f"{name} has no {key}"
            elif isinstance(value, list):
                if value[0] not in prompt:
                    yield f"{name} gets {key} from a node that is not there"
            elif not allowed(value, kind, options[0] if options else {}):
                yield f"{name} has {key} {value}"


def allowed(value: Any, kind: str | list[str], options: dict[str, Any]) -> bool:
    if isinstance(kind, list) or kind == "COMBO":
        return value in (kind if isinstance(kind, list) else options["options"])
    if kind in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and options.get("min", value) <= value <= options.get("max", value)
    return True


# Clips


def frames_of(file: Path) -> tuple[int, int, int]:
    """Number of frames, width and height of a clip."""
    if file.suffix == ".webp":
        with Image.open(file) as picture:
            return picture.n_frames, *picture.size
    with av.open(str(file)) as video:
        frames = list(video.decode(video=0))
        return len(frames), frames[0].width, frames[0].height


def pixels(webp: bytes) -> np.ndarray:
    """(f, h, w, c) in [0, 1]; the bytes of two files differ already by the prompts that ComfyUI writes into them."""
    with Image.open(io.BytesIO(webp)) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) / 255.0 for frame in ImageSequence.Iterator(picture)])
