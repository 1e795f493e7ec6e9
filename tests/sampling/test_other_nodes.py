"""A clip beside nodes that keep something, bring a second model, change the latent's size or the order of its noise."""

from __future__ import annotations

import logging
from types import MethodType
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import comfy_extras.nodes_advanced_samplers as upscale_nodes
import comfy_extras.nodes_custom_sampler as sampler_nodes
import comfy_extras.nodes_easycache as cache_nodes
import comfy_extras.nodes_model_advanced as sampling_nodes
import comfy_extras.nodes_sag as sag_nodes
import pytest
import torch
from comfy_support import animate, load_motion
from node_support import (
    CHANNELS,
    FRAMES,
    NEGATIVE,
    POSITIVE,
    SIZE,
    empty_latent,
    error,
    ksampler,
    noise_of,
    run,
    small_model,
)

from animatediff_native.motion_models.schedules import KEEP
from animatediff_native.sampling import noise as noises
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions
from animatediff_native.sampling.curves import Curve
from animatediff_native.sampling.free_init import FreeInit, apply_free_init
from animatediff_native.sampling.other_nodes import places, writes
from animatediff_native.sampling.strength import MotionStrength


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return lambda seed=1: load_motion(folder, seed=seed, channels=CHANNELS)


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def animated(model, load):
    return animate(model, load())


def windowed(model: Any, length: int = 4, overlap: int = 2, **options: Any) -> Any:
    return apply_sliding_context(model, ContextOptions(length, overlap, free_noise=False, **options))


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


# Latents that change their size


def upscaled(model: Any, ratio: float = 2.0, **prompts: Any) -> torch.Tensor:
    sampler = run(upscale_nodes.SamplerLCMUpscale, scale_ratio=ratio, scale_steps=-1, upscale_method="area")
    return custom(model, sampler, levels(model, 4), **prompts)


def levels(model: Any, steps: int) -> torch.Tensor:
    return run(sampler_nodes.BasicScheduler, model=model, scheduler="normal", steps=steps, denoise=1.0)


def custom(model: Any, sampler: Any, sigmas: torch.Tensor, add_noise: bool = True, **prompts: list) -> torch.Tensor:
    torch.manual_seed(0)
    sampled, _ = run(
        sampler_nodes.SamplerCustom,
        model=model,
        add_noise=add_noise,
        noise_seed=3,
        cfg=2.0,
        sampler=sampler,
        sigmas=sigmas,
        latent_image=empty_latent(),
        **{"positive": POSITIVE, "negative": NEGATIVE} | prompts,
    )
    return sampled["samples"]


def test_free_init_and_windows_follow_a_latent_that_grows(animated):
    """Where everything is kept, the second iteration starts from the grown clip at its first size."""
    grown = upscaled(apply_free_init(windowed(animated), FreeInit(iterations=2)))
    assert grown.shape == (FRAMES, 4, 2 * SIZE, 2 * SIZE)
    assert error(grown, upscaled(windowed(animated))) > 1e-3
    nothing_kept = FreeInit(iterations=2, spatial_frequency=0.0)
    same_size = upscaled(apply_free_init(windowed(animated), nothing_kept), ratio=1.0)
    assert same_size.shape == (FRAMES, 4, SIZE, SIZE)


def test_masks_follow_a_latent_that_grows(model, load):
    masks = torch.zeros(1, SIZE, SIZE)
    masks[:, :, : SIZE // 2] = 1.0
    left, everywhere = (MotionStrength(Curve(lambda _, m=m: m)) for m in (masks, torch.ones_like(masks)))
    grown = [upscaled(animate(model, load(), motion_strength=(strength,))) for strength in (left, everywhere)]
    assert torch.isfinite(grown[0]).all()
    assert error(*grown) > 1e-3
    assert torch.equal(grown[1], upscaled(animate(model, load())))


def test_a_prompt_for_an_area_sees_its_part_of_a_mask_in_a_latent_that_grows(model, load):
    """ComfyUI leaves the area where it is: the right half becomes the second quarter of the width."""
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :, SIZE // 4 : SIZE // 2] = 1.0
    second_quarter, nowhere = (MotionStrength(Curve(lambda _, m=m: m)) for m in (mask, torch.zeros_like(mask)))
    right = [[tokens, {"area": (SIZE, SIZE // 2, 0, SIZE // 2)}] for tokens, _ in POSITIVE]
    grown, still = (
        upscaled(animate(model, load(), motion_strength=(strength,)), positive=right, negative=right)
        for strength in (second_quarter, nowhere)
    )
    assert error(grown, still) > 1e-3


# Noise levels in another order


def windows_by_level(model: Any, sigmas: list[float]) -> dict[float, list[tuple[int, ...]]]:
    windows: dict[float, list[tuple[int, ...]]] = {}

    def note(executor, x, t, c_concat, c_crossattn, control, options, **kwargs):
        windows.setdefault(round(float(options["sigmas"][0]), 4), []).append(tuple(options["ad_params"]["sub_idxs"]))
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key("apply_model", "test", note)
    custom(model, run(sampler_nodes.KSamplerSelect, sampler_name="euler"), torch.tensor(sigmas), add_noise=False)
    return windows


@pytest.mark.parametrize("schedule", ["static", "uniform", "closed loop"])
def test_a_noise_level_has_the_same_windows_in_whatever_order(animated, schedule):
    chained = windowed(windowed(animated, 5, 1, schedule=schedule), 3, 1, schedule=schedule, start_percent=0.5)
    falling = [14.0, 8.0, 4.0, 1.5, 0.5, 0.0]
    expected = windows_by_level(chained, falling)
    assert {len(window) for windows in expected.values() for window in windows} == {5, 3}
    rising = windows_by_level(chained, [0.0001, *falling[-2::-1]])
    rising.pop(0.0001)
    assert rising == {level: windows for level, windows in expected.items() if level < 14.0}
    repeated = windows_by_level(chained, [14.0, 8.0, 4.0, 8.0, 4.0, 1.5, 0.5, 0.0])
    assert repeated == {level: windows * (1 + (level in (8.0, 4.0))) for level, windows in expected.items()}


def test_free_init_leaves_noise_that_does_not_fall_alone(animated, caplog):
    caplog.set_level(logging.INFO)
    euler = run(sampler_nodes.KSamplerSelect, sampler_name="euler")
    rising = torch.tensor([0.5, 1.0, 2.0])
    iterated = custom(apply_free_init(animated, FreeInit()), euler, rising)
    assert torch.equal(iterated, custom(animated, euler, rising))
    assert "the noise levels do not fall" in caplog.text


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


# Settings that do nothing


def test_a_module_that_never_acts(model, load, caplog):
    with pytest.raises(ValueError, match=r"start_percent 0\.6 to end_percent 0\.4 never acts"):
        animate(model, load(), start_percent=0.6, end_percent=0.4)
    animate(model, load(), start_percent=0.5, end_percent=0.5)
    assert "never acts" in caplog.text


def test_a_beta_schedule_for_continuous_noise_levels(model, load, caplog):
    settings = {"sampling": "v_prediction", "sigma_max": 120.0, "sigma_min": 0.002}
    continuous = run(sampling_nodes.ModelSamplingContinuousEDM, model=model, **settings)
    with pytest.raises(ValueError, match=r"ModelSamplingContinuousEDM gives .*keep the model's own"):
        animate(continuous, load(), beta_schedule="LCM")
    animate(continuous, load(), beta_schedule=KEEP)
    assert not caplog.text
    animate(continuous, load())
    assert "ModelSamplingContinuousEDM gives" in caplog.text


@pytest.mark.parametrize("sampling", ["eps", "lcm"])
def test_a_schedule_that_a_later_node_replaces_is_logged(model, load, sampling, caplog):
    def discrete(model: Any) -> Any:
        return run(sampling_nodes.ModelSamplingDiscrete, model=model, sampling=sampling, zsnr=False)

    ksampler(animate(discrete(model), load()), steps=1, frames=2)
    ksampler(discrete(animate(model, load(), beta_schedule=KEEP)), steps=1, frames=2)
    assert "replaces the noise schedule" not in caplog.text
    ksampler(discrete(animate(model, load())), steps=1, frames=2)
    assert "(ModelSamplingDiscrete" in caplog.text
    assert "replaces the noise schedule that v2_1.safetensors was given" in caplog.text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stride": 2}, "context_stride 2 does nothing with static windows"),
        ({"at_once": 2, "within": MOTION}, "windows_at_once 2 does nothing within the motion module"),
        ({"start_percent": 0.5}, "start_percent 0.5 does nothing without a Sliding Context before it"),
        ({"schedule": "batched", "overlap": 2}, "context_overlap 2 does nothing with batched windows"),
        ({}, None),
    ],
)
def test_settings_of_sliding_context_that_do_nothing_are_logged(model, options, sentence, caplog):
    caplog.set_level(logging.INFO)
    once = windowed(model, **options)
    assert (sentence in caplog.text) if sentence else (not caplog.text)
    windowed(once, **options)
    assert "it replaces the one before it" in caplog.text


@pytest.mark.parametrize(
    ("frames", "add_noise", "logged"), [(FRAMES, True, True), (FRAMES, False, True), (2 * FRAMES, True, False)]
)
def test_clip_noise_that_changes_nothing_is_logged(model, frames, add_noise, logged, caplog):
    caplog.set_level(logging.INFO)
    model.model_options[noises.KEY] = (noises.ClipNoise("repeated", period=FRAMES),)
    noise = noise_of(frames) * add_noise
    model = windowed(model, frames)
    euler = ("euler", "normal", POSITIVE, NEGATIVE)
    comfy.sample.sample(model, noise, 1, 1.0, *euler, torch.zeros_like(noise))
    assert ("Clip Noise: it does nothing" in caplog.text) == logged


def test_windows_in_motion_modules_that_are_not_there_are_logged(model, animated, caplog):
    caplog.set_level(logging.INFO)
    for sampled, logged in ((animated, False), (model, True)):
        ksampler(windowed(sampled, within=MOTION), steps=1)
        assert ("does nothing without Apply AnimateDiff" in caplog.text) == logged


def test_the_free_noise_of_a_later_node_is_logged(model, caplog):
    caplog.set_level(logging.INFO)
    first = apply_sliding_context(model, ContextOptions())
    apply_sliding_context(first, ContextOptions(start_percent=0.5))
    assert "free_noise" not in caplog.text
    windowed(first, start_percent=0.5)
    assert "free_noise is taken from the node whose windows come first" in caplog.text
