"""Motion strength in a sampling run: per frame, region, level, and over the sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_support import animate, conditioning, load_motion, make_model, sample

from animatediff_native.motion_models.schedules import KEEP
from animatediff_native.motion_models.unet import unet_slots
from animatediff_native.sampling.calls import CallFrames
from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import ContextOptions
from animatediff_native.sampling.curves import SAMPLING, Curve, from_mask, from_numbers, parse
from animatediff_native.sampling.strength import (
    LEVELS,
    ClipStrength,
    MotionStrength,
    cropped,
    moment_of,
    moments,
)

FRAMES = 6


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return load_motion(tmp_path_factory.mktemp("models"))


def moved(model: Any, motion: Any, *options: MotionStrength, **settings: Any) -> Any:
    """Noise schedule as the plain MODEL's, so that clips can be compared with its own."""
    return animate(model, motion, motion_strength=options, beta_schedule=KEEP, **settings)


def watch(model: Any, motion: Any, **options: Any) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """What goes into each motion module and comes out of it, in one step without guidance."""
    seen: dict[str, list] = {name: [] for name in motion.config.channels_by_name()}

    def note(name: str):
        return lambda _module, args, out: seen[name].append((args[0].clone(), out.clone()))

    hooks = [motion.patcher.model.get_submodule(name).register_forward_hook(note(name)) for name in seen]
    try:
        sample(model, **{"frames": FRAMES, "steps": 1, "cfg": 1.0} | options)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def keyframes(text: str, over: str = "frames") -> Curve:
    return Curve(parse(text, over), over)


@pytest.mark.parametrize("name", ["strength", "motion scale"])
def test_a_curve_that_is_always_the_same_equals_the_number(model, motion, name):
    def strength(value: Any) -> MotionStrength:
        return MotionStrength(value) if name == "strength" else MotionStrength(motion_scale=value)

    number = sample(moved(model, motion, strength(0.6)))
    assert not torch.equal(number, sample(moved(model, motion)))
    for curve in (keyframes("0.6"), keyframes("0.6", SAMPLING), Curve(from_mask(torch.ones(64, 64), 0.0, 0.6))):
        clip = sample(moved(model, motion, strength(curve)))
        torch.testing.assert_close(clip, number, rtol=1e-4, atol=1e-4)


def test_strengths_multiply(model, motion):
    chained = (MotionStrength(0.5, 2.0), MotionStrength(keyframes("1.2"), 0.7))
    expected = sample(moved(model, motion, strength=0.9 * 0.6, motion_scale=1.1 * 1.4))
    clip = sample(moved(model, motion, *chained, strength=0.9, motion_scale=1.1))
    torch.testing.assert_close(clip, expected, rtol=1e-4, atol=1e-4)


def test_frames_without_effect_pass_every_module_unchanged(model, motion):
    curve = keyframes("0 0 1 1 0.5 0")
    for calls in watch(moved(model, motion, MotionStrength(strength=curve)), motion).values():
        ((x, out),) = calls
        for frame in (0, 1, 5):
            assert torch.equal(out[frame], x[frame])
        for frame in (2, 3, 4):
            assert not torch.equal(out[frame], x[frame])


def test_cond_and_uncond_have_the_same_frames(model, motion):
    """Guidance puts both into one batch; each has all frames."""
    curve = keyframes("0 0 1 1 0.5 0")
    for calls in watch(moved(model, motion, MotionStrength(strength=curve)), motion, cfg=3.0).values():
        ((x, out),) = calls
        unchanged = [torch.equal(out[i], x[i]) for i in range(2 * FRAMES)]
        assert unchanged == [True, True, False, False, False, True] * 2


def test_outside_of_a_region_modules_change_nothing(model, motion):
    mask = torch.zeros(256, 256)  # 8 latents of 8 pixels each way, at four pixels each
    mask[:, 128:] = 1.0
    seen = watch(moved(model, motion, MotionStrength(strength=Curve(from_mask(mask, 0.0, 1.0)))), motion)
    for calls in seen.values():
        ((x, out),) = calls
        width = x.shape[-1]
        if width > 1:
            assert torch.equal(out[..., : width // 2], x[..., : width // 2])
        assert not torch.equal(out[..., width // 2 :], x[..., width // 2 :])


def test_each_frame_can_have_a_region_of_its_own(model, motion):
    masks = torch.zeros(FRAMES, 64, 64)
    masks[3:] = 1.0
    whole_frames = sample(moved(model, motion, MotionStrength(strength=keyframes("0 0 0 1 1 1"))))
    by_masks = sample(moved(model, motion, MotionStrength(strength=Curve(from_mask(masks, 0.0, 1.0)))))
    torch.testing.assert_close(by_masks, whole_frames)


@pytest.mark.parametrize(("size", "mask"), [(9, (75, 70)), (8, (5, 333)), (10, (64, 64))])
def test_masks_of_any_size_fit_latents_of_any_size(model, motion, size, mask):
    strength = MotionStrength(
        Curve(from_mask(torch.rand(mask), 0.0, 1.0)), Curve(from_mask(torch.rand(mask), 1.0, 2.0))
    )
    assert torch.isfinite(sample(moved(model, motion, strength), size=size, steps=1)).all()


def test_masks_and_lists_of_another_length_are_refused_before_sampling(model, motion):
    steps = []
    for source, words in ((from_mask(torch.zeros(4, 8, 8), 0, 1), "4 masks"), (from_numbers([1.0] * 5), "5 numbers")):
        with pytest.raises(ValueError, match=f"{words} for 6 frames"):
            sample(moved(model, motion, MotionStrength(Curve(source))), callback=lambda *_: steps.append(1))
    assert not steps


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_without_effect_is_as_if_it_had_no_modules(model, motion, level):
    seen = watch(moved(model, motion, MotionStrength(strength_of_level={level: 0.0})), motion)
    for name, calls in seen.items():
        ((x, out),) = calls
        assert torch.equal(out, x) == name.startswith(level), name


def test_levels_sharpen_their_own_attention_alone(model, motion):
    """The first level runs before any other has had an effect, so it sees what it always sees."""
    plain = watch(moved(model, motion), motion)
    sharp = watch(moved(model, motion, MotionStrength(motion_scale_of_level={"down_blocks.1": 3.0})), motion)
    first, second = "down_blocks.0.motion_modules.0", "down_blocks.1.motion_modules.0"
    assert torch.equal(sharp[first][0][1], plain[first][0][1])
    assert torch.equal(sharp[second][0][0], plain[second][0][0])
    assert not torch.equal(sharp[second][0][1], plain[second][0][1])


def test_levels_are_those_of_the_unet(model):
    assert {slot.name.partition(".motion_modules")[0] for slot in unet_slots(model.model.diffusion_model)} == set(
        LEVELS
    )


@pytest.mark.parametrize("percent", [0.3, 0.5])
def test_a_curve_over_the_sampling_that_ends_equals_end_percent(model, motion, percent):
    ended = sample(moved(model, motion, MotionStrength(keyframes(f"0: 1 hold, {percent}: 0", SAMPLING))), steps=5)
    assert torch.equal(ended, sample(moved(model, motion, end_percent=percent), steps=5))
    assert not torch.equal(ended, sample(moved(model, motion), steps=5))
    assert not torch.equal(ended, sample(model, steps=5))


def test_no_effect_at_any_time_is_bit_equal_to_the_plain_model(model, motion):
    plain = sample(model)
    assert torch.equal(sample(moved(model, motion, MotionStrength(0.0))), plain)
    assert torch.equal(sample(moved(model, motion, MotionStrength(keyframes("0", SAMPLING)))), plain)
    assert torch.equal(sample(moved(model, motion, MotionStrength(keyframes("0")))), plain)
    nowhere = dict.fromkeys(LEVELS, 0.0)
    assert torch.equal(sample(moved(model, motion, MotionStrength(strength_of_level=nowhere))), plain)


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_no_level_of_the_module_with_an_effect_is_bit_equal_to_the_plain_model(model, tmp_path, family):
    """Also of v1, which has norms over frames in the UNet itself, and which has no middle block."""
    levels = dict.fromkeys(LEVELS, 0.0) | ({"mid_block": 1.0} if family == "v1" else {})
    rests = moved(model, load_motion(tmp_path, family), MotionStrength(strength_of_level=levels))
    assert torch.equal(sample(rests), sample(model))


def test_frames_that_come_alone_without_a_word_are_refused():
    """As from a pack with windows of its own kind."""
    clip = ClipStrength.product([MotionStrength(keyframes("0: 0, 9: 1"))], LEVELS, frames=10, latent_size=(8, 8))
    with pytest.raises(ValueError, match="4 of 10 frames without saying which"):
        clip.in_call(CallFrames(10, 4), areas=(None, None))("mid_block.motion_modules.0", torch.zeros(8, 3, 4, 4))


def in_tiles(model: Any, at_once: bool) -> Any:
    """Left and right half of the pictures, as a pack for large pictures samples them."""

    def wrapper(apply_model, call):
        tiles, t, c = call["input"].chunk(2, dim=-1), call["timestep"], call["c"]
        if at_once:
            c = {**c, "c_crossattn": c["c_crossattn"].repeat(2, 1, 1)}
            return torch.cat(apply_model(torch.cat(tiles), t.repeat(2), **c).chunk(2), dim=-1)
        return torch.cat([apply_model(tile, t, **c) for tile in tiles], dim=-1)

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


@pytest.mark.parametrize("frames", [FRAMES, 20])
def test_tiles_of_another_pack_follow_a_curve_over_the_frames(model, motion, frames):
    curve = moved(model, motion, MotionStrength(keyframes("0.0: 0, 1.0: 1")))
    clip = apply_sliding_context(curve, ContextOptions(8, 2))
    one_by_one = sample(in_tiles(clip, at_once=False), frames=frames, steps=1)
    torch.testing.assert_close(
        sample(in_tiles(clip, at_once=True), frames=frames, steps=1), one_by_one, rtol=1e-4, atol=1e-4
    )
    assert not torch.equal(one_by_one, sample(in_tiles(moved(model, motion), at_once=False), frames=frames, steps=1))


@pytest.mark.parametrize("at_once", [False, True])
def test_tiles_of_another_pack_are_refused_where_nothing_says_their_place_in_a_mask(model, motion, at_once):
    mask = Curve(from_mask(torch.rand(1, 8, 8), 0.0, 1.0))
    clip = in_tiles(moved(model, motion, MotionStrength(mask)), at_once)
    with pytest.raises(ValueError, match=r"divides the picture into tiles.*without masks"):
        sample(clip, frames=FRAMES, steps=1)


def test_moments_are_percents_of_the_noise_schedule(model):
    sampling = model.get_model_object("model_sampling")
    falling = moments(sampling.percent_to_sigma)
    for percent in (0.001, 0.25, 0.5, 0.999, 1.0):
        assert moment_of(sampling.percent_to_sigma(percent), falling) == round(percent * 1000)
    assert moment_of(float(sampling.sigma_max), falling) <= 1
    assert moment_of(0.0, falling) == 1000


def test_windows_take_the_numbers_of_their_frames(model, motion):
    frames, curve = 20, keyframes("0: 0 hold, 10: 1")
    windows = apply_sliding_context(moved(model, motion, MotionStrength(strength=curve)), ContextOptions(8, 2))
    seen = watch(windows, motion, frames=frames)["down_blocks.0.motion_modules.0"]
    starts = [0, 6, 12]
    assert len(seen) == len(starts)
    for start, (x, out) in zip(starts, seen, strict=True):
        assert [torch.equal(out[i], x[i]) for i in range(8)] == [start + i < 10 for i in range(8)]


def test_a_prompt_for_an_area_sees_its_part_of_the_region(model, motion):
    """A region that is the area's right half, of a prompt for the latent's right half; in windows, too."""
    mask = torch.zeros(64, 64)
    mask[:, 48:] = 1.0
    area = [[conditioning(7)[0][0], conditioning(7)[0][1] | {"area": (8, 4, 0, 4)}]]
    with_region = moved(model, motion, MotionStrength(strength=Curve(from_mask(mask, 0.0, 1.0))))
    for clip, calls in ((with_region, 1), (apply_sliding_context(with_region, ContextOptions(4, 2)), 2)):
        seen = watch(clip, motion, positive=area)["down_blocks.0.motion_modules.0"]
        of_area = [call for call in seen if call[0].shape[-1] == 4]
        assert len(of_area) == calls
        for x, out in of_area:
            assert torch.equal(out[..., :2], x[..., :2])
            assert not torch.equal(out[..., 2:], x[..., 2:])


def test_areas_of_one_size_share_a_call_and_keep_their_places():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1.0
    settings = [MotionStrength(Curve(from_mask(mask, 0.0, 1.0)))]
    clip = ClipStrength.product(settings, LEVELS, frames=2, latent_size=(8, 8))
    call = clip.in_call(CallFrames(2, 2), areas=(((8, 8), 8, 4, 0, 0), ((8, 8), 8, 4, 0, 4)))
    strength: Any
    strength, motion_scale = call("mid_block.motion_modules.0", torch.zeros(4, 3, 4, 2))
    assert motion_scale == 1.0
    assert strength.shape == (4, 1, 4, 2)
    assert strength[:2].eq(0).all()
    assert strength[2:].eq(1).all()


def test_cropping_takes_the_area():
    grid = torch.arange(12.0).view(1, 3, 4)
    assert cropped(grid, ((3, 4), 2, 1, 1, 2)).flatten().tolist() == [6.0, 10.0]
    assert cropped(grid, ((6, 8), 2, 2, 1, 2)).flatten().tolist() == [1.0, 1.0, 5.0, 5.0]


def test_a_stack_of_modules_has_a_strength_each(model, motion, tmp_path):
    second = load_motion(tmp_path, "v3", seed=2)
    first_half, other_half = (MotionStrength(keyframes(text)) for text in ("1 1 1 0 0 0", "0 0 0 1 1 1"))
    stacked = moved(moved(model, motion, first_half), second, other_half)
    for module, active in ((motion, range(3)), (second, range(3, 6))):
        ((x, out),) = watch(stacked, module)["down_blocks.0.motion_modules.0"]
        assert [not torch.equal(out[i], x[i]) for i in range(6)] == [i in active for i in range(6)]
