"""Sample settings of ComfyUI-AnimateDiff-Evolved: noise, seeds, and sampling several times."""

from __future__ import annotations

from typing import Any

from .conversion import BYPASSED, Conversion, called, is_off, within
from .enumerations import BETA_SCHEDULES, NOISE_TYPES
from .graph import Node
from .motion_strength import plain_number
from .node_types import SAMPLE_SETTINGS

SETTINGS = "ADE_AnimateDiffSamplingSettings"
SIGMAS = "ADE_SigmaSchedule"
CFG = {"KSampler": 3, "KSamplerAdvanced": 4, "SamplerCustom": 3, "CFGGuider": 0}  # place among the values
FREE_INIT, AGAIN = "ADE_IterationOptsFreeInit", "ADE_IterationOptsDefault"


def settings_node(c: Conversion, loader: Node) -> Node | None:
    source = c.source(loader, "sample_settings")
    if source is None or source.node["type"] == SETTINGS:
        return source.node if source else None
    c.say(loader, f"sample_settings, from {called(source.node)}, is left out.")
    return None


def uses_free_noise(c: Conversion, loader: Node) -> bool:
    settings = settings_node(c, loader)
    if settings is None or c.values(settings)["noise_type"] != "FreeNoise":
        return False
    if is_off(settings, loader):
        c.say(settings, "it is switched off, and so is free_noise.")
    return not is_off(settings, loader)


def sigma_schedule(c: Conversion, loader: Node) -> str | None:
    """Return the noise schedule that sample settings set in place of the loader's, if it has a name here."""
    settings = settings_node(c, loader)
    source = c.old.source(settings, "sigma_schedule") if settings is not None else None
    if source is None or source.node["type"] != SIGMAS or is_off(source.node, loader):
        return None
    name = c.values(source.node)["sigma_schedule"]
    if name not in BETA_SCHEDULES:
        return None
    c.follow(settings or loader, "sigma_schedule")
    return name


def custom_cfg(c: Conversion, loader: Node) -> None:
    """Write the cfg that sample settings set in place of the samplers' own into these, if it is one number."""
    settings = settings_node(c, loader)
    source = c.old.source(settings, "custom_cfg") if settings is not None else None
    if settings is None or source is None or is_off(settings, loader) or is_off(source.node, loader):
        return
    multival = c.old.source(source.node, "cfg_multival")
    values = c.values(multival.node) if multival is not None else c.values(source.node)
    number = values.get("float_val" if multival is not None else "cfg")
    if number is None or (multival is not None and plain_number(c, multival.node) is None):
        return
    c.follow(settings, "custom_cfg")
    samplers = [link.target for link in c.old.walk(loader, onward=True, types=("MODEL", "*"))]
    for sampler in samplers:
        if sampler["type"] in CFG and sampler["id"] in c.new.nodes:
            set_cfg(c, c.new.nodes[sampler["id"]], number)
        elif not {socket["type"] for socket in sampler["outputs"]} & {"MODEL", "SIGMAS", "*"}:
            c.say(sampler, f"set its cfg to {number:g}, which {called(source.node)} set.")
    if not samplers:
        c.say(source.node, f"cfg {number:g} is left out: set the cfg of the sampler.")


def set_cfg(c: Conversion, sampler: Node, number: float) -> None:
    saved, name = sampler["widgets_values"], "cfg"
    saved[name if isinstance(saved, dict) else CFG[sampler["type"]]] = number
    if (link := c.new.link_into(sampler, name)) is not None:
        c.new.redirect([link], None)


def seeds(c: Conversion, loader: Node) -> Node | None:
    """Return the stand-in for a loader's `sample_settings`, if these set what no other node does: offsets of the seed
    and of the frames, or a seed of their own."""
    settings = settings_node(c, loader)
    if settings is None or is_off(settings, loader) or not shifts_seeds(c, settings):
        return None
    inputs = {name: name for name in ("batch_offset", "seed_gen", "seed_offset", "seed_override")}
    return c.place(settings, SAMPLE_SETTINGS, {}, inputs)


def shifts_seeds(c: Conversion, settings: Node) -> bool:
    values, linked = c.values(settings), ("batch_offset", "seed_offset", "seed_override")
    return bool(
        values["batch_offset"] or values["seed_offset"] or any(c.source(settings, name) is not None for name in linked)
    )


def noise_nodes(c: Conversion, loader: Node, context_length: int) -> list[Node]:
    """Return Clip Noise and FreeInit for a loader's `sample_settings`; repeated noise starts over after
    `context_length` frames."""
    settings = settings_node(c, loader)
    if settings is None:
        return []
    nodes = clip_noises(c, settings, c.values(settings), context_length)
    iterations = c.source(settings, "iteration_opts")
    nodes += free_init(c, iterations.node) if iterations is not None else []
    if is_off(settings, loader):
        for node in nodes:
            node["mode"] = BYPASSED
    return nodes


def clip_noises(c: Conversion, settings: Node, values: dict[str, Any], context_length: int) -> list[Node]:
    noises, seed_gen, noise_type = [], values["seed_gen"], values["noise_type"]
    if "gpu" in seed_gen:
        c.say(settings, f'seed_gen "{seed_gen}": noise is drawn on the CPU, so the same seed gives another clip.')
    if seed_gen.startswith("auto1111") and not shifts_seeds(c, settings):
        noises.append({"noise": "per-frame seeds"})
    if noise_type == "empty" or noise_type not in NOISE_TYPES:
        c.say(settings, f'noise_type "{noise_type}" is left out.')
    elif (noise := NOISE_TYPES[noise_type]) is not None:
        noises.append({"noise": noise} | ({"period": context_length} if noise == "repeated" else {}))
    return [c.place(settings, "ADN_ClipNoise", {"share": 1.0} | noise) for noise in noises]


def free_init(c: Conversion, node: Node) -> list[Node]:
    if node["type"] != FREE_INIT:
        if node["type"] != AGAIN or c.values(node)["iterations"] > 1:
            c.say(node, "sampling again without FreeInit is left out.")
        return []
    values = c.values(node)
    usual = {"sigma_step": 999, "apply_to_1st_iter": False, "iter_batch_offset": 0, "iter_seed_offset": 1}
    for name, value in usual.items():
        if values[name] != value:
            c.say(node, f"{name} {values[name]} is left out.")
    if values["init_type"].startswith("Dink"):
        c.say(node, f'init_type "{values["init_type"]}" becomes FreeInit\'s own.')
    settings = {
        "iterations": within(1, values["iterations"], 10),
        "spatial_frequency": within(0.0, values["d_s"], 1.0),
        "temporal_frequency": within(0.0, values["d_t"], 1.0),
        "order": within(1, values["n_butterworth"], 16),
    }
    return [c.place(node, "ADN_FreeInit", settings, {"iterations": "iterations", "filter": "filter"})]
