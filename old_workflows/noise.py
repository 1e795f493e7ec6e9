"""Sample settings of ComfyUI-AnimateDiff-Evolved: noise, seeds, and sampling several times."""

from __future__ import annotations

from typing import Any

from .conversion import BYPASSED, Conversion, called, is_off, within
from .enumerations import NOISE_TYPES
from .graph import Node
from .node_types import SAMPLE_SETTINGS

SETTINGS = "ADE_AnimateDiffSamplingSettings"
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
    return bool(values["batch_offset"] or values["seed_offset"]
                or any(c.source(settings, name) is not None for name in linked))  # fmt: skip


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
