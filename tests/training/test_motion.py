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


def test_the_loss_falls_with_the_image_model_and_the_positions_frozen(tmp_path):
    torch.manual_seed(0)
    unet = make_model(levels=2).model.diffusion_model
    unet.out[2].weight.data *= 10  # random weights of the usual size predict next to nothing
    model = MotionModel(MotionModelConfig.for_unet(CHANNELS[:2], mid=False))
    zero_output(model)
    clip, context = moving_square(), torch.zeros(1, 4, CONTEXT)

    def error() -> float:
        noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
        noisy = add_noise(clip, noise, alphas_cumprod("motion")[500].view(1)).flatten(0, 1)
        with torch.no_grad(), motion_in_unet(unet, model, FRAMES):
            time, words = torch.full((FRAMES,), 500.0), context.repeat(FRAMES, 1, 1)
            predicted = unet(noisy, time, words, transformer_options={})
        return (predicted - noise.flatten(0, 1)).square().mean().item()

    def frozen() -> dict[str, torch.Tensor]:
        positions = {key: value for key, value in model.state_dict().items() if key.endswith(".pe")}
        return {key: value.clone() for key, value in (unet.state_dict() | positions).items()}

    untrained, before = error(), frozen()
    trained = motion.weights(model)
    motion.train("m", unet, model, trained, lambda _: (clip, context), tmp_path, steps=60, learning_rate=3e-3)
    assert error() < 0.7 * untrained
    assert all(torch.equal(value, before[key]) for key, value in frozen().items())
