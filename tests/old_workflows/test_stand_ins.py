"""The nodes for old workflows give, bit for bit, what the nodes of new graphs give."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import lora_support
import pytest
import safetensors.torch
import torch
from comfy_support import motion_state_dict
from node_support import CHANNELS, FRAMES, SIZE, error, ksampler, run

from animatediff_native.sampling.noise import draw

WINDOWS = {"context_length": 4, "context_overlap": 2}
STATIC, LOOPED = "StandardStaticContextOptions", "LoopedUniformContextOptions"


@pytest.fixture
def windowed(adn) -> Callable[..., Any]:
    return lambda model, **options: run(
        adn["ADN_SlidingContext"], model=model, **WINDOWS | {"context_stride": 1, "free_noise": False} | options
    )


@pytest.fixture
def old_motion(old, motion) -> Any:
    """The motion module `motion`, as the old node for it gives it."""
    return old("LoadAnimateDiffModel", model_name=motion.name)


@pytest.fixture
def settings(old) -> Callable[..., Any]:
    """Sample Settings."""
    return lambda **inputs: old("AnimateDiffSamplingSettings", **inputs)


@pytest.fixture
def lora_folder(adn, tmp_path_factory, monkeypatch) -> Path:
    """The only one where motion LoRAs are looked for, with two of them."""
    name, folder = "animatediff_motion_lora", tmp_path_factory.mktemp("motion_lora")
    extensions = folder_paths.folder_names_and_paths[name][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(folder)], extensions))
    folder_paths.filename_list_cache.pop(name, None)
    shapes = {key: weight.shape for key, weight in motion_state_dict("v2", channels=CHANNELS).items()}
    for seed in (1, 2):
        change = {
            layer: (up, down)
            for layer, (up, down) in lora_support.change(seed=seed).items()
            if shapes.get(f"{layer}.weight") == (up.shape[0], down.shape[1])
        }
        lora_support.write(folder / f"lora_{seed}.safetensors", change, lora_support.official)
    return folder


def noise_that_is_sampled(model: Any, frames: int = FRAMES, seed: int = 3) -> torch.Tensor:
    """What a run starts from, after all arrangements."""
    seen = []

    def wrapper(executor, guider, sigmas, extra_args, callback, noise, *args, **kwargs):
        seen.append(noise)
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key("sampler_sample", "test", wrapper)
    ksampler(model, frames=frames, seed=seed, steps=1)
    return seen[0]


# Motion modules


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_the_loader_gives_what_load_and_apply_give(old, apply, load_motion, model, family):
    expected = ksampler(apply(model, load_motion(family)))
    loaded = old("AnimateDiffLoaderGen1", model=model, model_name=f"{family}_1.safetensors")
    assert torch.equal(ksampler(loaded), expected)
    assert error(expected, ksampler(model)) > 0.01


def test_the_legacy_loader_keeps_its_motion_scale(old, apply, motion, model):
    expected = ksampler(apply(model, motion, motion_scale=1.4))
    loaded = old("AnimateDiffLoaderWithContext", model=model, model_name="v2_1.safetensors", motion_scale=1.4)
    assert torch.equal(ksampler(loaded), expected)
    assert not torch.equal(expected, ksampler(apply(model, motion)))


def test_v2_modules_are_applied_as_trained_and_the_log_says_so(old, motion, model, caplog):
    inputs = {"model": model, "model_name": motion.name, "apply_v2_models_properly": False}
    with caplog.at_level(logging.WARNING):
        old("AnimateDiffLoaderWithContext", **inputs)
    assert "apply_v2_models_properly is always on" in caplog.text


@pytest.mark.parametrize("apply_node", ["ApplyAnimateDiffModelSimple", "ApplyAnimateDiffModel"])
def test_load_apply_and_use_give_what_the_modern_nodes_give(old, animated, model, apply_node):
    motion = old("LoadAnimateDiffModel", model_name="v2_1.safetensors")
    used = old("UseEvolvedSampling", model=model, m_models=old(apply_node, motion_model=motion))
    assert torch.equal(ksampler(used), ksampler(animated))


def test_of_several_modules_the_last_one_works_first_and_chooses_the_noise_schedule(
    adn, old, apply, load_motion, model, motion_folder
):
    weights = motion_state_dict("v2", seed=2, channels=CHANNELS)
    lcm = {key: weight for key, weight in weights.items() if "pos_encoder" not in key}
    safetensors.torch.save_file(lcm, motion_folder / "AnimateLCM.safetensors")
    first, last = load_motion("v1"), run(adn["ADN_LoadMotionModule"], motion_module="AnimateLCM.safetensors")
    old_first, old_last = (old("LoadAnimateDiffModel", model_name=each.name) for each in (first, last))
    assert last.family.beta_schedule != first.family.beta_schedule
    expected = apply(model, last, end_percent=0.5)
    expected = apply(expected, first, start_percent=0.3, beta_schedule="keep the model's own")
    models = old("ApplyAnimateDiffModel", motion_model=old_first, start_percent=0.3)
    models = old("ApplyAnimateDiffModel", motion_model=old_last, end_percent=0.5, prev_m_models=models)
    assert torch.equal(
        ksampler(old("UseEvolvedSampling", model=model, m_models=models), steps=4), ksampler(expected, steps=4)
    )


def test_motion_loras_are_those_of_load_motion_lora(old, adn, apply, motion, old_motion, model, lora_folder):
    loras, altered = None, motion
    for seed, strength in ((1, 0.7), (2, 2.0)):
        file = f"lora_{seed}.safetensors"
        loras = old("AnimateDiffLoRALoader", name=file, strength=strength, prev_motion_lora=loras)
        altered = run(adn["ADN_LoadMotionLora"], motion_module=altered, motion_lora=file, strength=strength)
    expected = ksampler(apply(model, altered))
    loaded = old("AnimateDiffLoaderGen1", model=model, model_name="v2_1.safetensors", motion_lora=loras)
    models = old("ApplyAnimateDiffModelSimple", motion_model=old_motion, motion_lora=loras)
    assert torch.equal(ksampler(loaded), expected)
    assert torch.equal(ksampler(old("UseEvolvedSampling", model=model, m_models=models)), expected)
    assert not torch.equal(expected, ksampler(apply(model, motion)))


def masks() -> torch.Tensor:
    return torch.rand(FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


MULTIVALS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "number": ({"float_val": 0.6}, {}),
    "list": ({"float_val": [0.1 * i for i in range(FRAMES)]}, {"source": [0.1 * i for i in range(FRAMES)]}),
    "masks": ({"float_val": 0.6, "mask_optional": masks()}, {"source": masks(), "low": 0.0, "high": 0.6}),
}


@pytest.mark.parametrize("kind", MULTIVALS)
def test_multivals_are_motion_strength_and_motion_curve(old, adn, apply, motion, old_motion, model, kind):
    inputs, curve = MULTIVALS[kind]
    multival = old("MultivalDynamic", **inputs)
    curve = run(adn["ADN_MotionCurve"], **curve) if curve else inputs["float_val"]
    for name, old_name in (("strength", "effect_multival"), ("motion_scale", "scale_multival")):
        strength = run(adn["ADN_MotionStrength"], **{name: curve})
        applied = old("ApplyAnimateDiffModelSimple", motion_model=old_motion, **{old_name: multival})
        used = ksampler(old("UseEvolvedSampling", model=model, m_models=applied))
        assert torch.equal(used, ksampler(apply(model, motion, motion_strength=strength)))
        assert not torch.equal(used, ksampler(apply(model, motion)))


# Context options

CONTEXTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "static": (STATIC, WINDOWS | {"fuse_method": "relative"}, {"schedule": "static", "fuse": "relative"}),
    "uniform": (
        "StandardUniformContextOptions",
        WINDOWS | {"context_stride": 2, "fuse_method": "flat"},
        {"schedule": "uniform", "context_stride": 2, "fuse": "flat"},
    ),
    "looped": (LOOPED, WINDOWS | {"fuse_method": "overlap-linear"}, {"schedule": "looped", "fuse": "overlap-linear"}),
    "closed loop": (LOOPED, WINDOWS | {"closed_loop": True}, {"schedule": "closed loop"}),
    "batched": ("BatchedContextOptions", {"context_length": 4}, {"schedule": "batched"}),
}


@pytest.mark.parametrize("kind", CONTEXTS)
def test_context_options_are_sliding_context_without_free_noise(old, windowed, animated, model, kind):
    name, inputs, expected = CONTEXTS[kind]
    contexts = old(name, **inputs)
    loaded = old("AnimateDiffLoaderGen1", model=model, model_name="v2_1.safetensors", context_options=contexts)
    clip = ksampler(loaded, frames=10)
    assert torch.equal(clip, ksampler(windowed(animated, **expected), frames=10))
    assert not torch.equal(clip, ksampler(animated, frames=10))


def test_chained_context_options_take_over_at_their_start(old, windowed, animated, model):
    contexts = old("BatchedContextOptions", context_length=4)
    contexts = old(STATIC, **WINDOWS, start_percent=0.5, prev_context=contexts)
    loaded = old("AnimateDiffLoaderGen1", model=model, model_name="v2_1.safetensors", context_options=contexts)
    expected = windowed(windowed(animated, schedule="batched", context_overlap=0), start_percent=0.5)
    assert torch.equal(ksampler(loaded, steps=4, frames=10), ksampler(expected, steps=4, frames=10))


def test_a_closed_loop_needs_more_frames_than_a_window_or_as_many_on_request(old, windowed, animated, model):
    def loop(frames: int, on_equal_length: bool) -> torch.Tensor:
        contexts = old(LOOPED, **WINDOWS, closed_loop=True, use_on_equal_length=on_equal_length)
        return ksampler(old("UseEvolvedSampling", model=animated, context_options=contexts), frames=frames)

    assert torch.equal(loop(4, False), ksampler(animated, frames=4))
    assert torch.equal(loop(4, True), ksampler(windowed(animated, schedule="closed loop"), frames=4))
    assert not torch.equal(loop(4, True), loop(4, False))
    assert torch.equal(loop(3, True), ksampler(animated, frames=3))


def test_use_evolved_sampling_works_without_motion_modules(old, windowed, model):
    assert torch.equal(ksampler(old("UseEvolvedSampling", model=model)), ksampler(model))
    used = old("UseEvolvedSampling", model=model, context_options=old(STATIC, **WINDOWS))
    assert torch.equal(ksampler(used), ksampler(windowed(model)))


SAID = {
    "guarantee_steps 3 is left out": (STATIC, {"guarantee_steps": 3}),
    "use_on_equal_length is left out": (LOOPED, {"use_on_equal_length": True}),
}


@pytest.mark.parametrize("sentence", SAID)
def test_what_is_done_otherwise_is_said_in_the_log(old, model, caplog, sentence):
    name, inputs = SAID[sentence]
    with caplog.at_level(logging.WARNING):
        old("UseEvolvedSampling", model=model, context_options=old(name, **inputs))
    assert sentence in caplog.text


def test_noise_that_was_drawn_on_the_gpu_is_said_in_the_log(old, settings, model, caplog):
    with caplog.at_level(logging.WARNING):
        old("UseEvolvedSampling", model=model, sample_settings=settings(seed_gen="auto1111 [gpu]"))
    assert "noise is drawn on the CPU" in caplog.text


def test_two_context_options_with_the_same_start_are_said_in_the_log(old, model, caplog):
    for start, said in ((0.2, False), (0.0, True)):
        contexts = old(STATIC, **WINDOWS, prev_context=old(STATIC, **WINDOWS), start_percent=start)
        with caplog.at_level(logging.INFO):
            old("UseEvolvedSampling", model=model, context_options=contexts)
        assert ("it replaces the one before it, which also starts at 0" in caplog.text) is said


# Noise


def test_free_noise_is_that_of_sliding_context(old, settings, windowed, animated):
    inputs = {"context_options": old(STATIC, **WINDOWS), "sample_settings": settings(noise_type="FreeNoise")}
    clip = ksampler(old("UseEvolvedSampling", model=animated, **inputs))
    assert torch.equal(clip, ksampler(windowed(animated, free_noise=True)))
    assert not torch.equal(clip, ksampler(windowed(animated)))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"noise_type": "constant"}, {"noise": "constant"}),
        ({"noise_type": "repeated_context"}, {"noise": "repeated", "period": 4}),
        ({"seed_gen": "auto1111"}, {"noise": "per-frame seeds"}),
    ],
    ids=str,
)
def test_noise_types_are_those_of_clip_noise(old, adn, settings, windowed, model, inputs, expected):
    used = {"context_options": old(STATIC, **WINDOWS), "sample_settings": settings(**inputs)}
    noise = noise_that_is_sampled(old("UseEvolvedSampling", model=model, **used))
    clip_noise = run(adn["ADN_ClipNoise"], model=windowed(model), share=1.0, **expected)
    assert torch.equal(noise, noise_that_is_sampled(clip_noise))
    assert not torch.equal(noise, noise_that_is_sampled(model))


@pytest.mark.parametrize(
    ("inputs", "frames"),
    [
        ({"seed_offset": 5}, lambda: draw((FRAMES, 4, SIZE, SIZE), 3 + 5)),
        ({"seed_override": 40}, lambda: draw((FRAMES, 4, SIZE, SIZE), 40)),
        ({"batch_offset": 2}, lambda: draw((FRAMES + 2, 4, SIZE, SIZE), 3)[2:]),
        (
            {"seed_gen": "auto1111", "seed_offset": -1, "batch_offset": 2},
            lambda: torch.cat([draw((1, 4, SIZE, SIZE), 3 - 1 + 2 + i) for i in range(FRAMES)]),
        ),
    ],
    ids=["seed offset", "seed override", "batch offset", "one by one"],
)
def test_seeds_are_shifted_and_replaced(old, settings, model, inputs, frames):
    used = old("UseEvolvedSampling", model=model, sample_settings=settings(**inputs))
    assert torch.equal(noise_that_is_sampled(used), frames())


def test_in_front_of_apply_animatediff_it_does_what_it_did_around_the_motion_module(
    old, settings, apply, motion, old_motion, model
):
    """The converter puts it there, for noise schedules and seeds that no other node sets."""
    inputs = {"beta_schedule": "avg(sqrt_linear,linear)", "sample_settings": settings(seed_offset=5)}
    models = old("ApplyAnimateDiffModelSimple", motion_model=old_motion)
    around = ksampler(old("UseEvolvedSampling", model=model, m_models=models, **inputs))
    in_front = apply(old("UseEvolvedSampling", model=model, **inputs), motion, beta_schedule="keep the model's own")
    assert torch.equal(ksampler(in_front), around)
    assert not torch.equal(around, ksampler(apply(model, motion)))


@pytest.mark.parametrize(("inputs", "words"), [({"noise_type": "empty"}, "'empty'"), ({"seed_override": [1]}, "list")])
def test_settings_that_cannot_be_kept_are_refused(settings, inputs, words):
    with pytest.raises(ValueError, match=f"{words}.* is not carried over"):
        settings(**inputs)
