"""ComfyUI's nodes that take a MODEL and give one work beside the pack's; one of a later version is tested at once."""

from __future__ import annotations

import asyncio
from functools import partial, reduce
from itertools import permutations
from typing import Any
from unittest import mock

import pytest
import torch
from comfy_support import animate, load_motion
from node_support import (
    CHANNELS,
    NEGATIVE,
    POSITIVE,
    core_nodes,
    empty_latent,
    error,
    guided,
    noise_of,
    prompt,
    run,
    small_model,
)

FRAMES, WINDOW = 4, 2
SAME = 1e-4
INPUTS = {"CONDITIONING": prompt(7), "LATENT": empty_latent(), "LATENT_OPERATION": lambda latent, **_: latent * 0.9}
"""Values for inputs without a default, by type."""
OF_OTHER_MODELS = {"CLIP", "VAE", "MODEL_PATCH", "LORA_MODEL", "AUDIO", "COMFY_DYNAMICCOMBO_V3"}
"""Types of inputs that only nodes for files and for other models need."""
ORDER = "sets the noise schedule, as Apply AnimateDiff does: the later one of the two holds"
EXCEPTIONS = {
    "after": dict.fromkeys(
        [
            "ModelSamplingContinuousEDM",
            "ModelSamplingContinuousV",
            "ModelSamplingDiscrete",
            "ModelSamplingStableCascade",
        ],
        ORDER,
    ),
    "windows": {
        "Mahiro": "compares prompts over the whole clip",
        "PerpNeg": "projects on the prompt of the whole clip",
        "TomePatchModel": "chooses tokens at random in each call",
        "VideoLinearCFGGuidance": "guides each frame by its place in the clip",
        "VideoTriangleCFGGuidance": "guides each frame by its place in the clip",
    },
}
"""By what is not compared: the nodes, and why."""


def inputs_of(node: Any) -> dict[str, tuple[Any, ...]]:
    kinds = node.INPUT_TYPES()
    return kinds.get("required", {}) | kinds.get("optional", {})


def core_model_nodes() -> dict[str, Any]:
    """Classes by id, as ComfyUI has them without custom nodes."""
    with mock.patch.dict(core_nodes.NODE_CLASS_MAPPINGS):
        asyncio.run(core_nodes.init_builtin_extra_nodes())
        nodes = dict(core_nodes.NODE_CLASS_MAPPINGS)
    return {
        name: node
        for name, node in nodes.items()
        if "MODEL" in node.RETURN_TYPES and "MODEL" in [kind for kind, *_ in inputs_of(node).values()]
    }


NODES = core_model_nodes()


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def second_model():
    return small_model()


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return load_motion(tmp_path_factory.mktemp("models"), channels=CHANNELS)


@pytest.fixture(scope="module")
def bare(model, motion):
    with torch.inference_mode():
        return clip(animate(model, motion))


def clip(model: Any, noise: torch.Tensor | None = None) -> torch.Tensor:
    torch.manual_seed(0)  # some nodes draw
    return guided(model, POSITIVE, NEGATIVE, 3.0, noise_of(FRAMES) if noise is None else noise)


def in_windows(adn: dict[str, Any], model: Any, **options: Any) -> Any:
    kind = {"schedule": "batched", "fuse": "flat", "free_noise": False, "context_length": WINDOW}
    return run(adn["ADN_SlidingContext"], model=model, context_overlap=0, **kind, **options)


def default(kind: Any, options: dict[str, Any]) -> Any:
    """The value of a widget that nobody touched; KeyError if there is none."""
    choices = kind if isinstance(kind, list) else options.get("options")
    return options["default"] if "default" in options or not choices else choices[0]


def patched(node: Any, model: Any, second: Any) -> Any:
    """The MODEL that a node gives with its defaults; merges get a second one."""
    models, values, required = iter([model, second]), {}, node.INPUT_TYPES().get("required", {})
    for name, (kind, *options) in inputs_of(node).items():
        if kind == "MODEL":
            values[name] = next(models)
        elif not isinstance(kind, list) and kind in INPUTS:
            values[name] = INPUTS[kind]
        elif not isinstance(kind, list) and kind in OF_OTHER_MODELS and name in required:
            pytest.skip(f"needs {kind}")
        else:
            try:
                values[name] = default(kind, options[0] if options else {})
            except KeyError:
                if name in required and (isinstance(kind, list) or kind == "COMBO"):
                    pytest.skip("needs a file")
                assert name not in required, f"{name} needs a value: add its type, {kind}, to INPUTS"
    outputs = run(node, **values)
    return outputs[node.RETURN_TYPES.index("MODEL")] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", NODES)
def test_a_core_node_does_to_a_clip_what_it_does_to_pictures(adn, model, second_model, motion, bare, name):
    """Before and after Apply AnimateDiff, for one frame, in windows and in each window alone."""

    def use(model: Any) -> Any:
        return patched(NODES[name], model, second_model)

    windows = partial(in_windows, adn)
    try:
        animated = animate(use(model), motion)
        sampled = clip(animated)
    except Exception as refused:
        with pytest.raises(type(refused)):  # it is for other models
            clip(use(model))
        return
    if torch.equal(sampled, bare):
        return
    assert torch.equal(clip(animated), sampled)
    if name not in EXCEPTIONS["after"]:
        assert torch.equal(clip(use(animate(model, motion))), sampled)
    still = noise_of(1)
    plain = clip(use(model), still)
    keep = "keep the model's own"
    assert torch.equal(clip(animate(use(model), motion, beta_schedule=keep), still), plain)
    if name in EXCEPTIONS["windows"]:
        return
    alone = torch.cat([clip(animated, noise) for noise in noise_of(FRAMES).split(WINDOW)])
    try:
        assert error(clip(windows(animated)), alone) < SAME
        assert error(clip(windows(animated, windows_at_once=2)), alone) < SAME
    except ValueError as refused:
        assert '"within" of Sliding Context' in str(refused)
        assert error(clip(windows(animated, within="motion module")), alone) < SAME


OF_A_PART = {
    "CFGOverride": {"cfg": 1.0, "end_percent": 0.5},
    "PatchModelAddDownscale": {"end_percent": 0.5, "downscale_method": "bicubic", "upscale_method": "bicubic"},
}
"""Nodes that wrap a part of the sampling, with their inputs."""


@pytest.mark.parametrize("order", list(permutations(["node", "apply", "windows"])), ids="-".join)
@pytest.mark.parametrize("name", OF_A_PART)
def test_nodes_for_a_part_of_the_sampling_see_each_window_alone_in_any_order(adn, model, motion, name, order):
    if name not in NODES:
        pytest.skip(f"This ComfyUI has no {name} yet.")
    uses = {
        "node": lambda model: run(NODES[name], model=model, **OF_A_PART[name]),
        "apply": lambda model: animate(model, motion),
        "windows": partial(in_windows, adn),
    }

    def sampled(order: list[str], noise: torch.Tensor) -> torch.Tensor:
        used = reduce(lambda model, name: uses[name](model), order, model)
        return guided(used, POSITIVE, NEGATIVE, 3.0, noise, steps=3)

    noise, alone = noise_of(FRAMES), [name for name in order if name != "windows"]
    expected = torch.cat([sampled(alone, part) for part in noise.split(WINDOW)])
    assert error(sampled([*order], noise), expected) < SAME
    assert error(sampled(["apply", "windows"], noise), expected) > 100 * SAME
    assert error(sampled(alone, noise), expected) > 100 * SAME


def test_exceptions_are_nodes_that_there_are():
    assert {name for names in EXCEPTIONS.values() for name in names} <= NODES.keys()
