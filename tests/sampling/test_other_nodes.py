"""A clip beside nodes that keep something of a call, read the shared model, or bring a second model."""

from __future__ import annotations

from types import MethodType
from typing import Any

import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import comfy_extras.nodes_custom_sampler as sampler_nodes
import comfy_extras.nodes_easycache as cache_nodes
import comfy_extras.nodes_sag as sag_nodes
import pytest
import torch
from comfy_support import animate
from node_support import (
    FRAMES,
    NEGATIVE,
    POSITIVE,
    custom,
    empty_latent,
    error,
    ksampler,
    levels,
    run,
    small_model,
    windowed,
)

from animatediff_native.sampling import noise as noises
from animatediff_native.sampling.context_windows import MOTION
from animatediff_native.sampling.free_init import FreeInit, apply_free_init
from animatediff_native.sampling.other_nodes import places, writes

# Nodes that keep something of one call of the UNet


def test_self_attention_guidance_is_refused_where_windows_divide_a_step(animated):
    guided = run(sag_nodes.SelfAttentionGuidance, model=animated, scale=1.0, blur_sigma=2.0)
    with pytest.raises(ValueError, match=r'Self-Attention Guidance keeps .* "within" .* "motion module"'):
        ksampler(windowed(guided))
    inside = ksampler(windowed(guided, within=MOTION))
    assert error(inside, ksampler(windowed(animated, within=MOTION))) > 1e-3
    assert torch.equal(ksampler(windowed(guided, FRAMES)), ksampler(guided))


def test_a_node_that_calls_the_unet_itself_is_refused(model, animated):
    def call_unet(_apply_model, call):
        return call["input"]

    around = animated.clone()
    around.set_model_unet_function_wrapper(call_unet)
    with pytest.raises(ValueError, match="test_a_node_that_calls_the_unet_itself_is_refused calls the UNet past"):
        ksampler(around)
    ksampler(around, frames=1)
    custom(around, run(sampler_nodes.KSamplerSelect, sampler_name="euler"), levels(model, 4)[:1])


def gated(model: Any) -> Any:
    """Let the UNet's blocks show from the second step on what they gave in the call before, as TGate does.

    It replaces their forward on the shared model for good, and an entry in the options turns it on.
    """

    def block_forward(forward: Any) -> Any:
        last = {}

        def gate(_block: Any, x: torch.Tensor, context: Any, transformer_options: Any) -> torch.Tensor:
            enabled = transformer_options.get("gate")
            if not enabled or transformer_options["sigmas"][0] > 10.0 or "x" not in last:
                x = forward(x, context=context, transformer_options=transformer_options)
                if enabled:
                    last["x"] = x
            return last["x"] if enabled else x

        return gate

    def enable(apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        call["c"]["transformer_options"]["gate"] = True
        return apply_model(call["input"], call["timestep"], **call["c"])

    model = model.clone()
    for name, blocks in model.model.named_modules():
        for block in blocks if name.endswith("transformer_blocks") else ():
            block.forward = MethodType(block_forward(block.forward), block)
    model.set_model_unet_function_wrapper(enable)
    return model


def test_forwards_that_keep_what_they_see_are_refused_where_windows_divide_a_step(animated):
    before = ksampler(windowed(animated))
    keeping = gated(animated)
    with pytest.raises(ValueError, match=r'gated keeps what it sees in one call .* "within" .* "motion module"'):
        ksampler(windowed(keeping))
    assert torch.equal(ksampler(windowed(keeping, FRAMES)), ksampler(keeping))
    assert not torch.equal(ksampler(windowed(keeping, within=MOTION)), ksampler(windowed(animated, within=MOTION)))
    assert torch.equal(ksampler(windowed(animated)), before), "its functions stay on the model, and do nothing"


class Keeper:
    def __init__(self):
        self.last, self.all = None, [0]

    def bind(self, value):
        self.last = value

    def collect(self, value):
        self.all.append(value)

    def fill(self, value):
        self.all[0] = value

    def read(self, values):
        values[self.last] = self.all


def functions_that_share() -> dict[str, tuple[Any, str, bool]]:
    variable, all_values, by_name, number = None, [], {}, 2.0

    def bind(value):
        nonlocal variable
        variable = value

    def collect(value):
        all_values.append(value)

    def fill(value):
        by_name["last"] = value

    def read(values):
        values["last"] = number

    functions = {"bind": bind, "collect": collect, "fill": fill, "read": read}
    names = {"bind": "variable", "collect": "all_values", "fill": "by_name", "read": "number"}
    keeper = Keeper()
    methods = {f"Keeper.{name}": (getattr(keeper, name), "self", name != "read") for name in functions}
    return {name: (function, names[name], name != "read") for name, function in functions.items()} | methods


@pytest.mark.parametrize("name", functions_that_share())
def test_a_function_that_keeps_something_is_told_from_one_that_reads(name):
    function, variable, expected = functions_that_share()[name]
    assert variable in places(function)
    assert writes(function, variable) == expected


# What nodes read of the shared model


@pytest.mark.parametrize("node", ["EasyCacheNode", "LazyCacheNode"])
@pytest.mark.parametrize("first", [True, False])
def test_caches_see_the_same_noise_levels_in_every_run(model, load, node, first):
    """They read them before the model is loaded."""

    def cached(model: Any) -> Any:
        return run(getattr(cache_nodes, node), model=model, reuse_threshold=0.5, start_percent=0.3, end_percent=0.7)

    options: Any = {"steps": 10, "cfg": 1.0, "frames": 2}
    still = ksampler(cached(model), **options | {"frames": 1})
    clip = animate(cached(model), load()) if first else cached(animate(model, load()))
    sampled = ksampler(clip, **options)
    assert torch.equal(ksampler(clip, **options), sampled)
    assert torch.equal(ksampler(cached(model), **options | {"frames": 1}), still)
    assert error(ksampler(animate(model, load()), **options), sampled) > 1e-3


def test_a_node_before_reads_the_noise_levels_of_this_run(model, load):
    """It wraps the run from further out than the pack does."""
    half_way: list[float] = []

    def note(executor, *args, **kwargs):
        half_way.append(executor.class_obj.model_patcher.model.model_sampling.percent_to_sigma(0.5))
        return executor(*args, **kwargs)

    observed = model.clone()
    observed.add_wrapper_with_key("outer_sample", "test", note)
    clip = animate(observed, load())
    for sampled in (clip, observed, clip):
        ksampler(sampled, steps=1, frames=2)
    expected = [m.get_model_object("model_sampling").percent_to_sigma(0.5) for m in (clip, model, clip)]
    assert half_way == expected
    assert half_way[0] != half_way[1]


# Several models


def sample_with(guider: Any, model: Any) -> torch.Tensor:
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(3.0)
    sampled, _ = run(
        sampler_nodes.SamplerCustomAdvanced,
        noise=run(sampler_nodes.RandomNoise, noise_seed=3),
        guider=guider,
        sampler=run(sampler_nodes.KSamplerSelect, sampler_name="euler"),
        sigmas=levels(model, 1),
        latent_image=empty_latent(),
    )
    return sampled["samples"]


def dual(model: Any, second: Any) -> torch.Tensor:
    return sample_with(sampler_nodes.Guider_DualModel(model, second), model)


class Mean(comfy.samplers.CFGGuider):
    """The mean of several models, which have the first one's options; some packs give these the wrappers of all."""

    def __init__(self, *models: Any, merges: bool = False):
        super().__init__(models[0])
        self.models, self.merges = {"others": list(models[1:])}, merges

    def sample(self, *args, **kwargs):
        self.model_options = comfy.model_patcher.create_model_options_clone(self.model_options)
        for model in self.models["others"] if self.merges else ():
            comfy.sampler_helpers.prepare_model_patcher(model, {}, self.model_options)
        return super().sample(*args, **kwargs)

    def outer_sample(self, noise, *args, **kwargs):
        prepare, conds = comfy.sampler_helpers.prepare_sampling, {"positive": [dict(self.conds["positive"][0])]}
        self.inner = [prepare(model, noise.shape, conds, model.model_options)[0] for model in self.models["others"]]
        for model in self.models["others"]:
            model.pre_run()
        try:
            return super().outer_sample(noise, *args, **kwargs)
        finally:
            for model in self.models["others"]:
                model.cleanup()

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006
        conds = [self.conds["negative"], self.conds["positive"]]
        models = [self.inner_model, *self.inner]
        pairs = (comfy.samplers.calc_cond_batch(model, conds, x, timestep, model_options) for model in models)
        return sum(uncond + self.cfg * (cond - uncond) for uncond, cond in pairs) / len(models)


@pytest.mark.skipif(not hasattr(sampler_nodes, "DualModelGuider"), reason="this ComfyUI has no such guider")
def test_a_guider_with_two_models_keeps_each_as_it_is_or_is_refused(model, animated, load):
    assert torch.equal(dual(animated, animated), ksampler(animated, steps=1))
    other = small_model()
    still = animate(other, load(), strength=0.0)
    still.add_object_patch("model_sampling", animated.get_model_object("model_sampling"))
    cond = ksampler(animated, POSITIVE, POSITIVE, steps=1, cfg=1.0)
    uncond = ksampler(still, NEGATIVE, NEGATIVE, steps=1, cfg=1.0)
    assert error(dual(animated, still), uncond + 3.0 * (cond - uncond)) < 1e-5
    for second in (model, animate(model, load(2)), animate(other, load(2)), windowed(animated)):
        with pytest.raises(ValueError, match="Guider_DualModel samples both"):
            dual(animated, second)
        with pytest.raises(ValueError, match="Guider_DualModel samples both"):
            dual(second, animated)


@pytest.mark.skipif(not hasattr(sampler_nodes, "DualModelGuider"), reason="this ComfyUI has no such guider")
def test_two_checkpoints_with_the_same_motion_module(model, load):
    motion = load()
    first, second = animate(model, motion), animate(small_model(seed=1), motion)
    cond = ksampler(first, POSITIVE, POSITIVE, steps=1, cfg=1.0)
    uncond = ksampler(second, NEGATIVE, NEGATIVE, steps=1, cfg=1.0)
    assert error(cond, uncond) > 0.1
    assert error(dual(first, second), uncond + 3.0 * (cond - uncond)) < 1e-5


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_guider_of_one_model_twice(animated, iterations):
    model = apply_free_init(windowed(animated), FreeInit(iterations))
    model.model_options[noises.KEY] = (noises.ClipNoise("constant", 0.5),)
    clip = sample_with(Mean(model, model, merges=True), animated)
    assert error(clip, sample_with(Mean(model), animated)) < 1e-6


@pytest.mark.parametrize("merges", [False, True])
def test_a_guider_of_three_models(model, animated, load, merges):
    second, third = small_model(seed=1), small_model(seed=2)
    stills = [animate(still, load(), strength=0.0) for still in (second, third)]
    for still in stills:
        still.add_object_patch("model_sampling", animated.get_model_object("model_sampling"))
    clips = [ksampler(each, steps=1) for each in (animated, *stills)]
    mean = sample_with(Mean(animated, *stills, merges=merges), animated)
    assert error(mean, torch.stack(clips).mean(0)) < 1e-5
    for models in ((second, third, animated), (animated, second, animate(third, load(2))), (animated, second, model)):
        with pytest.raises(ValueError, match="Mean samples both"):
            sample_with(Mean(*models, merges=merges), animated)
    assert torch.equal(ksampler(animated, steps=1), clips[0])
