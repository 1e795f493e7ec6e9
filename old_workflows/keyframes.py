"""Pictures at frames of a clip: SparseCtrl of Advanced-ControlNet, PIA and AnimateLCM-I2V of the AnimateDiff pack.
Needs no ComfyUI."""

from __future__ import annotations

import re
from typing import Any

from .conversion import Conversion, Rule, described, within
from .graph import Node, Output
from .motion_strength import value_of

SPARSE_CTRL = "ACN_SparseCtrlLoaderAdvanced"
PREPROCESSOR = "ACN_SparseCtrlRGBPreprocessor"
INDEXES, SPREAD = "ACN_SparseCtrlIndexMethodNode", "ACN_SparseCtrlSpreadMethodNode"
PIA_PRESETS, PIA_VALUES = "ADE_InputPIA_PaperPresets", "ADE_InputPIA_Multival"
ENCODERS = {"VAEEncode": "pixels", "ADE_UpscaleAndVAEEncode": "image"}
AMOUNTS = {"Small": "small", "Medium": "moderate", "Large": "large"}
WRITE_FRAMES = "write the frames into Keyframe Images"
SET_MOTION = "set keyframe_motion and keyframe_strength"
CONNECT_IMAGES = "connect its images to Keyframe Images"
KINDS = {"Animation": "", "Loop": " loop", "Style Transfer": " style transfer"}


def sparse_ctrl(c: Conversion, node: Node) -> list[Output | None]:
    """Rewrite the loader of a SparseCtrl; Apply ControlNet nodes that give it plain pictures get Keyframe Images."""
    values = node.values
    settings = {
        "strength": within(0.0, values["motion_strength"] if values["use_motion"] else 0.0, 10.0),
        "motion_scale": within(0.0, values["motion_scale"], 10.0),
        "far_keyframes": "none" if values["context_aware"] == "off" else "nearest",
    }
    for name in ("sparse_hint_mult", "sparse_nonhint_mult", "sparse_mask_mult"):
        if values[name] != 1.0:
            c.say(node, f"{name} {values[name]} is left out.")
    frames = frames_of(c, node)
    for target, link in c.leads_to[node] if frames else ():
        images = target.links.get("image")
        if link.type == "CONTROL_NET" and images is not None and images.node.kind != PREPROCESSOR:
            keyframes = c.beside(node, "ADN_KeyframeImages", {"images": images, "frames": frames}, left=True)
            for applies in (target, c.placed.get(target, target)):  # it may have been rewritten already
                applies.links["image"] = Output(keyframes)
    return [Output(c.place(node, "ADN_LoadSparseCtrl", settings, "sparse_ctrl=sparsectrl_name"))]


def frames_of(c: Conversion, loader: Node) -> Output | str:
    """Return the frames of a SparseCtrl's pictures, as Keyframe Images reads them; empty spreads them evenly."""
    method = loader.source("sparse_method")
    if method is None:
        return ""
    if method.node.type == SPREAD:
        spread = method.node.values["spread"]
        if spread != "uniform":
            c.say(method.node, f"spread {spread} becomes even: {WRITE_FRAMES}.")
        return ""
    if method.node.type != INDEXES:
        c.say(loader, f"sparse_method, from {described(method.node)}, is left out: {WRITE_FRAMES}.")
        return ""
    if (link := method.node["indexes"]) is not None:
        return link
    indexes = method.node.values["indexes"]
    if not re.fullmatch(r"[\s,\d-]*", indexes):
        c.say(method.node, f'indexes "{" ".join(indexes.split())[:40]}" is left out: {WRITE_FRAMES}.')
        return ""
    return indexes


def preprocessor(c: Conversion, node: Node) -> list[Output | None]:
    """Rewrite the node that encodes pictures for a SparseCtrl, with the frames of the one that it is used with."""
    node.follow("latent_size")
    loaders = [
        source.node
        for target, _ in c.leads_to[node]
        if (source := target.source("control_net")) is not None and source.node.type == SPARSE_CTRL
    ]
    frames = frames_of(c, loaders[0]) if loaders else ""
    return [Output(c.place(node, "ADN_KeyframeImages", {"frames": frames}, "images=image vae"))]


def pia(c: Conversion, node: Node) -> dict[str, Any]:
    """Return the settings of Apply AnimateDiff for a picture that PIA follows."""
    settings: dict[str, Any] = {"keyframe_motion": "none"}
    frame, source = 0, node.source("pia_input")
    if source is not None and source.node.type == PIA_VALUES:
        settings["keyframe_strength"] = value_of(c, source.node, "multival")
    elif source is not None and source.node.type == PIA_PRESETS:
        values = source.node.values
        preset = re.fullmatch(r"(Animation|Loop|Style Transfer) \((Small|Medium|Large) Motion\)", values["preset"])
        if preset:
            settings["keyframe_motion"] = AMOUNTS[preset[2]] + KINDS[preset[1]]
        frame = values["batch_index"]
        settings["keyframe_strength"] = value_of(c, source.node, "mult_multival")
    elif source is not None:
        c.say(node, f"pia_input, from {described(source.node)}, is left out: {SET_MOTION}.")
    keyframes = c.beside(node, "ADN_KeyframeImages", {"frames": str(frame)}, "images=image vae", left=True)
    return settings | {"keyframes": keyframes}


def lcm_i2v(c: Conversion, node: Node) -> dict[str, Any]:
    """Return the settings of Apply AnimateDiff for the latents that AnimateLCM-I2V follows."""
    drift, source = {"keyframe_drift": node.values["ref_drift"]}, node.source("ref_latent")
    if (keyframes := node["keyframes"]) is not None:  # of a stand-in, which has the latents themselves
        return drift | {"keyframes": keyframes}
    if source is None or source.node.kind not in ENCODERS:
        if source is not None:
            c.say(node, f"ref_latent, from {described(source.node)}, is left out: {CONNECT_IMAGES}.")
        return {}
    images, vae = (source.node.links.get(name) for name in (ENCODERS[source.node.kind], "vae"))
    keyframes = c.beside(node, "ADN_KeyframeImages", {"images": images, "vae": vae}, left=True)
    return drift | {"keyframes": keyframes}


RULES: dict[str, Rule] = {SPARSE_CTRL: sparse_ctrl, PREPROCESSOR: preprocessor}
