"""The noise that a clip begins with: what its frames have in common, and that each is still noise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.sample
import pytest
import torch
from diffusers.pipelines import free_noise_utils
from node_support import FRAMES, NEGATIVE, POSITIVE, core_nodes, empty_latent, error, ksampler, run, small_model

from animatediff_native.nodes.clip_noise import ClipNoiseNode
from animatediff_native.sampling.noise import KEY, KINDS, ClipNoise, FreeNoise, arrange, draw

SEED = 3
ARRANGEMENTS = [*(ClipNoise(kind, share, 4) for kind in KINDS for share in (0.5, 1.0)), FreeNoise(8, 4)]


def noise(frames: int = 12, size: int = 8, seed: int = SEED) -> torch.Tensor:
    return draw((frames, 4, size, size), seed)


@pytest.mark.parametrize(
    ("frames", "length", "stride"), [(40, 16, 12), (17, 16, 4), (16, 16, 4), (33, 8, 8), (10, 6, 4), (200, 16, 12)]
)
def test_free_noise_is_that_of_diffusers(monkeypatch, frames, length, stride):
    """On noise of its own, with the same generator; diffusers' layout is (1, c, f, h, w)."""
    own = noise(frames)
    given = own.transpose(0, 1).unsqueeze(0).clone()
    monkeypatch.setattr(free_noise_utils, "randn_tensor", lambda *_, **__: given)
    pipeline: object = SimpleNamespace(
        vae_scale_factor=1,
        _free_noise_context_length=length,
        _free_noise_context_stride=stride,
        _free_noise_noise_type="shuffle_context",
    )
    expected = free_noise_utils.AnimateDiffFreeNoiseMixin._prepare_latents_free_noise(
        pipeline,  # type: ignore
        *(1, 4, frames, 8, 8),
        dtype=torch.float32,
        device=torch.device("cpu"),
        generator=torch.Generator("cpu").manual_seed(SEED),
    )
    assert torch.equal(FreeNoise(length, stride)(own, SEED), expected[0].transpose(0, 1))


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_free_noise_cannot_shuffle_is_refused(stride):
    with pytest.raises(ValueError, match=f"stride of {stride} frames .* 8 frames"):
        FreeNoise(8, stride)


def test_constant_noise_is_the_first_frames():
    own = noise()
    assert torch.equal(ClipNoise("constant")(own, SEED), own[:1].expand_as(own))


@pytest.mark.parametrize("frames", [3, 4, 11])
def test_repeated_noise_starts_over_after_a_period(frames):
    own = noise(frames)
    assert torch.equal(ClipNoise("repeated", period=4)(own, SEED), own[:4].repeat(3, 1, 1, 1)[:frames])


@pytest.mark.parametrize("seed", [SEED, 2**64 - 2])
def test_each_frame_has_the_noise_that_comfyui_draws_with_its_seed(seed):
    arranged = ClipNoise("per-frame seeds")(noise(), seed)
    for i, frame in enumerate(arranged):
        expected: Any = comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), (seed + i) % 2**64)
        assert torch.equal(frame[None], expected)


def test_frames_with_seeds_keep_their_noise_in_clips_of_other_lengths():
    seeds = ClipNoise("per-frame seeds")
    long = seeds(noise(12), SEED)
    assert torch.equal(seeds(noise(5), SEED), long[:5])
    assert torch.equal(seeds(noise(5), SEED + 7), long[7:])


@pytest.mark.parametrize("kind", KINDS)
def test_no_share_changes_nothing(kind):
    assert torch.equal(ClipNoise(kind, share=0.0)(noise(), SEED), noise())


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_independent_noise_is_blended_by_the_formula(share):
    own, other = noise(size=64), ClipNoise("constant")(noise(size=64), SEED)
    expected = ((1 - share) * own + share * other) / ((1 - share) ** 2 + share**2) ** 0.5
    arranged = ClipNoise("constant", share)(own, SEED)
    torch.testing.assert_close(arranged[1:], expected[1:], rtol=0.02, atol=0)
    torch.testing.assert_close(arranged[0], own[0])  # a frame blended with itself


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 2])
def test_every_frame_stays_noise_of_unit_variance(kind, share, times):
    """Twice in a row, too, where frames already are alike; and ComfyUI's noise begins with that of the first seed."""
    arranged = arrange(noise(size=64), SEED, [ClipNoise(kind, share, 4)] * times)
    mean, variance = arranged.mean(dim=(1, 2, 3)), arranged.var(dim=(1, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(12), rtol=0, atol=0.04)  # five standard deviations
    torch.testing.assert_close(variance, torch.ones(12), rtol=0, atol=0.06)


def test_arrangements_work_in_their_order():
    first, second = ClipNoise("per-frame seeds"), ClipNoise("repeated", period=4)
    arranged = arrange(noise(), SEED, (first, second))
    assert torch.equal(arranged, second(first(noise(), SEED), SEED))
    assert not torch.equal(arranged, arrange(noise(), SEED, (second, first)))


@pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=str)
def test_an_arrangement_changes_nothing_in_place(arrangement):
    own = noise()
    arranged = arrangement(own, SEED)
    assert torch.equal(own, noise())
    assert not torch.equal(arranged, own)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=str)
def test_no_noise_stays_none(arrangement):
    none = torch.zeros(12, 4, 8, 8)
    assert torch.equal(arrange(none, SEED, [arrangement]), none)


@pytest.fixture(scope="module")
def clip_noise():
    """The node as a function."""
    return lambda model, **inputs: run(ClipNoiseNode, model=model, **inputs)


@pytest.fixture(scope="module")
def model():
    return small_model()


def test_a_clip_is_sampled_from_the_noise_of_the_chain_in_its_order(clip_noise, model):
    chain = clip_noise(clip_noise(model, noise="per-frame seeds", share=1.0), noise="repeated", share=0.5, period=2)
    own: Any = comfy.sample.prepare_noise(empty_latent()["samples"], SEED)
    arranged = arrange(own, SEED, (ClipNoise("per-frame seeds"), ClipNoise("repeated", 0.5, 2)))
    expected = comfy.sample.sample(
        model, arranged, 2, 3.0, "euler", "normal", POSITIVE, NEGATIVE, torch.zeros_like(own), seed=SEED
    )
    assert torch.equal(ksampler(chain, seed=SEED), expected)
    assert error(expected, ksampler(model, seed=SEED)) > 0.1


def test_the_more_noise_frames_share_the_more_alike_they_are(clip_noise, model):
    clips = [ksampler(clip_noise(model, noise="constant", share=share)) for share in (0.0, 0.5, 1.0)]
    none, half, all_of_it = (float((clip - clip.mean(dim=0)).norm()) for clip in clips)
    assert none > 1.2 * half
    assert all_of_it < 1e-5 * none


def test_the_model_that_goes_in_keeps_its_noise(clip_noise, model):
    before = ksampler(model)
    clip_noise(model)
    assert KEY not in model.model_options
    assert torch.equal(ksampler(model), before)


def test_a_second_pass_that_adds_no_noise_is_as_without_the_node(clip_noise, model):
    half_done = {"samples": noise(FRAMES)}
    second = {"add_noise": "disable", "noise_seed": SEED, "steps": 4, "cfg": 3.0, "sampler_name": "euler"}
    second |= {"scheduler": "normal", "positive": POSITIVE, "negative": NEGATIVE, "latent_image": half_done}
    second |= {"start_at_step": 2, "end_at_step": 4, "return_with_leftover_noise": "disable"}
    clips = [
        run(core_nodes.KSamplerAdvanced, model=patched, **second)["samples"]
        for patched in (model, clip_noise(model, noise="per-frame seeds", share=1.0))
    ]
    assert torch.equal(*clips)
