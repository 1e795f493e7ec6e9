"""Optical flow of pictures whose movement is known."""

from __future__ import annotations

import pytest
import torch
import torchvision.models.optical_flow
from evaluation_support import pan, shape_on_ground, textured
from torch import Tensor
from torchvision.models.optical_flow.raft import RAFT

from animatediff_native.evaluation.optical_flow import LucasKanade, Raft, inside, resized, warp


@pytest.fixture(scope="module")
def raft() -> RAFT:
    """Random weights."""
    torch.manual_seed(0)
    return torchvision.models.optical_flow.raft_large(weights=None).eval()


def truth(dx: float, dy: float) -> Tensor:
    return torch.tensor([dx, dy]).view(2, 1, 1)


@pytest.mark.parametrize(("dx", "dy"), [(0.25, 0.5), (2.5, -1.25), (-6, 0), (0, 9)])
@pytest.mark.parametrize("size", [(96, 128), (512, 512)])
def test_a_translation_of_a_textured_picture_is_found(size, dx, dy):
    clip = pan(2, size, dx, dy)
    flow = LucasKanade()(clip[:1], clip[1:])
    assert flow.shape == (1, 2, *size)
    staying = inside(truth(dx, dy).expand(1, 2, *size).float())[0]
    assert (flow - truth(dx, dy)).norm(dim=1)[staying].mean() < 0.25


@pytest.mark.parametrize("dx", [1.5, 3.0, -5.0])
def test_a_single_thing_moves_and_the_ground_does_not(dx):
    clip, thing = shape_on_ground(2, dx)
    flow = LucasKanade()(clip[:1], clip[1:])[0]
    assert (flow - truth(dx, 0)).norm(dim=0)[thing[0]].mean() < 0.25
    far = torch.nn.functional.max_pool2d(thing.any(0).float()[None], 25, stride=1, padding=12)[0] == 0
    assert flow.norm(dim=0)[far].max() == 0


def test_a_change_of_light_is_no_motion():
    still = textured((96, 96))
    assert LucasKanade()(still, 0.8 * still).norm(dim=1).max() < 0.05
    assert LucasKanade()(still, 0.5 * still + 0.4).norm(dim=1).max() < 0.05


def test_every_pair_has_its_own_flow():
    slow, fast = pan(2, (96, 96), 1, 0), pan(2, (96, 96), 4, -3)
    first, second = (torch.stack(pair) for pair in zip(slow, fast, strict=True))
    both = LucasKanade()(first, second)
    for i, (a, b) in enumerate((slow, fast)):
        torch.testing.assert_close(both[i : i + 1], LucasKanade()(a[None], b[None]), rtol=1e-3, atol=1e-4)


def test_warping_brings_the_second_picture_onto_the_first():
    picture = textured((64, 64))
    moved = torch.roll(picture, (3, -5), (2, 3))  # down and to the left
    flow = truth(-5, 3).expand(1, 2, 64, 64)
    torch.testing.assert_close(warp(moved, flow)[..., :-3, 5:], picture[..., :-3, 5:], rtol=0, atol=1e-4)


def test_flow_for_a_larger_picture_is_longer():
    flow = truth(1.0, -2.0).expand(1, 2, 10, 20)
    torch.testing.assert_close(resized(flow, (30, 40)), truth(2.0, -6.0).expand(1, 2, 30, 40))


@pytest.mark.parametrize("size", [(128, 160), (100, 150), (64, 64)])
def test_raft_is_torchvisions(raft, size):
    """At sizes that RAFT takes as they are and at others."""
    clip = pan(2, size, 2, 1)
    flow = Raft(raft, torch.device("cpu"))(clip[:1], clip[1:])
    assert flow.shape == (1, 2, *size)
    if size == (128, 160):
        assert torch.equal(flow, raft(2 * clip[:1] - 1, 2 * clip[1:] - 1)[-1])


def test_raft_finds_the_flow_of_several_pairs_as_torchvision_does_at_once(raft):
    clip = pan(3, (128, 128), 2, 1)
    flow = Raft(raft, torch.device("cpu"))(clip[:-1], clip[1:])
    torch.testing.assert_close(flow, raft(2 * clip[:-1] - 1, 2 * clip[1:] - 1)[-1], rtol=1e-3, atol=1e-3)


def test_raft_gets_one_pair_at_a_time(raft):
    """Its memory is that of the pairs at once times the fourth power of the side."""
    clip, at_once = pan(4, (128, 128), 2, 1), []
    watch = raft.register_forward_pre_hook(lambda module, pictures: at_once.append(len(pictures[0])))
    Raft(raft, torch.device("cpu"))(clip[:-1], clip[1:])
    watch.remove()
    assert at_once == [1, 1, 1]


def test_raft_keeps_no_correlations(raft):
    """torchvision's module would, on the GPU too after it was moved off."""
    clip = pan(2, (128, 128), 2, 1)
    Raft(raft, torch.device("cpu"))(clip[:1], clip[1:])
    assert not raft.corr_block.corr_pyramid


def test_raft_may_keep_its_correlations_under_another_name(raft):
    """As a faster one of ComfyUI's might."""
    renamed = torch.nn.ModuleDict({"raft": raft})
    renamed.forward = raft.forward
    clip = pan(2, (128, 128), 2, 1)
    flows = [Raft(model, torch.device("cpu"))(clip[:1], clip[1:]) for model in (raft, renamed)]
    assert torch.equal(*flows)


def test_raft_keeps_no_correlations_when_it_fails(raft):
    def fail(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise MemoryError

    clip, watch = pan(2, (128, 128), 2, 1), raft.mask_predictor.register_forward_pre_hook(fail)
    with pytest.raises(MemoryError):
        Raft(raft, torch.device("cpu"))(clip[:1], clip[1:])
    watch.remove()
    assert not raft.corr_block.corr_pyramid
