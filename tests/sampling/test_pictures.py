"""Keyframes in a sampling run: what PIA and AnimateLCM-I2V see of them, in every way that a clip can be sampled."""

from __future__ import annotations

from typing import Any

import comfy.sample
import numpy
import pytest
import torch
from comfy_support import animate, load_motion, sample
from node_support import (
    CHANNELS,
    FAILURES,
    NEGATIVE,
    POSITIVE,
    error,
    guided,
    ksampler,
    predict,
    small_model,
    with_recorded_calls,
)
from picture_support import keyframes, latents_of, load_picture_motion, vae
from torch import Tensor

from animatediff_native.motion_models.schedules import KEEP
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions
from animatediff_native.sampling.curves import SAMPLING, Curve, from_mask, from_numbers, parse
from animatediff_native.sampling.keyframes import Keyframes
from animatediff_native.sampling.pictures import AFFINITIES, PictureSettings, affinities, nearest_picture

FAMILIES = ["PIA", "AnimateLCM-I2V"]


@pytest.fixture(scope="module")
def model() -> Any:
    return small_model()


@pytest.fixture(scope="module")
def motions(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("animatediff_models")
    loaded = {family: load_picture_motion(folder, family, channels=CHANNELS) for family in FAMILIES}
    return loaded | {"v3": load_motion(folder, "v3", seed=2, channels=CHANNELS)}


def following(model: Any, module: Any, pictures: Keyframes | None = None, beta_schedule: str = KEEP, **options: Any):
    settings = PictureSettings(pictures or keyframes(), **options)
    return animate(model, module, pictures=settings, beta_schedule=beta_schedule)


# What PIA sees


@pytest.mark.parametrize("frames", [6, 16, 33])
@pytest.mark.parametrize("motion", [name for name in AFFINITIES if "loop" not in name])
def test_affinity_follows_the_distance_to_the_picture(motion, frames):
    table = AFFINITIES[motion]
    for place in (0, 3, frames - 1):
        expected = [table[min(abs(frame - place), len(table) - 1)] for frame in range(frames)]
        assert affinities(motion, [place], frames).tolist() == torch.tensor(expected).tolist()


@pytest.mark.parametrize("frames", [6, 16, 33])
@pytest.mark.parametrize("motion", ["small loop", "moderate loop", "large loop"])
def test_a_loop_leaves_the_picture_and_comes_back_in_a_clip_of_any_length(motion, frames):
    table, found = AFFINITIES[motion], affinities(motion, [0], frames)
    expected = numpy.interp(numpy.linspace(0, 15, frames), range(16), table)
    numpy.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert found[0] == found[-1] == 1.0
    assert found[1:-1].max() < 1.0, "the end does not stand still"
    assert affinities(motion, [2], frames).tolist() == found.roll(2).tolist()


@pytest.mark.parametrize(("motion", "low"), [("small", 0.8), ("large", 0.5), ("large style transfer", 0.2)])
@pytest.mark.parametrize("frames", [15, 16])
def test_between_a_first_and_a_last_picture_affinity_falls_and_rises_evenly(motion, low, frames):
    """PIA's formula: the difference of what the two pictures alone give, from the lowest number to the first."""
    alone = [numpy.array([1 - (1 - low) / (frames - 1) * abs(frame - c) for frame in range(frames)]) for c in (0, -1)]
    alone[1] = alone[0][::-1]
    difference = abs(alone[1] - alone[0])
    shape = (difference - difference.min()) / (difference.max() - difference.min())
    high = AFFINITIES[motion][0]
    found = affinities(motion, [0, frames - 1], frames)
    numpy.testing.assert_allclose(found.numpy(), low + (high - low) * shape, atol=1e-6)


def test_every_frame_sees_the_nearest_picture_and_the_earlier_of_two():
    assert nearest_picture([8, 0, 5], 10, loop=False) == [1, 1, 1, 2, 2, 2, 2, 0, 0, 0]
    assert nearest_picture([0, 4], 10, loop=True) == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]


def seen_by_pia(model: Any, motion: Any, **options: Any) -> list[Tensor]:
    """Affinity and latent, (b f) 5 h w, of each UNet call."""
    seen: list[Tensor] = []
    conv = motion.patcher.model.get_submodule("conv_in")
    handle = conv.register_forward_pre_hook(lambda _conv, args: seen.append(args[0].clone()))
    try:
        sample(model, **{"steps": 1, **options})
    finally:
        handle.remove()
    return seen


def shown(pictures: Keyframes, affinity: Tensor, nearest: list[int], size: int = 8) -> Tensor:
    """The same, for one cond and all frames."""
    mask = affinity.view(-1, 1, 1, 1).expand(-1, 1, size, size)
    return torch.cat([mask, latents_of(pictures, size)[nearest]], dim=1)


@pytest.mark.parametrize(
    "options",
    [
        ContextOptions(6, 2, "static", stride=1),
        ContextOptions(6, 2, "closed loop", stride=1),
        ContextOptions(6, 2, "uniform", stride=2, at_once=3),
        ContextOptions(6, 2, within=MOTION),
    ],
    ids=lambda options: f"{options.schedule} {options.within}",
)
def test_in_windows_frames_have_the_clips_numbers(model, motions, options):
    pictures, motion = keyframes("1, 9", 2), motions["PIA"]
    clip = apply_sliding_context(following(model, motion, pictures, motion="large"), options)
    whole = shown(pictures, affinities("large", [1, 9], 14), nearest_picture([1, 9], 14, loop=False))
    frames: list[Any] = []
    clip.set_model_attn1_patch(lambda q, k, v, o: frames.append(o["ad_params"]["sub_idxs"] or range(14)) or (q, k, v))
    calls = seen_by_pia(clip, motion, frames=14)
    per_call = len(frames) // len(calls)
    for seen, indices in zip(calls, frames[::per_call], strict=True):
        torch.testing.assert_close(seen, whole[list(indices)].repeat(2, 1, 1, 1))


def test_a_motion_curve_sets_the_affinity_and_without_any_there_is_no_picture(model, motions):
    pictures, motion = keyframes("0"), motions["PIA"]
    strength = Curve(from_numbers([1.0, 0.5, 0.25, 0.0, 0.0, 1.0]))
    (seen,) = seen_by_pia(following(model, motion, pictures, motion="none", strength=strength), motion)
    affinity = strength.over_frames(6).flatten()
    expected = shown(pictures, affinity, [0] * 6) * (affinity != 0).view(-1, 1, 1, 1)
    torch.testing.assert_close(seen, expected.repeat(2, 1, 1, 1))


def test_a_mask_keeps_the_picture_out_of_its_black_part(model, motions):
    mask = torch.zeros(1, 8, 8)
    mask[..., 4:] = 1.0
    strength = Curve(from_mask(mask, 0.0, 1.0))
    (seen,) = seen_by_pia(following(model, motions["PIA"], motion="none", strength=strength), motions["PIA"])
    assert not seen[..., :4].any()
    torch.testing.assert_close(seen, shown(keyframes(), torch.ones(6), [0] * 6).repeat(2, 1, 1, 1) * mask)


def test_a_prompt_for_an_area_sees_its_part_of_the_picture(model, motions):
    area = [[POSITIVE[0][0], {"area": (8, 4, 0, 4), "strength": 1.0}]]
    clip = following(model, motions["PIA"], motion="none")
    whole = shown(keyframes(), torch.ones(6), [0] * 6)
    calls = seen_by_pia(clip, motions["PIA"], positive=area)
    for seen in calls:
        part = whole[..., -seen.shape[-1] :]
        torch.testing.assert_close(seen, part.repeat(len(seen) // 6, 1, 1, 1))
    assert {seen.shape[-1] for seen in calls} == {4, 8}


# Both modules


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_bit_equal_before_between_and_after(model, motions, family):
    before, plain = sample(model), sample(animate(model, motions[family], beta_schedule=KEEP))
    clip = following(model, motions[family])
    first = sample(clip)
    assert error(first, plain) > 1e-3, "the picture has to change the clip"
    assert error(first, sample(following(model, motions[family], keyframes("-1")))) > 1e-3, "and its place"
    assert torch.equal(sample(following(model, motions[family], strength=0.0)), plain)
    assert torch.equal(sample(model), before)
    assert torch.equal(sample(clip), first)


@pytest.mark.parametrize("failure", ["exception", "interrupt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_failure_inside_a_step_leaves_nothing_behind(model, motions, family, failure):
    clip, plain = following(model, motions[family]), ksampler(model)
    expected, (action, raised) = ksampler(clip), FAILURES[failure]
    handle = model.model.diffusion_model.middle_block[0].register_forward_pre_hook(lambda *_: action())
    with pytest.raises(raised):
        ksampler(clip)
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())
    assert torch.equal(ksampler(model), plain)
    assert torch.equal(ksampler(clip), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_share_a_call_or_have_one_each(model, motions, family):
    clip, calls = with_recorded_calls(following(model, motions[family], keyframes("0, -1", 2)))
    together = guided(clip, POSITIVE, NEGATIVE, cfg=3.0)
    assert calls == [2]
    cond, uncond = predict(clip, POSITIVE), predict(clip, NEGATIVE)
    assert error(together, uncond + 3.0 * (cond - uncond)) < 1e-5
    per_frame = [[POSITIVE[0][0].repeat(6, 1, 1), {}]]  # as from Prompt Schedule
    assert error(predict(clip, per_frame), cond) < 1e-5
    mask = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
    areas = [[POSITIVE[0][0], {}], [NEGATIVE[0][0], {"area": (8, 8, 0, 0), "strength": 1.0, "mask": mask}]]
    whole = [[POSITIVE[0][0], {}], [NEGATIVE[0][0], {"mask": mask}]]
    assert error(sample(clip, positive=areas), sample(clip, positive=whole)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_and_the_whole_clip_see_the_same_pictures(model, motions, family):
    """Where the motion modules add next to nothing and norms see the same frames, windows make no difference."""
    settings = PictureSettings(keyframes("2, 8", 2))
    clip = animate(model, motions[family], pictures=settings, strength=1e-9)
    length = 10 if family == "PIA" else 4
    windows = ContextOptions(length, 1, "closed loop", free_noise=False, stride=1)
    whole = sample(clip, frames=10, steps=1)
    assert error(sample(apply_sliding_context(clip, windows), frames=10, steps=1), whole) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_chained_modules_may_see_pictures_or_not(model, motions, family):
    first = sample(animate(following(model, motions[family]), motions["v3"], beta_schedule=KEEP))
    second = sample(following(animate(model, motions["v3"], beta_schedule=KEEP), motions[family]))
    alone = sample(animate(animate(model, motions["v3"], beta_schedule=KEEP), motions[family], beta_schedule=KEEP))
    assert min(error(first, second), error(second, alone)) > 1e-3
    both = following(following(model, motions["PIA"]), motions["AnimateLCM-I2V"])
    assert torch.isfinite(sample(both)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_strength_that_changes_over_the_sampling(model, motions, family):
    first_half = Curve(parse("0: 1 hold, 0.5: 0", SAMPLING), SAMPLING)
    clip = sample(following(model, motions[family], strength=first_half), steps=4)
    assert error(clip, sample(following(model, motions[family]), steps=4)) > 1e-3
    assert error(clip, sample(animate(model, motions[family], beta_schedule=KEEP), steps=4)) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_latent_of_another_size_in_the_middle_of_a_run_sees_the_picture_in_that_size(model, motions, family):
    """As samplers that begin small and go on larger do."""
    clip = following(model, motions[family])
    sizes: list[int] = []

    def larger(guider, x: Tensor, sigmas: Tensor, extra_args: Any, **_: Any) -> Tensor:
        big = torch.nn.functional.interpolate(x, scale_factor=2.0)
        for latent in (x, big):
            guider(latent, sigmas[:1].expand(len(x)), **extra_args)
            sizes.append(latent.shape[-1])
        return x

    noise = torch.randn(6, 4, 8, 8)
    sampler = comfy.samplers.KSAMPLER(larger)  # pyright: ignore[reportAttributeAccessIssue]
    sigmas = clip.get_model_object("model_sampling").sigmas[[500, 0]]
    comfy.sample.sample_custom(clip, noise, 3.0, sampler, sigmas, POSITIVE, NEGATIVE, torch.zeros_like(noise))
    assert sizes == [8, 16]


def test_animate_lcm_i2v_samples_with_its_own_schedule_in_few_steps(model, motions):
    clip = following(model, motions["AnimateLCM-I2V"], beta_schedule="automatic")
    sampled = comfy.sample.sample(
        clip, torch.randn(4, 4, 8, 8), 2, 1.0, "lcm", "normal", POSITIVE, NEGATIVE, torch.zeros(4, 4, 8, 8), seed=3
    )
    assert torch.isfinite(sampled).all()


# Errors


def test_what_cannot_work_is_said_before_sampling(model, motions):
    pictures = keyframes()
    with pytest.raises(ValueError, match=r"v3_2.safetensors \(AnimateDiff v3\) does not see pictures"):
        following(model, motions["v3"])
    started: list[int] = []
    for wrong, sentence in (
        (Keyframes(pictures.images), "connect the checkpoint's VAE"),
        (keyframes("7"), "frame 7, outside the clip of 6 frames"),
        (keyframes("5, -1", 2), "both belong to frame 5"),
        (keyframes("", 7), "7 keyframe images for a clip of 6 frames"),
    ):
        for family in FAMILIES:
            with pytest.raises(ValueError, match=sentence):
                sample(following(model, motions[family], wrong), callback=lambda *_: started.append(1))
    with pytest.raises(ValueError, match="4 numbers for 6 frames"):
        sample(following(model, motions["PIA"], strength=Curve(from_numbers([1.0] * 4))))
    assert not started


def test_settings_that_do_nothing_are_logged(model, motions, caplog):
    with caplog.at_level("INFO"):
        following(model, motions["PIA"], drift=0.5)
        following(model, motions["AnimateLCM-I2V"], motion="large")
        animate(model, motions["PIA"], pictures=PictureSettings(strength=0.5))
        following(model, motions["PIA"], motion="large", strength=0.5)
    assert [record.message for record in caplog.records if "nothing" in record.message] == [
        "AnimateDiff: keyframe_drift does nothing with PIA.safetensors.",
        "AnimateDiff: keyframe_motion does nothing with AnimateLCM-I2V.safetensors.",
        "AnimateDiff: keyframe_strength does nothing without keyframes.",
    ]


def test_the_vae_has_to_be_the_checkpoints(model, motions):
    class SixteenChannels:
        def spacial_compression_encode(self) -> int:
            return 8

        def encode(self, pixels: Tensor) -> Tensor:
            return vae().encode(pixels).repeat(1, 4, 1, 1)

    pictures = Keyframes(keyframes().images, vae=SixteenChannels())
    with pytest.raises(ValueError, match=r"16 channels, but the model has 4: connect the checkpoint's own VAE"):
        sample(following(model, motions["PIA"], pictures))
