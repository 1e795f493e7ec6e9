"""Motion training: the temporal order is learned, and the image model is not touched."""

from __future__ import annotations

import pytest
import torch
from comfy_support import CHANNELS, CONTEXT, make_model

from motion_models.motion_model import MotionModel, MotionModelConfig, zero_output
from motion_models.unet import motion_in_unet
from training import motion
from training.diffusion import add_noise, alphas_cumprod

FRAMES = 6
pytestmark = pytest.mark.autograd


def moving_square() -> torch.Tensor:
    """(1, FRAMES, 4, 8, 8): a square that goes from left to right."""
    clip = torch.full((1, FRAMES, 4, 8, 8), -0.5)
    for frame in range(FRAMES):
        clip[:, frame, :, 3:6, frame : frame + 3] = 1.5
    return clip


def test_a_clip_is_learned_in_its_order_with_the_image_model_frozen(tmp_path):
    torch.manual_seed(0)
    unet = make_model().model.diffusion_model
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    model = MotionModel(MotionModelConfig.for_unet(CHANNELS, mid=False))
    zero_output(model)
    clip, context = moving_square(), torch.zeros(1, 4, CONTEXT)
    motion.train(unet, model, lambda _: (clip, context), tmp_path, steps=60, learning_rate=2e-3)

    def error(frames: torch.Tensor) -> float:
        noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
        time = torch.tensor([500.0])
        noisy = add_noise(frames, noise, alphas_cumprod("motion")[500].view(1)).flatten(0, 1)
        with torch.no_grad(), motion_in_unet(unet, model, FRAMES):
            predicted = unet(noisy, time.repeat(FRAMES), context.repeat(FRAMES, 1, 1), transformer_options={})
        return (predicted - noise.flatten(0, 1)).square().mean().item()

    assert error(clip) < 0.9 * error(clip.flip(1))
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
