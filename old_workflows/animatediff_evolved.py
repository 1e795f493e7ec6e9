"""Motion modules of ComfyUI-AnimateDiff-Evolved: its loaders of both generations and the legacy ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .contexts import legacy_windows, sliding_contexts
from .conversion import Conversion, Rule, described, within
from .enumerations import AUTOMATIC, BETA_SCHEDULES, KEEP, our_beta_schedule
from .graph import BYPASSED, Node, Output
from .keyframes import lcm_i2v, pia
from .motion_strength import clipped, motion_strength
from .node_types import USE_EVOLVED_SAMPLING
from .noise import custom_cfg, noise_nodes, seeds, sigma_schedule, uses_free_noise

V1 = ("AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced")
LORA = "ADE_AnimateDiffLoRALoader"
LOAD = {  # and what is lost
    "ADE_LoadAnimateDiffModel": None,
    "ADE_LoadAnimateLCMI2VModel": None,
    "ADE_InjectI2VIntoAnimateDiffModel": "AnimateLCM-I2V's encoder is left out: choose its own motion module.",
    "ADE_LoadAnimateDiffModelWithCameraCtrl": "CameraCtrl is not supported, the motion module is used without it.",
    "ADE_InjectPIAIntoAnimateDiffModel": "PIA's picture input is left out: choose its own motion module.",
}
UNSUPPORTED = ("cameractrl_poses",)  # inputs that the sentences of APPLY speak of
INJECT = ("ADE_InjectI2VIntoAnimateDiffModel", "ADE_InjectPIAIntoAnimateDiffModel")
PICTURES = {"ADE_ApplyAnimateLCMI2VModel": lcm_i2v, "ADE_ApplyAnimateDiffModelWithPIA": pia}
APPLY = {
    "ADE_ApplyAnimateDiffModelSimple": None,
    "ADE_ApplyAnimateDiffModel": None,
    "ADE_ApplyAnimateLCMI2VModel": None,
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": "CameraCtrl is not supported: the camera's movement is left out.",
    "ADE_ApplyAnimateDiffModelWithPIA": None,
}


def loader(c: Conversion, node: Node) -> list[Output | None]:
    """Rewrite one node that loads and applies a motion module."""
    values = node.values
    module = c.beside(node, "ADN_LoadMotionModule", module_settings(c, node), "motion_module=model_name", left=True)
    if values.get("apply_v2_models_properly") is False:
        c.say(node, "apply_v2_models_properly is always on; with a v2 module, its middle block acts too.")
    scale = {"motion_scale": clipped(c, node, values["motion_scale"])} if "motion_scale" in values else {}
    settings = scale | motion_strength(c, node) | {"motion_module": motion_loras(c, node, module)}
    model = lead_through(c, node, [c.place(node, "ADN_ApplyAnimateDiff", settings)])
    return [model, node["latents"]] if node.kind in V1 else [model]


def evolved_sampling(c: Conversion, node: Node) -> list[Output | None]:
    """Rewrite a node that puts together motion modules (perhaps none), windows and noise."""
    # The newest first: so they run in each block of the UNet.
    chain = c.chain(node, "m_models", dict.fromkeys(APPLY, "prev_m_models"))
    return [lead_through(c, node, [applied(c, old) for old in chain])]


def lead_through(c: Conversion, node: Node, row: list[Node]) -> Output | None:
    """Return the model after everything that an old node did to it, of which `row` applies the motion modules. The new
    nodes are switched off where the old node was."""
    model = node["model"]
    if model is None:
        c.say(node, "model is not connected, so nothing leads to the sampler.")
    for new in [*before(c, node, row), *row, *windows_and_noise(c, node)]:
        # What stood muted beside the model's path stands in it now.
        new.mode = node.mode or (BYPASSED if new.is_off(node) else new.mode)
        model = Output(new.set({"model": model}))
    custom_cfg(c, node)
    return model


def before(c: Conversion, node: Node, row: list[Node]) -> list[Node]:
    """Set the noise schedule on the Apply AnimateDiff nodes of a `row`. Return the node that stands in front of them
    for what they cannot set: other schedules, and seeds."""
    schedule = node.values["beta_schedule"]
    if schedule not in BETA_SCHEDULES:
        nearest = "lcm" if schedule.startswith("lcm") else "autoselect"
        c.say(node, f'beta_schedule "{schedule}" becomes "{our_beta_schedule(nearest)}".')
        schedule = nearest
    schedule = sigma_schedule(c, node) or schedule
    ours, sample_settings = our_beta_schedule(schedule), seeds(c, node)
    # The newest motion module that works decides what automatic is.
    decides = next((new for new in row if not new.is_off(node)), row[0]) if ours == AUTOMATIC and row else None
    for new in row:
        new.values["beta_schedule"] = KEEP if ours is None or decides not in (None, new) else ours
    if schedule.startswith("lcm") and ours is None:
        c.say(node, f'beta_schedule "{schedule}" is kept by a hidden node; "LCM" of Apply AnimateDiff is close to it.')
    nodes = []
    if ours == "LCM" and not row:
        nodes = [c.beside(node, "ModelSamplingDiscrete", {"sampling": "lcm"})]
    alone = not row and ours not in (AUTOMATIC, KEEP, "LCM")  # no Apply AnimateDiff that could set it
    if ours is None or alone or sample_settings is not None:
        settings = {"beta_schedule": schedule if ours is None or alone else "use existing"}
        settings |= {"sample_settings": sample_settings}
        nodes.append(c.beside(node, USE_EVOLVED_SAMPLING, settings, left=True))
    return nodes


def windows_and_noise(c: Conversion, node: Node) -> list[Node]:
    """Return the nodes for windows and noise that follow the motion modules."""
    if node.kind == V1[0]:
        return []
    if node.kind == V1[1]:
        return [c.beside(node, "ADN_SlidingContext", legacy_windows(c, node, node.values))]
    free_noise = uses_free_noise(c, node)
    contexts = sliding_contexts(c, node, free_noise)
    return [*contexts, *noise_nodes(c, node, contexts[0].values["context_length"] if contexts else 16)]


def applied(c: Conversion, node: Node) -> Node:
    if (loss := APPLY[node.type]) is not None:
        c.say(node, loss)
        node.follow(*UNSUPPORTED)
    settings, source = motion_strength(c, node), node.source("motion_model")
    if source is None or source.node.type not in LOAD:
        c.say(node, "its motion module is left out: connect Load Motion Module.")
    else:
        settings["motion_module"] = motion_loras(c, node, module_of(c, source.node))
    if node.type in PICTURES and (source is None or source.node.type not in INJECT):
        settings |= PICTURES[node.type](c, node)
    return c.place(node, "ADN_ApplyAnimateDiff", settings, "start_percent end_percent")


def module_of(c: Conversion, node: Node) -> Node:
    """Return Load Motion Module for an old loader; it may serve several."""
    if node in c.placed:
        return c.placed[node]
    if (loss := LOAD.get(node.type)) is not None:
        c.say(node, loss)
    return c.place(node, "ADN_LoadMotionModule", module_settings(c, node), "motion_module=model_name")


def module_settings(c: Conversion, node: Node) -> dict[str, Any]:
    settings, source = {"motion_module": node.values["model_name"]}, c.working(node, "ad_settings")
    if source is None:
        return settings
    stretch = source.node.source("pe_adjust")
    if stretch is not None and stretch.node.type == "ADE_AdjustPESweetspotStretch":
        stretched = stretch.node.values
        if stretched["sweetspot"] == 16:
            return settings | {"stretch_to": within(0, stretched["new_sweetspot"], 256)}
    c.say(node, f"ad_settings, from {described(source.node)}, is left out.")
    return settings


def motion_loras(c: Conversion, node: Node, module: Node, name: str = "motion_lora") -> Node:
    """Return the motion module with all motion LoRAs that an old node was given."""
    for old in reversed(c.chain(node, name, {LORA: "prev_motion_lora", "AnimateDiffLoraLoader": "lora_stack"})):
        settings = {"strength": within(-10.0, old.values["strength"], 10.0), "motion_module": module}
        module = c.place(old, "ADN_LoadMotionLora", settings, "motion_lora=name strength")
        if module.is_off(node):
            module.mode = BYPASSED  # muted, it would stop the sampler
    return module


LOADERS = ("ADE_AnimateDiffLoaderGen1", "ADE_AnimateDiffLoaderWithContext", *V1)
RULES: Mapping[str, Rule] = {**dict.fromkeys(LOADERS, loader), "ADE_UseEvolvedSampling": evolved_sampling}
