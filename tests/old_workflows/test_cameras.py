"""Camera poses of old workflows: what Camera Path makes of their text, against the old pack's formulas."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from camera_support import camera_weights
from conversion_support import Drawing, nodes_of, read, sampled_through, sources, widgets
from node_support import CHANNELS, error, ksampler, run

from animatediff_native.old_workflows.convert import convert
from animatediff_native.sampling.camera_path import CameraPath

TURNS = {"Roll Clockwise": (0, 0, -1), "Tilt Down": (1, 0, 0), "Tilt Up": (-1, 0, 0), "Tilt Left": (0, 1, 0)}
SHIFTS = {"Pan Up": (0, 1, 0), "Pan Left": (1, 0, 0), "Pan Right": (-1, 0, 0), "Zoom In": (0, 0, -2)}


def poses(*names: str, speed: float = 1.0, frames: int = 16) -> numpy.ndarray:
    """The old pack's matrices from the world to the camera, (frames, 4, 4)."""
    matrices = numpy.zeros((frames, 4, 4))
    for i in range(frames):
        angles = numpy.sum([TURNS.get(name, (0, 0, 0)) for name in names], axis=0)
        x, y, z = angles * i / 16 * speed * numpy.pi / 3
        rx = [[1, 0, 0], [0, numpy.cos(x), -numpy.sin(x)], [0, numpy.sin(x), numpy.cos(x)]]
        ry = [[numpy.cos(y), 0, numpy.sin(y)], [0, 1, 0], [-numpy.sin(y), 0, numpy.cos(y)]]
        rz = [[numpy.cos(z), -numpy.sin(z), 0], [numpy.sin(z), numpy.cos(z), 0], [0, 0, 1]]
        matrices[i] = numpy.eye(4)
        matrices[i, :3, :3] = numpy.array(rz) @ ry @ rx
        shift = numpy.sum([SHIFTS.get(name, (0, 0, 0)) for name in names], axis=0)
        matrices[i, :3, 3] = shift * i / 16 * speed * 1.5
    return matrices


class Filmed(Drawing):
    """The old graph with a camera, whose poses can be made by other nodes."""

    def __init__(self) -> None:
        super().__init__("camera_and_sparse_control")
        self.basic, self.apply = self.node("ADE_CameraPoseBasic"), self.node("ADE_ApplyAnimateDiffModelWithCameraCtrl")

    def poses(self, type: str, values: Any, **inputs: Any) -> Any:
        node = self.add(f"ADE_{type}", values, " ".join(inputs), "CAMERACTRL_POSES")
        for name, source in inputs.items():
            self.wire(source, 0, node, name)
        return node

    def convert_from(self, node: Any) -> tuple[str, list[str]]:
        """The text of Camera Path, once the node's poses are applied, and what was said of cameras."""
        self.wire(node, 0, self.apply, "cameractrl_poses")
        workflow, lost = self.convert()
        said = [line for line in lost if "camera" in line.lower()]
        (apply,) = (node for node in sampled_through(workflow) if node["type"] == "ADN_ApplyAnimateDiff")
        load = sources(workflow, apply)["motion_module"]
        if load["type"] != "ADN_LoadCameraCtrl":
            return "", said
        return widgets(sources(workflow, load)["camera_path"])["path"], said


def test_an_old_graph_with_a_camera_gets_the_nodes_for_it():
    workflow, lost = convert(read("camera_and_sparse_control"))
    (apply,) = (node for node in sampled_through(workflow) if node["type"] == "ADN_ApplyAnimateDiff")
    load = sources(workflow, apply)["motion_module"]
    assert widgets(load) == {"camera_ctrl": "CameraCtrl_pruned.safetensors", "strength": 1.0}
    inputs = sources(workflow, load)
    assert widgets(inputs["motion_module"])["motion_module"] == "v3_sd15_mm.ckpt"
    assert widgets(inputs["camera_path"]) == {"path": "0: still\n15: forward 2.8125", "distance": 3.0}
    assert not [line for line in lost if "amera" in line]
    assert not nodes_of(workflow, "ADE_CameraPoseBasic", "ADE_LoadAnimateDiffModelWithCameraCtrl")


STATIC = ["Static"] * 4


@pytest.mark.parametrize(
    ("type", "values", "expected", "words"),
    [
        ("CameraPoseBasic", ["Tilt Left", 0.5, 16], poses("Tilt Left", speed=0.5), "15: pan -28.125"),
        ("CameraPoseBasic", ["Roll Clockwise", 1, 9], poses("Roll Clockwise", frames=9), "8: roll 30"),
        ("CameraPoseCombo", ["Pan Up", "Zoom In", *STATIC, 2, 16], poses("Pan Up", "Zoom In", speed=2),
         "15: up 2.8125 forward 5.625"),
        ("CameraPoseCombo", ["Pan Left", "Tilt Up", *STATIC, 1, 16], poses("Pan Left", "Tilt Up"), None),
        ("CameraPoseAdvanced", ["Zoom In", 2, "Zoom In", 1, *["Static", 1] * 4, 1, 5],
         poses("Zoom In", speed=3, frames=5), "4: forward 2.25"),
        ("CameraPoseCombo", ["Roll Clockwise", "Tilt Up", "Tilt Left", *STATIC[:3], 1, 16],
         poses("Roll Clockwise", "Tilt Up", "Tilt Left"), None),
    ],
)  # fmt: skip
def test_movements_become_words_or_a_pose_file_that_says_the_same(type, values, expected, words):
    graph = Filmed()
    text, said = graph.convert_from(graph.poses(type, values))
    cameras = CameraPath.parse(text).cameras(len(expected))
    numpy.testing.assert_allclose(torch.linalg.inv(cameras.to_world).numpy(), expected, atol=1e-6)
    assert text == f"0: still\n{words}" if words else len(text.split("\n")) == len(expected)
    assert bool(said) == (words is None), "a pose file is spread over the clip"


def test_poses_go_on_from_the_last_one_in_words_or_not():
    graph = Filmed()
    first = graph.poses("CameraPoseBasic", ["Pan Left", 1, 4])
    second = graph.poses("CameraPoseBasic", ["Zoom In", 1, 5], prev_poses=first)
    text, _ = graph.convert_from(second)
    assert text == "0: still\n3: right -0.28125\n4: right -0.28125\n8: right -0.28125 forward 0.75"
    graph = Filmed()
    first = graph.poses("CameraPoseBasic", ["Tilt Left", 1, 5])
    second = graph.poses("CameraPoseCombo", ["Roll Clockwise", "Zoom In", *STATIC, 1, 5])
    text, _ = graph.convert_from(graph.poses("CameraManualPoseAppend", [], poses_first=first, poses_last=second))
    before, after = poses("Tilt Left", frames=5), poses("Roll Clockwise", "Zoom In", frames=5)
    expected = numpy.concatenate([before, after @ before[-1]])
    found = torch.linalg.inv(CameraPath.parse(text).cameras(10).to_world).numpy()
    numpy.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_lenses_are_kept_in_a_pose_file():
    graph = Filmed()
    node = graph.poses("CameraPoseBasic", ["Pan Left", 1, 4])
    node = graph.poses("ReplaceCameraParameters", [0.4, 0.6, 0.5, 0.45], poses=node)
    text, _ = graph.convert_from(graph.poses("ReplaceOriginalPoseAspectRatio", [600, 400], poses=node))
    cameras = CameraPath.parse(text).cameras(4)
    assert cameras.lenses.tolist() == [pytest.approx([0.4, 0.6, 0.5, 0.45, 1.5])] * 4
    numpy.testing.assert_allclose(torch.linalg.inv(cameras.to_world).numpy(), poses("Pan Left", frames=4), atol=1e-6)


def test_poses_that_lead_round_or_grow_without_end_are_left_out():
    circle = Filmed()
    node = circle.poses("CameraPoseBasic", ["Pan Left", 1, 4], prev_poses=circle.basic)
    circle.wire(node, 0, node, "prev_poses")
    circle.wire(node, 0, circle.apply, "cameractrl_poses")
    assert not nodes_of(circle.convert()[0], "ADN_CameraPath")
    growing = Filmed()
    node = growing.basic
    for _ in range(30):
        node = growing.poses("CameraManualPoseAppend", [], poses_first=node, poses_last=node)
    growing.wire(node, 0, growing.apply, "cameractrl_poses")
    workflow, lost = growing.convert()
    assert not nodes_of(workflow, "ADN_CameraPath") and any("Camera Path takes 4096" in line for line in lost)


@pytest.mark.parametrize("type", ["LoadCameraPoses", "LoadCameraPosesFromPath"])
def test_a_file_of_poses_is_asked_for(type):
    graph = Filmed()
    text, said = graph.convert_from(graph.poses(type, ["way.txt"]))
    assert not text and any("paste the text of way.txt into Camera Path." in line for line in said)


def test_a_camera_without_the_file_for_it_is_left_out_with_a_sentence():
    graph = Filmed()
    loader = graph.node("ADE_LoadAnimateDiffModelWithCameraCtrl")
    loader["type"], loader["widgets_values"] = "ADE_LoadAnimateDiffModel", ["v3_sd15_mm.ckpt"]
    text, said = graph.convert_from(graph.basic)
    assert not text and any("its camera is left out, since ADE_LoadAnimateDiffModel gives no" in line for line in said)


def test_strength_changes_over_the_sampling_as_its_keyframes_say():
    graph = Filmed()
    half, full = (graph.add("ADE_MultivalDynamic", [value], "", "MULTIVAL") for value in (0.5, 1.5))
    keyframes = "prev_ad_keyframes cameractrl_multival effect_multival"
    first, second = (
        graph.add("ADE_CameraCtrlAnimateDiffKeyframe", [start, True, 1], keyframes, "AD_KEYFRAMES")
        for start in (0, 0.4)
    )
    graph.wire(half, 0, second, "cameractrl_multival")
    graph.wire(full, 0, first, "effect_multival")
    graph.wire(first, 0, second, "prev_ad_keyframes")
    graph.wire(second, 0, graph.apply, "ad_keyframes")
    workflow, lost = graph.convert()
    (apply,) = (node for node in sampled_through(workflow) if node["type"] == "ADN_ApplyAnimateDiff")
    inputs = sources(workflow, apply)
    camera = sources(workflow, inputs["motion_module"])["strength"]
    strength = sources(workflow, inputs["motion_strength"])["strength"]
    assert [widgets(curve)["keyframes"] for curve in (camera, strength)] == [
        "0 hold: 1\n0.4 hold: 0.5",
        "0 hold: 1.5\n0.4 hold: 1.5",
    ]
    assert widgets(camera)["over"] == "sampling" and not [line for line in lost if "multival" in line]


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_old_nodes_give_bit_for_bit_what_the_new_ones_give(
    adn, old, model, load_motion, apply, motion_folder, strength
):
    safetensors.torch.save_file(camera_weights(CHANNELS), motion_folder / "CameraCtrl_pruned.safetensors")
    motion = load_motion("v3")
    path = run(adn["ADN_CameraPath"], path="0: still\n15: right -2.8125")
    inputs = {"motion_module": motion, "camera_ctrl": "CameraCtrl_pruned.safetensors", "camera_path": path}
    expected = ksampler(apply(model, run(adn["ADN_LoadCameraCtrl"], **inputs, strength=strength)))
    moving = old("CameraPoseBasic", motion_type="Pan Left", speed=2.0, frame_length=16)
    names = {"model_name": motion.name, "camera_ctrl": "CameraCtrl_pruned.safetensors"}
    multival = {"cameractrl_multival": old("MultivalDynamic", float_val=strength)} if strength != 1.0 else {}
    loaded = old("LoadAnimateDiffModelWithCameraCtrl", **names)
    m_models = old("ApplyAnimateDiffModelWithCameraCtrl", motion_model=loaded, cameractrl_poses=moving, **multival)
    found = ksampler(old("UseEvolvedSampling", model=model, m_models=m_models))
    assert torch.equal(found, expected)
    assert error(ksampler(apply(model, motion)), expected) > 0.01
