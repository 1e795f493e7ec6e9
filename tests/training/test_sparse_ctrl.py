"""The training of a SparseCtrl, from a copy of the UNet that changes nothing to a file that Load SparseCtrl reads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from comfy_support import CHANNELS, load_motion, make_model
from torch import Tensor
from training_task_support import first_loss, losses_of

from animatediff_native.motion_models.saving import write
from animatediff_native.sampling.sparse_control import load_sparse_control
from animatediff_native.training import sparse_ctrl, tasks
from animatediff_native.training.loop import FitOptions, Training

pytestmark = pytest.mark.autograd


class Decoder:
    """A VAE whose pictures are white where the latents' first channel is above 0."""

    def decode(self, latents: Tensor) -> Tensor:
        return (
            (latents[:, 0] > 0).float().repeat_interleave(8, 1).repeat_interleave(8, 2)[..., None].expand(-1, -1, -1, 3)
        )


@pytest.fixture
def opened(tmp_path):
    """The training of a SparseCtrl on a small UNet with a random motion module."""
    model = make_model(2)
    motion = load_motion(tmp_path, "v3", channels=CHANNELS[:2])

    def open_task(recompute: bool = False, **options: Any) -> Any:
        sparse = sparse_ctrl.SparseCtrlOptions(**options)
        computing = tasks.TaskOptions(recompute=recompute, sparse_ctrl=sparse, vae=Decoder())
        return tasks.TASKS["SparseCtrl"](model, motion, computing)

    return open_task


@pytest.mark.parametrize("sees", ["rgb", "scribble"])
def test_an_untrained_one_changes_nothing_and_its_outputs_learn_first(opened, sees):
    with opened(sees=sees) as task:
        for weight in task.parameters.values():
            weight.requires_grad_(True)
        loss = first_loss(task)
        control = task.unet.module.control
        loss.backward()
        with torch.no_grad():
            untrained = first_loss(task)
            for conv in control.zero_convs:
                conv[0].bias.fill_(1.0)
            assert not torch.equal(first_loss(task), untrained), "its outputs are not used"
            task.unet.module.forward = task.unet.module.unet.forward
            assert torch.equal(first_loss(task), untrained)
    learning = {name for name, weight in control.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learning and all(name.startswith(("zero_convs", "middle_block_out")) for name in learning)


@pytest.mark.parametrize("sees", ["rgb", "scribble"])
def test_a_trained_one_is_loaded_as_it_was_learned(opened, tmp_path, sees):
    with opened(sees=sees) as task:
        training = Training(tmp_path / "state.pt", task.parameters, FitOptions(3, learning_rate=1e-2, average=0.0))
        training.run(losses_of(task))
        write(task.file(task.parameters), task.notes, str(tmp_path / "learned.safetensors"))
        learned = task.unet.module.control.state_dict()
    loaded = load_sparse_control(str(tmp_path / "learned.safetensors")).control_model
    assert loaded.config == task.unet.module.control.config and loaded.config.takes_latents == (sees == "rgb")
    assert loaded.state_dict().keys() == learned.keys()
    assert all(torch.equal(weight, learned[key]) for key, weight in loaded.state_dict().items())
    assert learned["zero_convs.0.0.weight"].any()
    with opened(sees=sees, start=tmp_path / "learned.safetensors") as again, torch.no_grad():
        assert all(torch.equal(weight, learned[key]) for key, weight in again.unet.module.control.state_dict().items())


def test_gradients_are_those_without_recomputing(opened):
    def gradients(recompute: bool) -> list[Tensor]:
        with opened(recompute=recompute) as task:
            with torch.no_grad():
                for weight in task.parameters.values():
                    weight.add_(0.01)
            for weight in task.parameters.values():
                weight.requires_grad_(True)
            first_loss(task).backward()
            return [weight.grad for weight in task.parameters.values()]

    for plain, recomputed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-4, atol=1e-7)


def test_keyframes_are_often_the_first_frame_or_both_ends_and_else_random():
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(tuple(sparse_ctrl.draw_keyframes(8, 3, generator)) for _ in range(2000))
    assert all(len(set(frames)) == len(frames) <= 3 and list(frames) == sorted(frames) for frames in drawn)
    assert {frame for frames in drawn for frame in frames} == set(range(8))
    assert drawn[(0,)] > 500 and drawn[(0, 7)] > 500 and len(drawn) > 50
    assert {tuple(sparse_ctrl.draw_keyframes(2, 9, generator)) for _ in range(200)} == {(0,), (1,), (0, 1)}
    assert {len(sparse_ctrl.draw_keyframes(8, 1, generator)) for _ in range(200)} == {1}


def test_the_other_frames_are_zero():
    latents = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    seen = sparse_ctrl.latent_hints(latents, [[0], [1, 3]])
    shown = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1]]).view(2, 4, 1, 1, 1).expand(2, 4, 1, 8, 8)
    assert torch.equal(seen, torch.cat((latents * shown, shown), dim=2))


def test_sketches_are_the_edges_of_the_keyframes_pictures():
    latents = torch.full((1, 3, 4, 8, 8), -1.0)
    latents[0, 2, 0, 2:6, 2:6] = 1.0  # a square in the last frame
    (seen,) = sparse_ctrl.sketch_hints(make_model(2), Decoder())(latents, [[0, 2]])
    assert seen.shape == (3, 4, 64, 64)
    assert torch.equal(seen[:, 3].mean((1, 2)), torch.tensor([1.0, 0.0, 1.0])), "the mask"
    assert not seen[:2, :3].any(), "an even picture has no edges, and a frame that is no keyframe no picture"
    rows, columns = seen[2, 0].nonzero().unbind(1)
    inside = (rows > 20) & (rows < 43) & (columns > 20) & (columns < 43)
    assert len(rows) > 100 and not inside.any() and rows.min() >= 12 and rows.max() < 52
