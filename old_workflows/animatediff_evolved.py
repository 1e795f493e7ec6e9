"""Motion modules of ComfyUI-AnimateDiff-Evolved: its loaders of both generations and the legacy ones."""

from __future__ import annotations

from typing import Any

from .contexts import context_nodes, sliding_context, windows
from .conversion import Conversion, called, first_output, is_off, pass_through, within
from .enumerations import AUTOMATIC, BETA_SCHEDULES, KEEP, our_beta_schedule
from .graph import Link, Node, Output, set_value, value_of
from .motion_strength import clipped, motion_strength
from .node_types import USE_EVOLVED_SAMPLING
from .noise import custom_cfg, noise_nodes, seeds, sigma_schedule, uses_free_noise

V1 = ("AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced")
LOADERS = ("ADE_AnimateDiffLoaderGen1", "ADE_AnimateDiffLoaderWithContext", *V1)
GEN2 = "ADE_UseEvolvedSampling"
LORA = "ADE_AnimateDiffLoRALoader"
LOAD = {  # and what is lost
    "ADE_LoadAnimateDiffModel": None,
    "ADE_LoadAnimateLCMI2VModel": "AnimateLCM-I2V is not supported: choose another motion module.",
    "ADE_InjectI2VIntoAnimateDiffModel": "AnimateLCM-I2V is not supported, the motion module is used alone.",
    "ADE_LoadAnimateDiffModelWithCameraCtrl": "CameraCtrl is not supported, the motion module is used without it.",
    "ADE_InjectPIAIntoAnimateDiffModel": "PIA is not supported, the motion module is used alone.",
}
UNSUPPORTED = ("ref_latent", "cameractrl_poses", "image")  # inputs that the sentences of APPLY speak of
APPLY = {
    "ADE_ApplyAnimateDiffModelSimple": None,
    "ADE_ApplyAnimateDiffModel": None,
    "ADE_ApplyAnimateLCMI2VModel": "AnimateLCM-I2V is not supported: the picture that it follows is left out.",
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": "CameraCtrl is not supported: the camera's movement is left out.",
    "ADE_ApplyAnimateDiffModelWithPIA": "PIA is not supported: the picture that it begins with is left out.",
}


def convert_loaders(c: Conversion) -> None:
    for node in c.of_type(*LOADERS):
        loader(c, node)
    for node in c.of_type(GEN2):
        evolved_sampling(c, node)


def loader(c: Conversion, node: Node) -> None:
    """Rewrite one node that loads and applies a motion module."""
    values = c.values(node)
    module = c.beside(node, "ADN_LoadMotionModule", module_settings(c, node, values), left=True)
    c.carry(node, "model_name", module, "motion_module")
    if node["type"] in V1:
        c.pass_on(node, 1, "latents")
    if values.get("apply_v2_models_properly") is False:
        c.say(node, "apply_v2_models_properly is always on; with a v2 module, its middle block acts too.")
    scale = {"motion_scale": clipped(c, node, values["motion_scale"])} if "motion_scale" in values else {}
    apply = c.place(node, "ADN_ApplyAnimateDiff", scale, {"model": "model"}, (0,))
    with_strength(c, node, apply)
    c.new.connect(motion_loras(c, node, first_output(module)), apply, "motion_module")
    lead_through(c, node, c.new.links_from(apply), [apply], values["beta_schedule"])


def evolved_sampling(c: Conversion, node: Node) -> None:
    """Rewrite a node that puts together motion modules (perhaps none), windows and noise."""
    # The newest first: so they run in each block of the UNet.
    row = [applied(c, old) for old in c.chain(node, "m_models", dict.fromkeys(APPLY, "prev_m_models"))]
    lead_through(c, node, c.new.links_from(c.new.nodes[node["id"]]), row, c.values(node)["beta_schedule"])
    c.new.remove(c.new.nodes[node["id"]])


def lead_through(c: Conversion, node: Node, links: list[Link], row: list[Node], schedule: str) -> None:
    """Put everything that an old node does to a model between what leads into it and the `links` out of it. The new
    nodes are switched off where the old node was."""
    link = c.link(node, "model")
    if link is None:
        c.say(node, "model is not connected, so nothing leads to the sampler.")
    row = [*before(c, node, row, schedule), *row, *windows_and_noise(c, node)]
    source = link.source if link else None
    pass_through(row, node)
    for new in row:
        new["mode"] = node["mode"] or new["mode"]
        into = c.new.link_into(new, "model")
        if source is not None and (into is None or into.source.socket is not source.socket):
            c.new.connect(source, new, "model")
        source = first_output(new)
    c.new.redirect(links, source)
    custom_cfg(c, node)


def before(c: Conversion, node: Node, row: list[Node], schedule: str) -> list[Node]:
    """Set the noise schedule on the Apply AnimateDiff nodes of a `row`. Return the node that stands in front of them
    for what they cannot set: other schedules, and seeds."""
    if schedule not in BETA_SCHEDULES:
        nearest = "lcm" if schedule.startswith("lcm") else "autoselect"
        c.say(node, f'beta_schedule "{schedule}" becomes "{our_beta_schedule(nearest)}".')
        schedule = nearest
    schedule = sigma_schedule(c, node) or schedule
    ours, sample_settings = our_beta_schedule(schedule), seeds(c, node)
    for new in row:
        set_value(new, "beta_schedule", ours or KEEP)
    if ours == AUTOMATIC and row:  # the newest motion module decides, which is the first
        decides = next((new for new in row if not is_off(new, node)), row[0])
        for new in row:
            set_value(new, "beta_schedule", AUTOMATIC if new is decides else KEEP)
    nodes = []
    if ours == "LCM" and not row:
        nodes = [c.beside(node, "ModelSamplingDiscrete", {"sampling": "lcm"})]
    alone = not row and ours not in (AUTOMATIC, KEEP, "LCM")  # no Apply AnimateDiff that could set it
    if ours is None or alone or sample_settings is not None:
        old_schedule = schedule if ours is None or alone else "use existing"
        nodes.append(c.beside(node, USE_EVOLVED_SAMPLING, {"beta_schedule": old_schedule}, left=True))
        if sample_settings is not None:
            c.new.connect(first_output(sample_settings), nodes[-1], "sample_settings")
    return nodes


def windows_and_noise(c: Conversion, node: Node) -> list[Node]:
    """Return the nodes for windows and noise that follow the motion modules."""
    if node["type"] == V1[1]:
        legacy = {**node, "type": "ADE_AnimateDiffUniformContextOptions"}
        settings = windows(c, legacy, c.values(node) | {"fuse_method": "flat"}) | {"free_noise": False}
        return [c.beside(node, "ADN_SlidingContext", settings)]
    free_noise = uses_free_noise(c, node)
    contexts = [sliding_context(c, old, free_noise) for old in context_nodes(c, node)]
    return [*contexts, *noise_nodes(c, node, value_of(contexts[0], "context_length") if contexts else 16)]


def applied(c: Conversion, node: Node) -> Node:
    if (loss := APPLY[node["type"]]) is not None:
        c.say(node, loss)
        c.follow(node, *UNSUPPORTED)
    apply = c.place(node, "ADN_ApplyAnimateDiff", {}, {name: name for name in ("start_percent", "end_percent")})
    with_strength(c, node, apply)
    source = c.source(node, "motion_model")
    if source is None or source.node["type"] not in LOAD:
        c.say(node, "its motion module is left out: connect Load Motion Module.")
        return apply
    c.new.connect(motion_loras(c, node, first_output(module_of(c, source.node))), apply, "motion_module")
    return apply


def with_strength(c: Conversion, node: Node, apply: Node) -> None:
    for name, number in motion_strength(c, node, apply).items():
        set_value(apply, name, number)


def module_of(c: Conversion, node: Node) -> Node:
    """Return Load Motion Module for an old loader; it may serve several."""
    if node["id"] in c.placed:
        return c.placed[node["id"]]
    if (loss := LOAD[node["type"]]) is not None:
        c.say(node, loss)
    settings = module_settings(c, node, c.values(node))
    return c.place(node, "ADN_LoadMotionModule", settings, {"motion_module": "model_name"})


def module_settings(c: Conversion, node: Node, values: dict[str, Any]) -> dict[str, Any]:
    settings = {"motion_module": values["model_name"]}
    source = c.working(node, "ad_settings")
    if source is None:
        return settings
    stretch = c.old.source(source.node, "pe_adjust")
    if stretch is not None and stretch.node["type"] == "ADE_AdjustPESweetspotStretch":
        stretched = c.values(stretch.node)
        if stretched["sweetspot"] == 16:
            c.follow(source.node, "pe_adjust")
            return settings | {"stretch_to": within(0, stretched["new_sweetspot"], 256)}
    c.say(node, f"ad_settings, from {called(source.node)}, is left out.")
    return settings


def motion_loras(c: Conversion, node: Node, module: Output, name: str = "motion_lora") -> Output:
    """Return the motion module with all motion LoRAs that an old node was given."""
    for old in reversed(c.chain(node, name, {LORA: "prev_motion_lora", "AnimateDiffLoraLoader": "lora_stack"})):
        settings = {"strength": within(-10.0, c.values(old)["strength"], 10.0)}
        lora = c.place(old, "ADN_LoadMotionLora", settings, {"motion_lora": "name", "strength": "strength"})
        c.new.connect(module, lora, "motion_module")
        pass_through([lora], node)
        module = first_output(lora)
    return module
