"""Motion training: what it learns from, and that nothing but motion changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from comfy_support import CHANNELS, CONTEXT, make_model, randomise
from torch import Tensor

from animatediff_native.motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from animatediff_native.motion_models.unet import motion_hooks, unet_slots
from animatediff_native.training.data import EncodedClips, MemoryClip, Prompt
from animatediff_native.training.diffusion import add_noise, alphas_cumprod, velocity, without_signal
from animatediff_native.training.frozen_unet import CleanClips, FrozenUNet, recomputed
from animatediff_native.training.loop import FitOptions, Training
from animatediff_native.training.motion import MotionLoss, MotionOptions, debiased, draw, weight, weights
from animatediff_native.training.processes import OneProcess

FRAMES = 6
PROMPT = Prompt(torch.zeros(4, CONTEXT))
EMPTY = Prompt(torch.ones(4, CONTEXT))
VELOCITY = MotionOptions(loss="velocity", least=0.05)
pytestmark = pytest.mark.autograd


def moving_square(frames: int = FRAMES, size: int = 8) -> Tensor:
    """(frames, 4, size, size): a square that goes from left to right."""
    clip = torch.full((frames, 4, size, size), -0.5)
    for frame in range(frames):
        clip[frame, :, 3:6, frame : frame + 3] = 1.5
    return clip


def data(*clips: Tensor, batch: int = 1) -> EncodedClips:
    return EncodedClips([MemoryClip(clip, PROMPT) for clip in clips], FRAMES, batch=batch)


class Setting:
    """A small UNet that predicts something, and a motion model that adds nothing yet."""

    def __init__(self, seed: int = 0, zero: bool = True):
        torch.manual_seed(seed)
        self.unet = make_model(levels=2).model.diffusion_model.requires_grad_(False)
        self.unet.out[2].weight.data *= 10  # random weights of the usual size predict next to nothing
        self.motion = MotionModel(MotionModelConfig.for_unet(CHANNELS[:2], mid=False))
        if zero:
            zero_output(self.motion)
        else:
            randomise(self.motion, seed)
        self.image = FrozenUNet(self.unet, self.moving)

    def moving(self, frames: int, _clips: CleanClips | None):
        return motion_hooks(unet_slots(self.unet), self.motion, frames)

    def losses(self, clips: EncodedClips, options: MotionOptions = VELOCITY, empty: Prompt | None = None):
        loss = MotionLoss(self.image, alphas_cumprod("motion"), options, empty=empty)
        return loss.steps(clips, OneProcess())

    def train(self, folder: Path, clips: EncodedClips, steps: int = 60) -> None:
        options = FitOptions(steps, learning_rate=3e-3)
        Training(folder / "m.pt", weights(self.motion), options).run(self.losses(clips), report=lambda _: None)

    def error(self, clip: Tensor, timestep: int = 500) -> float:
        """Of the noise predicted in a clip, the mean over some draws."""
        alpha, errors = alphas_cumprod("motion")[timestep].view(1), []
        for seed in range(4):
            noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(1000 + seed))
            noisy = add_noise(clip[None], noise[None], alpha)[0]
            with torch.no_grad():
                predicted = self.image(noisy, torch.full((len(clip),), timestep), [PROMPT])
            errors.append((predicted - noise).square().mean().item())
        return sum(errors) / len(errors)

    def frozen(self) -> dict[str, Tensor]:
        positions = {key: value for key, value in self.motion.state_dict().items() if key.endswith(".pe")}
        return {key: value.clone() for key, value in (self.unet.state_dict() | positions).items()}


def test_one_clip_is_overfitted_with_the_image_model_and_the_positions_frozen(tmp_path):
    setting = Setting()
    untrained, before = setting.error(moving_square()), setting.frozen()
    setting.train(tmp_path, data(moving_square()))
    assert setting.error(moving_square()) < 0.7 * untrained
    assert all(torch.equal(value, before[key]) for key, value in setting.frozen().items())


def test_a_motion_model_with_zero_outputs_is_the_identity_at_the_first_step():
    setting = Setting()
    loss = MotionLoss(FrozenUNet(setting.unet), alphas_cumprod("motion"), VELOCITY)
    plain = loss.steps(data(moving_square()), OneProcess())
    assert torch.equal(first_losses(setting.losses(data(moving_square())))[0], first_losses(plain)[0])


def first_losses(losses, steps: int = 1, first: int = 0) -> list[Tensor]:
    return [torch.stack([part.detach() for part in step]).mean() for step in islice(losses(first), steps)]


def gradients(setting: Setting, options: MotionOptions, clips: EncodedClips) -> dict[str, Tensor]:
    for parameter in weights(setting.motion).values():
        parameter.requires_grad_(True)
        parameter.grad = None
    for loss in next(setting.losses(clips, options)(0)):
        (loss / options.accumulate).backward()
    return {name: p.grad.clone() for name, p in weights(setting.motion).items() if p.grad is not None}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys() and a
    for key in a:
        assert (a[key] - b[key]).norm() < 1e-4 * b[key].norm() + 1e-7, key


def test_gradients_reach_the_motion_model_alone():
    setting = Setting(zero=False)
    actual = gradients(setting, VELOCITY, data(moving_square()))
    assert actual.keys() == weights(setting.motion).keys()
    assert all(gradient.abs().sum() > 0 for gradient in actual.values())
    assert all(p.grad is None for p in setting.unet.parameters())


def test_recomputing_in_the_backward_pass_gives_the_same_gradients():
    setting = Setting(zero=False)
    plain = gradients(setting, VELOCITY, data(moving_square()))
    with recomputed(setting.unet, setting.motion):
        again = gradients(setting, VELOCITY, data(moving_square()))
    assert_close(again, plain)
    assert "forward" not in setting.unet.input_blocks[1][0].__dict__


def test_recomputing_keeps_less_for_the_backward_pass():
    def kept(recompute: bool) -> int:
        setting, sizes = Setting(zero=False), []
        for parameter in weights(setting.motion).values():
            parameter.requires_grad_(True)
        own = {p.data_ptr() for p in (*setting.unet.parameters(), *setting.motion.parameters())}

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(0 if tensor.data_ptr() in own else tensor.numel())
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with recomputed(*([setting.unet, setting.motion] if recompute else [])), hooks:
            list(next(setting.losses(data(moving_square()))(0)))
        return sum(sizes)

    assert kept(True) < 0.3 * kept(False)


def test_accumulated_batches_give_the_gradients_of_one(tmp_path):
    clips = data(moving_square(), moving_square().flip(0), moving_square() * 0.5, moving_square() * 2, batch=4)
    setting = Setting(zero=False)
    whole = gradients(setting, replace(VELOCITY, batch=4), clips)
    assert_close(gradients(setting, replace(VELOCITY, batch=2, accumulate=2), clips), whole)


def test_a_training_that_goes_on_sees_what_it_would_have_seen():
    clips = data(moving_square(), moving_square() * 2)
    setting = Setting(zero=False)
    for options in (replace(VELOCITY, batch=2), replace(VELOCITY, accumulate=3)):
        whole = first_losses(setting.losses(clips, options), 5)
        assert first_losses(setting.losses(clips, options), 2, first=3) == whole[3:]


def test_all_frames_of_a_clip_have_one_timestep_and_noise_of_their_own():
    items = list(islice(data(moving_square()).stream(0), 50))
    draws = [draw(item, replace(VELOCITY, first_timestep=600), None) for item in items]
    times = [int(drawn.time) for drawn in draws]
    assert all(600 <= time < 1000 for time in times) and len(set(times)) > 30
    noise = torch.stack([drawn.noise for drawn in draws]).flatten(2)
    together = (noise[:, 0] * noise[:, 1]).mean()
    assert abs(together) < 0.05 and abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


def test_a_noise_offset_shifts_each_channel_of_a_whole_clip():
    items = list(islice(data(moving_square()).stream(0), 200))
    plain, shifted = (
        torch.stack([draw(item, replace(VELOCITY, noise_offset=offset), None).noise for item in items])
        for offset in (0.0, 0.3)
    )
    shifts = shifted - plain
    torch.testing.assert_close(shifts, shifts[:, :1, :, :1, :1].expand_as(shifts))
    assert abs(shifts[:, 0, :, 0, 0].std() - 0.3) < 0.03


def test_a_clip_that_begins_with_noise_alone_is_what_a_sampler_passes_through():
    """An Euler step of a perfect model, from the noise at the last timestep to any other one."""
    clip, alphas = moving_square()[None], alphas_cumprod("motion")
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(3))
    lacking = without_signal(noise, clip, alphas[-1], share=torch.ones(1))
    torch.testing.assert_close(add_noise(clip, lacking, alphas[-1:]), (1 - alphas[-1]).sqrt() * noise)
    levels = ((1 - alphas) / alphas).sqrt()
    start = levels[-1] * noise  # in units of the clip
    for timestep in (900, 500):
        moved = start + (start - clip) / levels[-1] * (levels[timestep] - levels[-1])
        noisy = add_noise(clip, lacking, alphas[timestep : timestep + 1]) / alphas[timestep].sqrt()
        torch.testing.assert_close(noisy, moved, rtol=1e-4, atol=1e-4)


def test_what_the_noise_of_clips_lacks_is_random_and_changes_neither_noise_nor_timestep():
    items = list(islice(data(moving_square()).stream(0), 200))
    shares = torch.stack([draw(item, replace(VELOCITY, from_noise=0.5), None).lacking for item in items])
    assert 0 <= shares.min() < 0.05 and 0.45 < shares.max() <= 0.5
    plain, lacking = (draw(items[0], replace(VELOCITY, from_noise=share), None) for share in (0.0, 1.0))
    assert torch.equal(plain.noise, lacking.noise) and plain.time == lacking.time and not plain.lacking
    setting = Setting(zero=False)
    losses = [first_losses(setting.losses(data(moving_square()), replace(VELOCITY, from_noise=s)))[0] for s in (0, 1)]
    assert losses[0] != losses[1]


def test_the_share_of_captions_that_is_dropped_is_the_one_asked_for():
    items = list(islice(data(moving_square()).stream(0), 1000))
    dropped = sum(draw(item, replace(VELOCITY, caption_dropout=0.2), EMPTY).prompt is EMPTY for item in items)
    assert 160 < dropped < 240
    assert all(draw(item, replace(VELOCITY, caption_dropout=0.2), None).prompt is PROMPT for item in items[:20])


def test_the_debiased_error_is_motiondirectors():
    """Section 4.2: phi(e) = sqrt(beta^2 + 1) e - beta e_anchor, with beta 1; it is linear, so differences keep it."""
    predicted, noise = torch.randn(2, FRAMES, 4, 8, 8), torch.randn(2, FRAMES, 4, 8, 8)
    result = debiased(predicted - noise, torch.tensor([0, 3]))
    for clip, anchor in enumerate((0, 3)):
        phi = [2**0.5 * e[clip] - e[clip, anchor] for e in (predicted, noise)]
        torch.testing.assert_close(result[clip], phi[0] - phi[1])


def test_the_debiased_loss_is_added():
    setting = Setting(zero=False)
    plain, both = (
        first_losses(setting.losses(data(moving_square()), replace(VELOCITY, appearance_debiased=on)))[0]
        for on in (False, True)
    )
    assert both > 1.5 * plain


def test_a_model_of_the_velocity_is_measured_on_the_velocity():
    """The same prediction in other words has the same loss, with the weights of either."""
    latents, noise, wrong = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    alpha = alphas_cumprod("motion")[torch.tensor([10, 500, 990])]
    a = alpha.view(-1, 1, 1, 1)
    noisy = add_noise(latents, noise, alpha)
    as_noise = a.sqrt() * wrong + (1 - a).sqrt() * noisy  # the noise that a predicted velocity stands for
    torch.testing.assert_close(a.sqrt() * velocity(latents, noise, alpha) + (1 - a).sqrt() * noisy, noise)
    for loss in ("noise", "velocity"):
        options = MotionOptions(loss=loss)
        of_noise = weight(alpha, False, options) * (as_noise - noise).square().mean((1, 2, 3))
        of_velocity = weight(alpha, True, options) * (wrong - velocity(latents, noise, alpha)).square().mean((1, 2, 3))
        torch.testing.assert_close(of_velocity, of_noise)


def test_bfloat16_is_close_and_the_weights_stay_float32():
    setting = Setting(zero=False)
    fp32, bf16 = (
        first_losses(setting.losses(data(moving_square()), replace(VELOCITY, bf16=on)))[0] for on in (False, True)
    )
    assert 0 < abs(bf16 - fp32) < 0.05 * fp32
    rounded = gradients(setting, replace(VELOCITY, bf16=True), data(moving_square()))
    assert all(gradient.dtype == torch.float32 for gradient in rounded.values())
