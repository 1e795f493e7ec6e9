"""The training of PIA's picture input, from a motion module that sees nothing to a file that Apply AnimateDiff uses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from comfy_support import CHANNELS, load_motion, make_model
from training_task_support import first_loss, losses_of

from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.saving import write
from animatediff_native.training import pia, tasks
from animatediff_native.training.loop import FitOptions, Training

pytestmark = pytest.mark.autograd


@pytest.fixture
def model():
    return make_model(2)


@pytest.fixture
def motion(tmp_path):
    return load_motion(tmp_path, "v1", channels=CHANNELS[:2])


def test_an_untrained_input_changes_nothing_and_a_trained_one_does(model, motion):
    """v1 has its norms over all frames too, as PIA does."""
    options = tasks.TaskOptions(recompute=False)
    with torch.no_grad(), tasks.module_task(model, motion, options) as plain:
        expected = first_loss(plain)
    with torch.no_grad(), tasks.module_task(model, motion, replace(options, pictures=True)) as task:
        assert torch.equal(first_loss(task), expected)
        task.parameters["conv_in.weight"][:, 4:] = 0.1
        assert not torch.equal(first_loss(task), expected)


def test_a_trained_one_is_loaded_as_pia_and_trained_on(model, motion, tmp_path):
    options = tasks.TaskOptions(pictures=True)
    with tasks.module_task(model, motion, options) as task:
        training = Training(tmp_path / "state.pt", task.parameters, FitOptions(2, learning_rate=1e-2, average=0.0))
        training.run(losses_of(task))
        write(task.file(task.parameters), task.notes, str(tmp_path / "pia.safetensors"))
    loaded = load_motion_model(str(tmp_path / "pia.safetensors"))
    assert (loaded.family.name, loaded.config.picture_input) == ("PIA", "conv_in")
    weights = loaded.patcher.model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in task.parameters.items())
    assert weights["conv_in.weight"][:, 4:].any(), "the picture's part has learned"
    conv_in = model.get_model_object("diffusion_model").input_blocks[0][0]
    torch.testing.assert_close(weights["conv_in.weight"][:, :4], conv_in.weight, rtol=1e-3, atol=0)
    with tasks.module_task(model, loaded, options) as again:
        assert all(torch.equal(weights[key], value) for key, value in again.parameters.items())


def test_frames_see_a_picture_of_their_clip_and_how_alike_they_are():
    clip = torch.stack([torch.full((4, 2, 2), value) for value in (0.0, 0.25, 3.0)])
    seen = [pia.masked_picture(clip, torch.Generator().manual_seed(seed)) for seed in range(200)]
    pictures = [clip_seen[0, 1:] for clip_seen in seen if clip_seen.any()]
    assert 20 <= len(seen) - len(pictures) <= 60, "a fifth sees nothing"
    shares = [sum(torch.equal(picture, frame) for picture in pictures) / len(pictures) for frame in clip]
    assert shares[0] > 0.55 and min(shares) > 0.08 and sum(shares) == pytest.approx(1)
    (of_second,) = {tuple(s[:, 0, 0, 0].tolist()) for s in seen if torch.equal(s[0, 1:], clip[1])}
    assert of_second == pytest.approx((0.8, 1.0, 0.2))


def test_sdxl_has_no_pia(model, motion):
    start = tasks.start_from(model, motion, tasks.TaskOptions())
    with pytest.raises(ValueError, match=r"is for SDXL, and PIA for Stable Diffusion 1\.5"):
        tasks.start_pia(model, start._replace(family=tasks.SDXL))
