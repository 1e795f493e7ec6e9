"""A motion model in a MODEL: what it changes while it works, and that it changes nothing else."""

from __future__ import annotations

from typing import Any, cast

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import pytest
import safetensors.torch
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import skip_torch_compile_dict
from comfy_support import animate, conditioning, load_motion, make_model, motion_state_dict, sample
from lora_support import change, official, write
from node_support import CHANNELS, LEVELS

from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.lora import apply_motion_lora
from animatediff_native.motion_models.saving import save
from animatediff_native.motion_models.schedules import KEEP, set_beta_schedule
from animatediff_native.sampling.animate import refuse_nan
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import ContextOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("animatediff_models")


@pytest.fixture(scope="module")
def model():
    return make_model(LEVELS)


def load(folder, family: str, seed: int = 1):
    return load_motion(folder, family, seed, channels=CHANNELS)


@pytest.fixture(scope="module")
def v2(folder):
    return load(folder, "v2")


def has_hooks(model) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_model_is_bit_equal_before_between_and_after(model, folder, family):
    before = sample(model)
    animated = animate(model, load(folder, family), beta_schedule=KEEP)
    first = sample(animated)
    between = sample(model)
    second = sample(animated)
    assert torch.equal(before, between)
    assert torch.equal(before, sample(model))
    assert torch.equal(first, second)
    assert not torch.allclose(first, before, rtol=0.01, atol=0.01), "the module has to change the clip"


def test_applying_leaves_the_input_model_alone(model, v2):
    before = dict(model.object_patches), dict(model.wrappers), dict(model.additional_models)
    animate(model, v2)
    assert (model.object_patches, model.wrappers, model.additional_models) == before


def test_one_frame_is_bit_equal_to_the_plain_model(model, v2):
    assert torch.equal(sample(animate(model, v2, beta_schedule=KEEP), frames=1), sample(model, frames=1))


def test_one_frame_with_the_modules_schedule_differs_by_that_schedule_alone(model, v2):
    """The sampler asks the MODEL for its noise levels before anyone knows how many frames there are."""
    expected = model.clone()
    set_beta_schedule(expected, v2.family.beta_schedule)
    sampled = sample(animate(model, v2), frames=1)
    assert torch.equal(sampled, sample(expected, frames=1))
    assert not torch.equal(sampled, sample(model, frames=1))


def test_strength_zero_is_bit_equal_to_the_plain_model(model, v2):
    assert torch.equal(sample(animate(model, v2, strength=0.0)), sample(model))


@pytest.mark.parametrize(
    "error", [RuntimeError, torch.OutOfMemoryError, comfy.model_management.InterruptProcessingException]
)
@pytest.mark.parametrize("families", [("v1",), ("v2",), ("v2", "v1", "v3")])
def test_an_error_inside_a_step_leaves_nothing_behind(model, folder, families, error):
    animated = model
    for seed, family in enumerate(families):
        animated = animate(animated, load(folder, family, seed), beta_schedule=KEEP)
    plain, moving = sample(model), sample(animated)

    def fail(*_):
        raise error("in the middle of the UNet")

    handle = model.model.diffusion_model.middle_block[0].register_forward_pre_hook(fail)
    with pytest.raises(error):
        sample(animated)
    handle.remove()
    assert not has_hooks(model)
    assert torch.equal(sample(model), plain)
    assert torch.equal(sample(animated), moving)


def test_two_models_of_one_checkpoint_in_turn(model, folder, v2):
    """One of them with a stack of modules, of which the other has one too, with a LoRA."""
    v3 = load(folder, "v3", seed=2)
    panned = apply_motion_lora(v3, write(folder / "turn.safetensors", change("v3", channels=CHANNELS), official), 3.0)
    one, other = animate(animate(model, v2), v3, strength=0.5), animate(model, panned, strength=0.5)
    expected = sample(model), sample(one), sample(other)
    for _ in range(2):
        for patched, clip in zip((model, one, other), expected, strict=True):
            assert torch.equal(sample(patched), clip)


def test_chained_modules_run_in_the_order_of_the_graph(model, folder, v2):
    second = load(folder, "v3", seed=2)
    chained = animate(animate(model, v2, strength=0.8), second, strength=0.6)
    blocks, seen = model.model.diffusion_model.input_blocks, {}

    def note(name: str):
        return lambda _layer, args, out=None: seen.update({name: (args[0] if out is None else out).clone()})

    handles = [
        blocks[1][1].register_forward_hook(note("layer")),  # registered before the modules' own: the layer's output
        blocks[2][0].register_forward_pre_hook(note("next")),
    ]
    sample(chained, steps=1, cfg=1.0)
    for handle in handles:
        handle.remove()
    a, b = (m.patcher.model.down_blocks[0].motion_modules[0] for m in (v2, second))
    expected = b(a(seen["layer"], 6, strength=0.8), 6, strength=0.6)
    torch.testing.assert_close(seen["next"], expected, rtol=1e-5, atol=1e-5)


def test_one_module_can_be_applied_twice(model, v2):
    twice = animate(animate(model, v2, end_percent=0.5), v2, start_percent=0.5)
    one, other = (patchers[0] for patchers in twice.additional_models.values())
    assert one.model is other.model, "its weights are in memory once"
    assert torch.equal(sample(twice, steps=4), sample(animate(model, v2), steps=4))


def test_one_file_with_two_loras_is_in_memory_for_each(model, folder):
    """As two files that hold what the LoRAs make of it."""
    plain = load(folder, "v2")
    panned = apply_motion_lora(plain, write(folder / "pan.safetensors", change(channels=CHANNELS), official), 5.0)
    save(panned, str(folder / "baked.safetensors"))
    baked = load_motion_model(str(folder / "baked.safetensors"))
    for first, then in ((plain, panned), (panned, plain)):
        stacked = animate(animate(model, first, strength=0.7), then, end_percent=0.6)
        of_files = [baked if motion is panned else plain for motion in (first, then)]
        expected = sample(animate(animate(model, of_files[0], strength=0.7), of_files[1], end_percent=0.6))
        torch.testing.assert_close(sample(stacked), expected)
    assert not torch.equal(sample(animate(model, plain)), sample(animate(model, panned)))


def test_outside_of_its_percents_the_module_rests(model, v2):
    assert torch.equal(sample(animate(model, v2, beta_schedule=KEEP, end_percent=0.0)), sample(model))
    part = sample(animate(model, v2, beta_schedule=KEEP, start_percent=0.5), steps=4)
    assert not torch.equal(part, sample(model, steps=4))
    assert not torch.equal(part, sample(animate(model, v2, beta_schedule=KEEP), steps=4))


def test_a_clone_moves_as_its_original(model, v2):
    animated = animate(model, v2)
    assert torch.equal(sample(animated.clone().clone()), sample(animated))


def test_v1_after_v1_normalises_over_frames_once(model, folder):
    v1 = load(folder, "v1")
    assert torch.isfinite(sample(animate(animate(model, v1), v1, strength=0.5))).all()
    assert not has_hooks(model)


def test_wrong_base_is_refused_by_its_channels(model, folder):
    with pytest.raises(ValueError, match=r"32/96 channels.*32/64"):
        animate(model, load_motion(folder, "v2", seed=4, channels=(32, 96)))
    with pytest.raises(ValueError, match=r"has 32/64:"):
        animate(model, load_motion(folder, "v2", seed=5))


def test_clip_longer_than_the_positions_is_sampled_in_default_windows(model, v2, caplog):
    animated = animate(model, v2)
    with caplog.at_level("INFO"):
        automatic = sample(animated, frames=34, steps=1)
    assert "34 frames are more than the 32" in caplog.text
    explicit = apply_sliding_context(animated, ContextOptions(16, 4))
    assert torch.equal(automatic, sample(explicit, frames=34, steps=1))
    assert "context_handler" not in animated.model_options


def test_windows_longer_than_the_positions_are_refused_before_sampling(model, v2):
    steps = []
    too_long = apply_sliding_context(animate(model, v2), ContextOptions(40, 4))
    with pytest.raises(ValueError, match=r"40 frames.*32"):
        sample(too_long, frames=48, callback=lambda *_: steps.append(1))
    assert not steps


def test_patches_of_other_packs_on_the_same_layers_still_run(model, v2):
    def count_calls(to_sample):
        calls = []

        def patch(layer, x, emb, context, options, *_):
            calls.append(options["block"])
            x = layer(x, context, options)
            options["transformer_index"] += 1
            return x

        patched = to_sample.clone()
        patched.set_model_forward_timestep_embed_patch((SpatialTransformer, patch))
        return sample(patched), calls

    animated = animate(model, v2)
    clip, calls = count_calls(animated)
    assert calls == count_calls(model)[1]
    assert torch.equal(clip, sample(animated))


def test_other_packs_can_read_which_frames_a_call_holds(model, v2):
    seen = []
    watched = animate(model, v2)
    watched.set_model_attn1_patch(lambda q, k, v, options: seen.append(options["ad_params"]) or (q, k, v))
    sample(watched, frames=6, steps=1)
    assert seen[0] == {"full_length": 6, "context_length": 6, "sub_idxs": None}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_the_result_names_the_first_bad_frame(model, v2, bad):
    def spoil(args):
        args["denoised"][3:] = bad
        return args["denoised"]

    spoilt = animate(model, v2)
    spoilt.set_model_sampler_post_cfg_function(spoil)
    with pytest.raises(ValueError, match=r"from frame 3 on.*fp32"):
        sample(spoilt, steps=1)


def test_finite_latents_pass_the_nan_check():
    refuse_nan(torch.full((2, 4, 2, 2), 3e38))


def test_half_precision_file_moves_an_fp32_model(model, folder, v2):
    half = {key: tensor.half() for key, tensor in motion_state_dict("v2", channels=CHANNELS).items()}
    path = folder / "half.safetensors"
    safetensors.torch.save_file(half, path)
    clip = sample(animate(model, load_motion_model(str(path))))
    assert clip.dtype == torch.float32
    torch.testing.assert_close(clip, sample(animate(model, v2)), rtol=0.05, atol=2.0)


def test_animated_clips_are_not_compiled_but_the_model_stays_compiled(model, v2):
    """A graph compiled in a step without the module must not be used in a step with it."""
    graphs: list[Any] = []
    compiled, backend = animate(model, v2, start_percent=0.5), lambda graph, _: graphs.append(graph) or graph.forward
    options: Any = {"guard_filter_fn": skip_torch_compile_dict}  # as ComfyUI's TorchCompileModel node
    set_torch_compile_wrapper(compiled, cast(Any, backend), options=options)
    assert torch.equal(sample(compiled), sample(animate(model, v2, start_percent=0.5)))
    assert not graphs
    sample(compiled, frames=1, steps=1)
    assert graphs


def test_stable_diffusion_2_is_refused_though_its_channels_are_the_same(v2):
    with pytest.raises(ValueError, match=r"Stable Diffusion 1\.5, but this is a Stable Diffusion 2 model"):
        animate(make_model(LEVELS, context_dim=1024), v2)


@pytest.mark.parametrize("frames", [1, 2])
def test_latents_and_prompts_of_another_base_are_refused(model, v2, frames):
    animated, latents = animate(model, v2), torch.ones(frames, 16, 8, 8)
    euler = (1, 1.0, "euler", "normal")
    wide = [[torch.zeros(1, 77, 1024), {}]]
    with pytest.raises(ValueError, match=r"latents have 16 channels, but this BaseModel model takes 4: .* VAE"):
        comfy.sample.sample(animated, latents, *euler, conditioning(), conditioning(), latents)
    with pytest.raises(ValueError, match=r"1024 features a token, but this BaseModel model takes 48: .* text encoder"):
        sample(animated, frames, positive=wide)


def test_weights_are_cast_to_the_type_that_comfyui_chose(folder, monkeypatch):
    """Dynamic loading takes the file's tensors as they are, and casts to the type noted beside each parameter."""
    monkeypatch.setattr(comfy.model_management, "unet_dtype", lambda **_: torch.bfloat16)
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "is_dynamic", lambda _: True)
    model = load(folder, "v3").patcher.model
    layer = model.down_blocks[0].motion_modules[0].temporal_transformer.proj_in
    assert layer.weight.dtype == torch.float32
    assert layer.weight_comfy_model_dtype == torch.bfloat16
