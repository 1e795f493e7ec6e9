"""The dual clock of Time-to-Move, which a noise mask of noise levels is in ComfyUI's own sampling."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import comfy_extras.nodes_differential_diffusion as core
import pytest
import torch
from comfy_support import animate, load_motion
from node_support import FRAMES, NEGATIVE, POSITIVE, SIZE, error, levels, make_controlnet, noise_of, run, small_model
from node_support import windowed as in_windows
from torch import Tensor

from animatediff_native.sampling.rough_clip import follow_noise_levels, noise_levels

STEPS, WEAK, STRONG = 6, 1, 3
SEED = 3


class DualClock(comfy.samplers.Sampler):
    """Time-to-Move (arXiv 2511.08633): Euler from step WEAK on; until STRONG, what the mask marks is put back to the
    rough clip with the noise of the step, always the same noise."""

    def __init__(self, mask: Tensor):
        self.mask = mask

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, *args, **kwargs):
        x = latent_image + sigmas[WEAK] * noise
        for i in range(WEAK, len(sigmas) - 1):
            denoised = model_wrap(x, sigmas[i].expand(len(x)), **extra_args)
            x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
            if i < STRONG:
                x = x * (1 - self.mask) + (latent_image + sigmas[i + 1] * noise) * self.mask
        return x


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Any:
    """A clip's model of random weights."""
    with torch.inference_mode():
        motion = load_motion(tmp_path_factory.mktemp("motion"), channels=(32, 64))
        return animate(small_model(), motion)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return torch.randn(FRAMES, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) / 0.18215


@pytest.fixture(scope="module")
def mask() -> Tensor:
    """A block that moves by a column from frame to frame."""
    mask = torch.zeros(FRAMES, 1, SIZE, SIZE)
    for frame in range(FRAMES):
        mask[frame, :, 2:5, frame : frame + 3] = 1.0
    return mask


def sample(
    model: Any, clip: Tensor, sigmas: Tensor, sampler: Any = "euler", positive: Any = POSITIVE, mask: Any = None
):
    inputs = {"positive": positive, "negative": NEGATIVE, "latent_image": clip, "noise_mask": mask, "seed": SEED}
    torch.manual_seed(0)
    return comfy.sample.sample_custom(model, noise_of(), 2.0, comfy.samplers.sampler_object(sampler), sigmas, **inputs)


def level_between(model: Any, sigmas: Tensor, step: int) -> float:
    """Return a noise level that a place is released at in that step, and not in the one before."""
    sampling = model.get_model_object("model_sampling")
    above, below = (float(sampling.timestep(sigmas[i])) / 999 for i in (step - 1, step))
    return (above + below) / 2


def test_two_noise_levels_are_the_dual_clock(model, clip, mask):
    sigmas = levels(model, STEPS)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(2.0)
    expected = guider.sample(noise_of(), clip, DualClock(mask), sigmas, seed=SEED)
    inside, outside = (level_between(model, sigmas, step) for step in (STRONG, WEAK))
    masks = outside + (inside - outside) * mask
    followed = follow_noise_levels(model)
    later = sample(followed, clip, sigmas[WEAK:], mask=masks)
    assert error(later, expected) < 1e-5
    # From the start, ComfyUI takes the noise as sqrt(1 + sigma ** 2) there.
    whole = sample(followed, clip, sigmas, mask=masks)
    assert error(whole, expected) < 0.01
    assert torch.equal(whole, sample(run(core.DifferentialDiffusion, model=model), clip, sigmas, mask=masks))
    for step in (STRONG - 1, STRONG + 1):  # the comparison sees a clock that is one step off
        masks = outside + (level_between(model, sigmas, step) - outside) * mask
        assert error(sample(followed, clip, sigmas[WEAK:], mask=masks), expected) > 0.02


def test_at_full_noise_it_is_plain_sampling(model, clip, mask):
    sigmas = levels(model, STEPS)
    masks = noise_levels(mask[:, 0], (SIZE, SIZE), inside=1.0, outside=1.0)
    assert torch.equal(sample(follow_noise_levels(model), clip, sigmas, mask=masks), sample(model, clip, sigmas))


@pytest.mark.parametrize(
    ("sampler", "windowed"),
    [("euler", False), ("euler_ancestral", True), ("dpmpp_2m_sde", False), ("lcm", True), ("uni_pc", False)],
)
def test_without_noise_the_clip_stays_in_every_frame(model, clip, mask, sampler, windowed):
    """Also in windows and beside a ControlNet. UniPC ends at a noise of 0.001."""
    model = in_windows(model) if windowed else model
    control = make_controlnet()
    control.set_cond_hint(torch.rand(FRAMES, 3, SIZE * 8, SIZE * 8, generator=torch.Generator().manual_seed(2)))
    positive = [[POSITIVE[0][0], {"control": control}]]
    sigmas = levels(model, STEPS)[:-2]  # the last steps are below any level
    sigmas[-1] = 0.0
    masks = noise_levels(mask[:, 0], (SIZE, SIZE), inside=0.0, outside=1.0)
    sampled = sample(follow_noise_levels(model), clip, sigmas, sampler=sampler, positive=positive, mask=masks)
    inside = mask.expand_as(clip) == 1.0
    assert error(sampled[inside], clip[inside]) < 0.002
    assert error(sampled[~inside], clip[~inside]) > 0.5


def test_a_place_that_is_partly_covered_lies_between_both_levels():
    masks = torch.zeros(2, 16, 16)
    masks[1, :8, :12] = 1.0
    assert noise_levels(masks, (2, 2), inside=0.5, outside=0.9)[:, 0].flatten().tolist() == pytest.approx(
        [0.9] * 4 + [0.5, 0.7, 0.9, 0.9]
    )
