"""Sample settings of ComfyUI-AnimateDiff-Evolved: noise, seeds, and sampling several times."""

from __future__ import annotations

from typing import Any

from .conversion import Conversion, called, reachable, within
from .enumerations import BETA_SCHEDULES, NOISE_TYPES
from .graph import BYPASSED, Node
from .motion_strength import plain_number
from .node_types import SAMPLE_SETTINGS

SETTINGS = "ADE_AnimateDiffSamplingSettings"
SIGMAS = "ADE_SigmaSchedule"
CFG = {"KSampler": 3, "KSamplerAdvanced": 4, "SamplerCustom": 3, "CFGGuider": 0}  # place among the values
FREE_INIT, AGAIN = "ADE_IterationOptsFreeInit", "ADE_IterationOptsDefault"
SHIFTS = ("batch_offset", "seed_offset", "seed_override")


def settings_node(c: Conversion, loader: Node) -> Node | None:
    source = loader.source("sample_settings")
    if source is None or source.node.type == SETTINGS:
        return source.node if source else None
    c.say(loader, f"sample_settings, from {called(source.node)}, is left out.")
    return None


def uses_free_noise(c: Conversion, loader: Node) -> bool:
    settings = settings_node(c, loader)
    if settings is None or settings.values["noise_type"] != "FreeNoise":
        return False
    if settings.is_off(loader):
        c.say(settings, "it is switched off, and so is free_noise.")
    return not settings.is_off(loader)


def sigma_schedule(c: Conversion, loader: Node) -> str | None:
    """Return the noise schedule that sample settings set in place of the loader's, if it has a name here."""
    settings = settings_node(c, loader)
    source = settings.links.get("sigma_schedule") if settings is not None else None
    if settings is None or source is None or source.node.type != SIGMAS or source.node.is_off(loader):
        return None
    name = source.node.values["sigma_schedule"]
    if name not in BETA_SCHEDULES:
        return None
    settings.follow("sigma_schedule")
    return name


def custom_cfg(c: Conversion, loader: Node) -> None:
    """Write the cfg that sample settings set in place of the samplers' own into these, if it is one number."""
    settings = settings_node(c, loader)
    source = settings.links.get("custom_cfg") if settings is not None else None
    if settings is None or source is None or settings.is_off(loader) or source.node.is_off(loader):
        return
    multival = source.node.source("cfg_multival")
    number = plain_number(multival.node) if multival is not None else source.node.values.get("cfg")
    if number is None:
        return
    settings.follow("custom_cfg")

    def model(node: Node) -> list[Node]:
        return [target for target, link in c.leads_to[node] if (link.link_type or link.type) in ("MODEL", "*")]

    samplers = list(reachable(loader, model))
    for sampler in samplers:
        if sampler.type in CFG:
            saved = sampler.page["widgets_values"]
            saved["cfg" if isinstance(saved, dict) else CFG[sampler.type]] = number
            sampler.links.pop("cfg", None)
        elif not {socket["type"] for socket in sampler.outputs} & {"MODEL", "SIGMAS", "*"}:
            c.say(sampler, f"set its cfg to {number:g}, which {called(source.node)} set.")
    if not samplers:
        c.say(source.node, f"cfg {number:g} is left out: set the cfg of the sampler.")


def shifts_seeds(settings: Node) -> bool:
    links = [settings[name] for name in SHIFTS]
    return bool(settings.values["batch_offset"] or settings.values["seed_offset"] or any(links))


def seeds(c: Conversion, loader: Node) -> Node | None:
    """Return the stand-in for a loader's `sample_settings`, if these set what no other node does: offsets of the seed
    and of the frames, or a seed of their own."""
    settings = settings_node(c, loader)
    if settings is None or settings.is_off(loader) or not shifts_seeds(settings):
        return None
    return c.place(settings, SAMPLE_SETTINGS, inputs=" ".join(("seed_gen", *SHIFTS)))


def noise_nodes(c: Conversion, loader: Node, context_length: int) -> list[Node]:
    """Return Clip Noise and FreeInit for a loader's `sample_settings`; repeated noise starts over after
    `context_length` frames."""
    settings = settings_node(c, loader)
    if settings is None:
        return []
    nodes = clip_noises(c, settings, context_length)
    iterations = settings.source("iteration_opts")
    nodes += free_init(c, iterations.node) if iterations is not None else []
    for node in nodes:
        node.mode = BYPASSED if settings.is_off(loader) else node.mode
    return nodes


def clip_noises(c: Conversion, settings: Node, context_length: int) -> list[Node]:
    noises: list[dict[str, Any]] = []
    seed_gen, noise_type = settings.values["seed_gen"], settings.values["noise_type"]
    if "gpu" in seed_gen:
        c.say(settings, f'seed_gen "{seed_gen}": noise is drawn on the CPU, so the same seed gives another clip.')
    if seed_gen.startswith("auto1111") and not shifts_seeds(settings):
        noises.append({"noise": "per-frame seeds"})
    if noise_type == "empty" or noise_type not in NOISE_TYPES:
        c.say(settings, f'noise_type "{noise_type}" is left out.')
    elif (noise := NOISE_TYPES[noise_type]) is not None:
        noises.append({"noise": noise} | ({"period": context_length} if noise == "repeated" else {}))
    return [c.place(settings, "ADN_ClipNoise", {"share": 1.0} | noise) for noise in noises]


def free_init(c: Conversion, node: Node) -> list[Node]:
    values = node.values
    if node.type != FREE_INIT:
        if node.type != AGAIN or values["iterations"] > 1:
            c.say(node, "sampling again without FreeInit is left out.")
        return []
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
    return [c.place(node, "ADN_FreeInit", settings, "iterations filter")]
