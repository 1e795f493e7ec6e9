"""Sample settings of ComfyUI-AnimateDiff-Evolved: noise, and sampling several times."""

from __future__ import annotations

from typing import Any

from .conversion import BYPASSED, Conversion, called, is_off, within
from .graph import Node

SETTINGS = "ADE_AnimateDiffSamplingSettings"
FREE_INIT = "ADE_IterationOptsFreeInit"
NEUTRAL = {"batch_offset": 0, "seed_offset": 0}
PER_FRAME_SEEDS = "auto1111"


def settings_node(c: Conversion, loader: Node) -> Node | None:
    source = c.old.source(loader, "sample_settings")
    if source is None:
        return None
    if source.node["type"] == SETTINGS:
        return source.node
    c.say(loader, f"sample_settings, from {called(source.node)}, is left out.")
    return None


def uses_free_noise(c: Conversion, loader: Node) -> bool:
    settings = settings_node(c, loader)
    if settings is None or c.read(settings).get("noise_type") != "FreeNoise":
        return False
    if is_off(settings, loader):
        c.say(settings, "it is switched off, and so is free_noise.")
    return not is_off(settings, loader)


def sampling_nodes(c: Conversion, loader: Node, context_length: int) -> list[Node]:
    """Clip Noise and FreeInit for a loader's `sample_settings`; repeated noise starts over after `context_length`."""
    settings = settings_node(c, loader)
    if settings is None:
        return []
    values = c.read(settings, fixed=("noise_type", "seed_gen"))
    for name, neutral in NEUTRAL.items():
        if values.get(name, neutral) != neutral or c.old.link_into(settings, name) is not None:
            c.say(settings, f"{name} {values.get(name)} is left out: change the sampler's seed instead.")
    c.leave_out(settings, "iteration_opts", "noise_type", "seed_gen", *NEUTRAL)
    nodes = clip_noises(c, settings, values, context_length)
    iterations = c.old.source(settings, "iteration_opts")
    nodes += free_init(c, iterations.node) if iterations is not None else []
    if is_off(settings, loader):
        for node in nodes:
            node["mode"] = BYPASSED
    return nodes


def clip_noises(c: Conversion, settings: Node, values: dict[str, Any], context_length: int) -> list[Node]:
    nodes, seeds, noise = [], str(values.get("seed_gen", "comfy")), values.get("noise_type", "default")
    if "gpu" in seeds:
        c.say(settings, f'seed_gen "{seeds}": noise is drawn on the CPU, so the same seed gives another clip.')
    if seeds.startswith(PER_FRAME_SEEDS):
        nodes.append(c.place(settings, "ADN_ClipNoise", {"noise": "per-frame seeds", "share": 1.0}))
    if noise == "constant":
        nodes.append(c.place(settings, "ADN_ClipNoise", {"noise": "constant", "share": 1.0}))
    elif noise == "repeated_context":
        repeated = {"noise": "repeated", "share": 1.0, "period": context_length}
        nodes.append(c.place(settings, "ADN_ClipNoise", repeated))
    elif noise not in ("default", "FreeNoise"):
        c.say(settings, f'noise_type "{noise}" is left out.')
    return nodes


def free_init(c: Conversion, node: Node) -> list[Node]:
    values = c.read(node, fixed=("filter",))
    if node["type"] != FREE_INIT:
        if node["type"] != "ADE_IterationOptsDefault" or values.get("iterations", 1) > 1:
            c.say(node, "sampling again without FreeInit is left out.")
        return []
    usual = {"sigma_step": 999, "apply_to_1st_iter": False, "iter_batch_offset": 0, "iter_seed_offset": 1}
    for name, value in usual.items():
        if values.get(name, value) != value:
            c.say(node, f"{name} {values[name]} is left out.")
    if str(values.get("init_type", "")).startswith("Dink"):
        c.say(node, f'init_type "{values["init_type"]}" becomes FreeInit\'s own.')
    settings = {
        "iterations": within(1, values.get("iterations", 2), 10),
        "filter": values.get("filter", "gaussian"),
        "spatial_frequency": within(0.0, values.get("d_s", 0.25), 1.0),
        "temporal_frequency": within(0.0, values.get("d_t", 0.25), 1.0),
        "order": within(1, values.get("n_butterworth", 4), 16),
    }
    return [c.place(node, "ADN_FreeInit", settings, {"iterations": "iterations"})]
