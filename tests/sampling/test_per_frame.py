"""Everything that belongs to a frame goes with it into its window, and there is one of it for every frame."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import comfy.controlnet
import comfy.hooks
import comfy.model_patcher
import comfy.sample
import comfy.t2i_adapter.adapter
import pytest
import torch
from comfy.gligen import GatedSelfAttentionDense, Gligen, PositionNet
from comfy_support import CONTEXT, CPU, animate, load_motion, make_model, randomise
from node_support import (
    FRAMES,
    OneHintPerRow,
    core_nodes,
    empty_latent,
    error,
    ksampler,
    make_controlnet,
    noise_of,
    predict,
    prompt,
    run,
    small_model,
)

from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import ContextOptions
from animatediff_native.sampling.curves import Curve, from_numbers
from animatediff_native.sampling.per_frame import hints_of_window
from animatediff_native.sampling.strength import MotionStrength
from animatediff_native.sampling.windows import fuse_weights, windows

LONG, LENGTH, OVERLAP = 10, 6, 2
WINDOWS = windows("static", LONG, LENGTH, OVERLAP)
SAME, DIFFERENT = 1e-4, 1e-2


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return load_motion(tmp_path_factory.mktemp("models"), channels=(32, 64))


@pytest.fixture(scope="module")
def animated(model, motion):
    return animate(model, motion)


def windowed(model, **options):
    return apply_sliding_context(model, ContextOptions(LENGTH, OVERLAP, **{"free_noise": False, **options}))


def blend_of(alone) -> torch.Tensor:
    """The weighted mean of what `alone` gives for each window's frames."""
    total = torch.zeros(LONG, 4, 8, 8)
    for window, weight in zip(WINDOWS, fuse_weights("pyramid", WINDOWS, LONG, OVERLAP), strict=True):
        total[window] += alone(window) * weight.view(-1, 1, 1, 1)
    return total


def hints_for(frames: int) -> torch.Tensor:
    return 20 * torch.rand(frames, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def with_control(*controls) -> list:
    """A prompt with a stack of ControlNets."""
    for below, control in pairwise(controls):
        control.set_previous_controlnet(below)
    return [[prompt(5)[0][0], {"control": controls[-1], "control_apply_to_uncond": True}]]


def make_adapter() -> Any:
    config: dict[str, Any] = {"cin": 3 * 64, "channels": [32, 64, 64, 64], "nums_rb": 1, "ksize": 1, "sk": True}
    adapter = comfy.t2i_adapter.adapter.Adapter(**config, use_conv=False, xl=False).eval()
    randomise(adapter, seed=6)
    return comfy.controlnet.T2IAdapter(adapter, 3, 8, "nearest-exact", device=torch.device("cpu"))


def networks(window: list[int] | slice = slice(None)) -> dict[str, list[Any]]:
    """Controls, with the hints of those frames."""
    hints, other = hints_for(LONG), hints_for(LONG).flip(0)
    net = make_controlnet()
    late = make_controlnet().set_cond_hint(hints[window], 0.7, (0.5, 1.0))
    return {
        "ControlNet": [make_controlnet().set_cond_hint(hints[window], 0.7)],
        "T2I-Adapter": [make_adapter().set_cond_hint(hints[window], 0.7)],
        "stack": [net.copy().set_cond_hint(hints[window], 0.7), net.copy().set_cond_hint(other[window], 0.4)],
        "one hint for all": [make_controlnet().set_cond_hint(hints[:1], 0.7)],
        "late": [make_controlnet().set_cond_hint(other[window], 0.7), late],
    }


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("kind", ["ControlNet", "T2I-Adapter", "stack", "one hint for all", "late"])
def test_controls_in_windows_equal_each_window_with_its_own_hints(animated, kind, at_once):
    noise = noise_of(LONG)
    clip = predict(windowed(animated, at_once=at_once), with_control(*networks()[kind]), noise)
    expected = blend_of(lambda window: predict(animated, with_control(*networks(window)[kind]), noise[window]))
    assert error(clip, expected) < SAME
    assert error(predict(windowed(animated), prompt(5), noise), expected) > DIFFERENT, "the control has to steer"


def test_a_mask_for_each_hint_goes_with_it(animated):
    """`extra_concat`, as the ControlNets for inpainting have it."""
    seen = []

    class Masked(comfy.controlnet.ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            hint: Any = self.cond_hint_original
            seen.append((hint[:, 0, 0, 0].tolist(), self.extra_concat_orig[0][:, 0, 0, 0].tolist()))

    numbers = torch.arange(float(LONG)).view(-1, 1, 1, 1)
    control: Any = Masked().set_cond_hint(numbers, extra_concat=[numbers + 100])
    predict(windowed(animated), with_control(control), noise_of(LONG))
    assert seen == [(window, [100 + i for i in window]) for window in WINDOWS]
    assert torch.equal(control.cond_hint_original, numbers) and torch.equal(control.extra_concat_orig[0], numbers + 100)


def test_controls_that_slice_by_themselves_can_read_the_frames(animated):
    """Advanced-ControlNet reads `ad_params` and marks its controls with `sub_idxs`: their hints are left alone."""
    seen = []

    class SlicingControl(comfy.controlnet.ControlBase):
        sub_idxs = None

        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            hints: Any = self.cond_hint_original
            seen.append((transformer_options["ad_params"]["sub_idxs"], len(hints)))

    predict(windowed(animated), with_control(SlicingControl().set_cond_hint(torch.zeros(12, 3, 8, 8))), noise_of(LONG))
    assert seen == [(window, 12) for window in WINDOWS]


def test_hints_are_put_back_after_an_error_in_a_window(animated):
    class Failing(comfy.controlnet.ControlBase):
        def get_control(self, *_):
            raise RuntimeError("out of memory")

    hints = hints_for(LONG)
    control: Any = Failing().set_cond_hint(hints)
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(windowed(animated), with_control(control), noise_of(LONG))
    assert control.cond_hint_original is hints


def test_what_a_control_has_made_of_a_windows_hints_is_forgotten_after_it():
    """ComfyUI makes it anew only where there is none, or for another size."""
    control: Any = comfy.controlnet.ControlBase().set_cond_hint(hints_for(LONG))
    with hints_of_window([control], LONG, [1, 2]):
        assert len(control.cond_hint_original) == 2 and control.cond_hint is None
        control.cond_hint = control.cond_hint_original
    assert control.cond_hint is None


# Prompts


def tokens(n: int) -> torch.Tensor:
    return torch.randn(n, 77, CONTEXT, generator=torch.Generator().manual_seed(5))


def masks(n: int) -> torch.Tensor:
    return torch.rand(n, 64, 64, generator=torch.Generator().manual_seed(4))


def gligen() -> comfy.model_patcher.ModelPatcher:
    """With a layer for each transformer of the small model: two on the way down, one in the middle, three up."""
    layers = [GatedSelfAttentionDense(channels, 16, 2, 16) for channels in (32, 32, 64, 32, 32, 32)]
    net = Gligen(layers, PositionNet(16, 16), 16).eval()
    randomise(net, seed=3)
    return comfy.model_patcher.ModelPatcher(net, load_device=CPU, offload_device=CPU)


def per_frame_prompts(window) -> dict[str, list]:
    mask = {"mask": masks(LONG)[window], "set_area_to_bounds": False, "mask_strength": 0.8}
    area = {"area": (4, 8, 0, 0), "set_area_to_bounds": False}
    return {
        "prompts": [[tokens(LONG)[window], {}]],
        "masks": [[prompt(5)[0][0], mask], [prompt(7)[0][0], {}]],
        "GLIGEN": [[tokens(LONG)[window], {"gligen": ("position", gligen(), [(tokens(1)[:, 0, :16], 4, 4, 2, 2)])}]],
        "areas": [[tokens(LONG)[window], area], [prompt(7)[0][0], {}]],
    }


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("kind", ["prompts", "masks", "areas", "GLIGEN"])
def test_prompts_in_windows_equal_each_window_with_its_own(animated, kind, at_once):
    noise = noise_of(LONG)
    clip = predict(windowed(animated, at_once=at_once), per_frame_prompts(slice(None))[kind], noise)
    expected = blend_of(lambda window: predict(animated, per_frame_prompts(window)[kind], noise[window]))
    assert error(clip, expected) < SAME
    reversed_frames = per_frame_prompts(slice(None))[kind]
    for entry in reversed_frames:
        entry[0] = entry[0].flip(0)
        entry[1] |= {"mask": entry[1]["mask"].flip(0)} if "mask" in entry[1] else {}
    assert error(predict(windowed(animated), reversed_frames, noise), expected) > DIFFERENT


@pytest.mark.parametrize("at_once", [1, 2])
def test_inpaint_models_get_the_latents_and_masks_of_their_frames(motion, at_once):
    inpaint: Any = make_model(levels=2, in_channels=9)
    inpaint.model.set_inpaint()
    animated, noise, latents = animate(inpaint, motion), noise_of(LONG), noise_of(LONG + 1)[1:]

    def filled(window, latents: torch.Tensor) -> list:
        holes = {"concat_latent_image": latents[window], "concat_mask": masks(LONG)[window].round().unsqueeze(1)}
        return [[prompt(5)[0][0], holes]]

    clip = predict(windowed(animated, at_once=at_once), filled(slice(None), latents), noise)
    expected = blend_of(lambda window: predict(animated, filled(window, latents), noise[window]))
    assert error(clip, expected) < SAME
    assert error(predict(windowed(animated), filled(slice(None), latents.flip(0)), noise), expected) > DIFFERENT


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_lora_hook_works_on_its_prompt_in_every_window(animated, at_once):
    layer = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    change = torch.randn(32, 32, generator=torch.Generator().manual_seed(8))

    def with_hook() -> list:
        hooks = comfy.hooks.create_hook_lora({f"{layer}.diff": change}, 1.0, 0.0)
        return comfy.hooks.set_hooks_for_conditioning(prompt(5), hooks)

    noise = noise_of(LONG)
    clip = predict(windowed(animated, at_once=at_once), with_hook(), noise)
    assert error(clip, blend_of(lambda window: predict(animated, with_hook(), noise[window]))) < SAME
    assert error(predict(windowed(animated), prompt(5), noise), clip) > DIFFERENT


@pytest.mark.parametrize("at_once", [1, 2])
def test_motion_strength_in_windows_equals_each_window_with_its_own(model, motion, at_once):
    noise, strengths = noise_of(LONG), torch.linspace(0.0, 2.0, LONG)

    def at(window):
        curve = Curve(from_numbers(strengths[window].tolist()))
        return animate(model, motion, motion_strength=(MotionStrength(curve, curve),))

    clip = predict(windowed(at(slice(None)), at_once=at_once), prompt(5), noise)
    expected = blend_of(lambda window: predict(at(window), prompt(5), noise[window]))
    assert error(clip, expected) < SAME
    assert error(predict(windowed(animate(model, motion)), prompt(5), noise), expected) > DIFFERENT


def test_noise_mask_of_each_frame_counts_in_windows(animated):
    """What a mask does not cover stays the latent that was given."""
    latent = {"samples": noise_of(LONG), "noise_mask": torch.ones(LONG, 64, 64)}
    latent["noise_mask"][3] = 0.0
    settings = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    sampled = run(core_nodes.KSampler, model=windowed(animated), positive=prompt(5), negative=prompt(6),
                  latent_image=latent, **settings)["samples"]  # fmt: skip
    unchanged = [frame for frame in range(LONG) if error(sampled[frame], latent["samples"][frame]) < 1e-3]
    assert unchanged == [3]


# Counts


WRONG = {
    "ControlNet hints": lambda: with_control(make_controlnet().set_cond_hint(hints_for(4))),
    "prompts": lambda: [[tokens(4), {}]],
    "pooled prompts": lambda: [[tokens(1), {"pooled_output": torch.zeros(4, 8)}]],
    "masks": lambda: [[tokens(1), {"mask": masks(4), "set_area_to_bounds": False}]],
    "inpaint latents": lambda: [[tokens(1), {"concat_latent_image": torch.zeros(4, 4, 8, 8)}]],
    "inpaint masks": lambda: [[tokens(1), {"concat_mask": torch.zeros(4, 1, 8, 8)}]],
}


@pytest.mark.parametrize("in_windows", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_another_count_than_one_or_the_frames_is_refused_before_sampling(animated, name, in_windows):
    calls: list[int] = []
    model: Any = (windowed(animated) if in_windows else animated).clone()
    model.set_model_unet_function_wrapper(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match=rf"4 {name} for {FRAMES} frames: give one, or one for every frame"):
        ksampler(model, WRONG[name](), prompt(6))
    assert not calls


def test_a_picture_may_have_what_belongs_to_a_clip(animated):
    """One frame samples as without the pack, which takes the first of several."""
    latent = empty_latent(1)["samples"]
    assert torch.isfinite(predict(animated, WRONG["ControlNet hints"](), latent + 1)).all()


@pytest.mark.parametrize("low_memory", [False, True])
def test_every_row_of_a_call_gets_the_hint_of_its_frame(animated, low_memory, monkeypatch):
    """With both prompts in one call, and one after the other."""
    if low_memory:
        monkeypatch.setattr(type(animated), "get_free_memory", lambda *_: 0)
    hints = hints_for(LONG)
    ours = with_control(make_controlnet().set_cond_hint(hints, 0.7))
    theirs = with_control(make_controlnet(OneHintPerRow).set_cond_hint(hints, 0.7))
    negative = [[prompt(6)[0][0], dict(ours[0][1])]], [[prompt(6)[0][0], dict(theirs[0][1])]]
    model = windowed(animated)
    sampled, expected = (
        ksampler(model, ours, negative[0], frames=LONG),
        ksampler(model, theirs, negative[1], frames=LONG),
    )
    assert error(sampled, expected) < SAME


def test_easycache_takes_nothing_from_one_window_to_another(animated):
    """ComfyUI's EasyCache skips steps of the first window alone, and each is as if it were sampled alone."""
    nodes = pytest.importorskip("comfy_extras.nodes_easycache")
    settings = {"reuse_threshold": 100.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
    noise = noise_of(12)

    def sampled(model, noise: torch.Tensor, cache: bool = True) -> torch.Tensor:
        model = run(nodes.EasyCacheNode, model=model, **settings) if cache else model
        prompts, zeros = (prompt(5), prompt(6)), torch.zeros_like(noise)
        return comfy.sample.sample(model, noise, 6, 1.0, "euler", "normal", *prompts, zeros, seed=3)

    first, second = noise.chunk(2)
    alone = torch.cat([sampled(animated, first), sampled(animated, second, cache=False)])
    assert error(sampled(windowed(animated, schedule="batched"), noise), alone) < SAME
    assert error(sampled(animated, first, cache=False), sampled(animated, first)) > DIFFERENT, "steps are skipped"
