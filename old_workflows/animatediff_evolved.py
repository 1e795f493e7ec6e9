"""Motion modules of ComfyUI-AnimateDiff-Evolved: its loaders of both generations and the legacy ones."""

from __future__ import annotations

from typing import Any

from .context_options import context_nodes, sliding_contexts, windows
from .conversion import Conversion, called, first_output, is_off, pass_through, within
from .graph import Link, Node, Output
from .motion_strength import motion_strength
from .sample_settings import sampling_nodes, uses_free_noise

GEN1 = ("ADE_AnimateDiffLoaderGen1", "ADE_AnimateDiffLoaderWithContext")
V1 = ("AnimateDiffLoaderV1", "ADE_AnimateDiffLoaderV1Advanced")
GEN2 = "ADE_UseEvolvedSampling"
LORA = "ADE_AnimateDiffLoRALoader"
LOAD = {  # and what of them there is no counterpart for
    "ADE_LoadAnimateDiffModel": None,
    "ADE_LoadAnimateLCMI2VModel": "AnimateLCM-I2V is not supported: choose another motion module.",
    "ADE_InjectI2VIntoAnimateDiffModel": "AnimateLCM-I2V is not supported, the motion module is used alone.",
    "ADE_LoadAnimateDiffModelWithCameraCtrl": "CameraCtrl is not supported, the motion module is used without it.",
    "ADE_InjectPIAIntoAnimateDiffModel": "PIA is not supported, the motion module is used alone.",
}
APPLY = {
    "ADE_ApplyAnimateDiffModelSimple": None,
    "ADE_ApplyAnimateDiffModel": None,
    "ADE_ApplyAnimateLCMI2VModel": "AnimateLCM-I2V is not supported: the picture that it follows is left out.",
    "ADE_ApplyAnimateDiffModelWithCameraCtrl": "CameraCtrl is not supported: the camera's movement is left out.",
    "ADE_ApplyAnimateDiffModelWithPIA": "PIA is not supported: the picture that it begins with is left out.",
}
KEEP = "keep the model's own"
BETA_SCHEDULES = {
    "autoselect": "automatic",
    "use existing": KEEP,
    "sqrt_linear (AnimateDiff)": "AnimateDiff SD1.5",
    "linear (AnimateDiff-SDXL)": "AnimateDiff SDXL",
    "linear (HotshotXL/default)": "Stable Diffusion",
    "linear (default)": "Stable Diffusion",  # its name in 2023
    "lcm": "LCM",
}
HANDLED = ("model", "model_name", "motion_lora", "context_options", "sample_settings", "ad_settings", "ad_keyframes",
           "scale_multival", "effect_multival", "m_models", "prev_m_models", "motion_model", "latents")  # fmt: skip


def convert_loaders(c: Conversion) -> None:
    for node in c.of_type(*GEN1, *V1):
        loader(c, node)
    for node in c.of_type(GEN2):
        evolved_sampling(c, node)


def loader(c: Conversion, node: Node) -> None:
    """One node that loads and applies a motion module."""
    values = c.read(node, fixed=("beta_schedule", "motion_scale"))
    c.leave_out(node, *HANDLED, "beta_schedule", "motion_scale")
    module = c.beside(node, "ADN_LoadMotionModule", module_settings(c, node, values), left=True)
    c.carry(node, "model_name", module, "motion_module")
    settings = {"beta_schedule": beta_schedule(c, node, values.get("beta_schedule", "autoselect"))}
    if node["type"] in V1:
        c.pass_on(node, 1, "latents")
    elif "motion_scale" in values:
        settings["motion_scale"] = within(0.0, values["motion_scale"], 10.0)
    if values.get("apply_v2_models_properly") is False:
        c.say(node, "apply_v2_models_properly is always on.")
    apply = c.place(node, "ADN_ApplyAnimateDiff", settings, {"model": "model"}, (0,))
    with_strength(c, node, apply)
    c.new.connect(motion_loras(c, node, first_output(module)), apply, "motion_module")
    links = c.new.links_from(apply)
    if node["type"] == V1[1]:
        after = [c.beside(node, "ADN_SlidingContext", v1_windows(c, node, values))]
    else:
        after = sampling(c, node)
    lead_through(c, links, first_output(apply), after, node)


def v1_windows(c: Conversion, node: Node, values: dict[str, Any]) -> dict[str, Any]:
    legacy = {**node, "type": "ADE_AnimateDiffUniformContextOptions"}
    return windows(c, legacy, {**values, "fuse_method": "flat"}) | {"free_noise": False}


def evolved_sampling(c: Conversion, node: Node) -> None:
    """A node that puts together motion modules (perhaps none), windows and noise."""
    values = c.read(node, fixed=("beta_schedule",))
    c.leave_out(node, *HANDLED, "beta_schedule")
    schedule = values.get("beta_schedule", "autoselect")
    old = motion_models(c, node)
    nodes = [applied(c, each, beta_schedule(c, node, schedule)) for each in old]
    if schedule == "autoselect":  # the newest motion module decides, which is the first
        decides = next((each for each in nodes if not is_off(each, node)), next(iter(nodes), None))
        for each in nodes:
            each["widgets_values"][3] = each["widgets_values"][3] if each is decides else KEEP
    if not nodes:
        nodes = without_motion(c, node, schedule)
    nodes += sampling(c, node)
    new = c.new.nodes[node["id"]]
    link, links = c.new.link_into(new, "model"), c.new.links_from(new)
    if link is None:
        c.say(node, "model is not connected, so nothing leads to the sampler.")
    lead_through(c, links, link.source if link else None, nodes, node)
    c.new.remove(new)


def motion_models(c: Conversion, node: Node) -> list[Node]:
    """Newest first: so they run in each block of the UNet."""
    found, source = [], c.old.source(node, "m_models")
    while source is not None:
        if source.node["type"] not in APPLY:
            c.say(node, f"the motion module of {called(source.node)} is left out.")
            break
        found.append(source.node)
        source = c.old.source(source.node, "prev_m_models")
    return found


def applied(c: Conversion, node: Node, schedule: str) -> Node:
    values = c.read(node)
    c.leave_out(node, *HANDLED, "start_percent", "end_percent", "ref_latent", "cameractrl_poses", "image")
    if (loss := APPLY[node["type"]]) is not None:
        c.say(node, loss)
    settings = {name: values[name] for name in ("start_percent", "end_percent") if name in values}
    linked = {name: name for name in settings}
    apply = c.place(node, "ADN_ApplyAnimateDiff", settings | {"beta_schedule": schedule}, linked)
    with_strength(c, node, apply)
    source = c.old.source(node, "motion_model")
    if source is None or source.node["type"] not in LOAD:
        c.say(node, "its motion module is left out: connect Load Motion Module.")
        return apply
    c.new.connect(motion_loras(c, node, first_output(module_of(c, source.node))), apply, "motion_module")
    return apply


def with_strength(c: Conversion, node: Node, apply: Node) -> None:
    numbers = motion_strength(c, node, apply)
    apply["widgets_values"][0] = numbers.get("strength", apply["widgets_values"][0])
    apply["widgets_values"][4] = numbers.get("motion_scale", apply["widgets_values"][4])


def module_of(c: Conversion, node: Node) -> Node:
    """Load Motion Module for an old loader; it may serve several."""
    if node["id"] in c.placed:
        return c.placed[node["id"]]
    if (loss := LOAD[node["type"]]) is not None:
        c.say(node, loss)
    c.leave_out(node, "model_name", "ad_settings")
    values = module_settings(c, node, c.read(node))
    return c.place(node, "ADN_LoadMotionModule", values, {"motion_module": "model_name"})


def module_settings(c: Conversion, node: Node, values: dict[str, Any]) -> dict[str, Any]:
    settings = {"motion_module": values.get("model_name", "")}
    source = c.working(node, "ad_settings")
    if source is None:
        return settings
    stretch = c.old.source(source.node, "pe_adjust")
    if stretch is not None and stretch.node["type"] == "ADE_AdjustPESweetspotStretch":
        stretched = c.read(stretch.node)
        if stretched.get("sweetspot") == 16:
            c.leave_out(source.node, "pe_adjust")
            c.leave_out(stretch.node)
            return settings | {"stretch_to": within(0, stretched.get("new_sweetspot", 16), 256)}
    c.say(node, f"ad_settings, from {called(source.node)}, is left out.")
    return settings


def beta_schedule(c: Conversion, node: Node, name: str) -> str:
    if name in BETA_SCHEDULES:
        return BETA_SCHEDULES[name]
    nearest = "LCM" if name.startswith("lcm") else "automatic"
    c.say(node, f'beta_schedule "{name}" becomes "{nearest}".')
    return nearest


def without_motion(c: Conversion, node: Node, schedule: str) -> list[Node]:
    """What sets the model's noise schedule where no motion module does."""
    if schedule == "lcm":
        return [c.beside(node, "ModelSamplingDiscrete", {"sampling": "lcm"})]
    if schedule not in ("autoselect", "use existing"):
        c.say(node, f'beta_schedule "{schedule}" is left out: there is no motion module that would set it.')
    return []


def motion_loras(c: Conversion, node: Node, module: Output) -> Output:
    """The motion module with all motion LoRAs that an old node was given."""
    found, source = [], c.old.source(node, "motion_lora")
    while source is not None:
        if source.node["type"] != LORA:
            c.say(node, f"motion_lora, from {called(source.node)}, is left out.")
            break
        found.append(source.node)
        source = c.old.source(source.node, "prev_motion_lora")
    for each in found[::-1]:
        values = c.read(each)
        settings = {"motion_lora": values.get("lora_name", values.get("name", ""))}
        settings["strength"] = within(-10.0, values.get("strength", 1.0), 10.0)
        linked = {"motion_lora": "lora_name" if c.old.link_into(each, "lora_name") else "name", "strength": "strength"}
        lora = c.place(each, "ADN_LoadMotionLora", settings, linked)
        c.new.connect(module, lora, "motion_module")
        pass_through([lora], node)
        module = first_output(lora)
    return module


def sampling(c: Conversion, node: Node) -> list[Node]:
    """The nodes for windows and noise that follow the motion modules."""
    contexts = sliding_contexts(c, node, uses_free_noise(c, node))
    length = contexts[0]["widgets_values"][0] if context_nodes(c, node) else 16
    return [*contexts, *sampling_nodes(c, node, length)]


def lead_through(c: Conversion, links: list[Link], source: Output | None, nodes: list[Node], like: Node) -> None:
    """Let `links` begin behind a row of nodes, which are switched off where the old node was."""
    pass_through(nodes, like)
    for node in nodes:
        node["mode"] = like["mode"] or node["mode"]
        if source is not None:
            c.new.connect(source, node, "model")
        source = first_output(node)
    c.new.redirect(links, source)
