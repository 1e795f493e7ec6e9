"""Score Animation as a node, with ComfyUI's own loader of RAFT where it has one."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
import torch.nn.functional as F
from evaluation_support import pan, textured, vision_model
from node_support import run
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from animatediff_native.nodes.score_animation import ScoreAnimation

SIZE = (96, 128)


@pytest.fixture(scope="module")
def node() -> Any:
    return ScoreAnimation


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return pan(4, SIZE, 4, 3).movedim(1, -1)


@pytest.fixture
def raft(tmp_path, monkeypatch) -> Any:
    """Random weights, through core's Load Optical Flow Model."""
    core = pytest.importorskip("comfy_extras.nodes_void", reason="this ComfyUI loads no optical flow")
    torch.manual_seed(0)
    torch.save(raft_large(weights=None).state_dict(), tmp_path / "raft_large.pth")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "optical_flow", ([str(tmp_path)], {".pth"}))
    folder_paths.filename_list_cache.pop("optical_flow", None)
    return run(core.OpticalFlowLoader, model_name="raft_large.pth")


def test_a_clip_gives_a_score_a_plot_and_its_motion(node, clip):
    report, drawn, motion, smoothness = run(node, images=clip)
    numbers = json.loads(report)
    assert numbers["optical_flow"] == "Lucas-Kanade"
    assert motion == pytest.approx(5, abs=0.25)
    assert numbers["motion"] == pytest.approx(motion, abs=1e-4)
    assert smoothness == 0  # not measured
    assert drawn.ndim == 4 and drawn.shape[0] == 1 and drawn.shape[3] == 3


def test_the_node_shows_the_score_in_words(node, clip):
    shown = node.EXECUTE_NORMALIZED(images=clip).ui["text"]
    assert shown[0].startswith("4 frames of 128 × 96, optical flow by Lucas-Kanade.\nMotion ")


def test_raft_finds_the_flow_if_it_is_connected(node, clip, raft):
    report, *_ = run(node, images=clip, optical_flow=raft)
    numbers = json.loads(report)
    assert numbers["optical_flow"] == "RAFT"
    model = raft.model.float()
    first, second = F.interpolate(clip[:2].movedim(-1, 1), (128, 128), mode="bilinear").split(1)
    flow = model(2 * first - 1, 2 * second - 1)[-1]
    flow = F.interpolate(flow, SIZE, mode="bilinear") * torch.tensor([1, 96 / 128]).view(2, 1, 1)
    assert numbers["motion_of_steps"][0] == pytest.approx(float(flow.norm(dim=1).mean()), rel=1e-2)


def test_a_clip_vision_model_gives_smoothness_and_look(node, clip, tmp_path):
    clip_vision = vision_model(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for parameter in clip_vision.model.parameters():
        parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    report, _, _, smoothness = run(node, images=clip, clip_vision=clip_vision, reference_images=clip[:1])
    numbers = json.loads(report)
    embedded = clip_vision.encode_image(clip)["image_embeds"].float()
    neighbours, likeness = (torch.cosine_similarity(a, embedded[1:]) for a in (embedded[:-1], embedded[:1]))
    assert smoothness == pytest.approx(100 * float(neighbours.mean()), abs=1e-2)
    assert numbers["look"] == pytest.approx(100 * float((1 + likeness.sum()) / 4), abs=1e-2)
    assert numbers["text"] is None


def test_windows_are_scored(node, clip):
    report, *_ = run(node, images=clip, context_length=2, context_overlap=0)
    assert json.loads(report)["seams"] == [1]


def test_an_overlap_is_of_no_matter_without_windows(node, clip):
    report, *_ = run(node, images=clip, context_length=0, context_overlap=99)
    assert json.loads(report)["seams"] == []


def test_a_still_is_said_to_be_still(node):
    still = textured(SIZE).expand(4, -1, -1, -1).movedim(1, -1)
    assert "The clip is still" in node.EXECUTE_NORMALIZED(images=still).ui["text"][0]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"text": "a red star"}, "needs a CLIP text encoder: connect clip, or clear the text"),
        ({"text": "a red star", "clip": object()}, "connect clip_vision too"),
        ({"reference_images": torch.zeros(1, 8, 8, 3)}, "connect clip_vision too"),
        ({"context_length": 4, "context_overlap": 4}, "overlap of 4 frames does not fit windows of 4"),
    ],
)
def test_inputs_that_lack_something_say_what(node, clip, inputs, message):
    with pytest.raises(ValueError, match=message):
        run(node, images=clip, **inputs)


def test_a_single_frame_is_refused(node, clip):
    with pytest.raises(ValueError, match="give 2 frames or more"):
        run(node, images=clip[:1])


def test_it_can_be_interrupted(node, clip):
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(node, images=clip)
    assert run(node, images=clip)[2] > 0


def test_the_help_page_explains_every_input(node):
    page = Path(__file__).resolve().parents[2] / "web" / "docs" / "ADN_ScoreAnimation.md"
    explained = set(re.findall(r"\*\*(\w+)\*\*", page.read_text(encoding="utf-8")))
    schema = node.GET_SCHEMA()
    assert {entry.id for entry in schema.inputs} <= explained
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])


def test_inputs_that_do_nothing_are_logged(node, clip, caplog):
    with caplog.at_level(logging.INFO):
        run(node, images=clip, context_length=4, context_overlap=2)
        assert not caplog.text
        run(node, images=clip, clip=object(), context_overlap=2)
    assert caplog.messages == [
        "Score Animation: clip does nothing without a text.",
        "Score Animation: context_overlap 2 does nothing without a context_length.",
    ]
