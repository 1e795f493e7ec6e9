"""Pictures at frames of a clip in old workflows: SparseCtrl, PIA and AnimateLCM-I2V."""

from __future__ import annotations

from typing import Any

import pytest
from conversion_support import Drawing, nodes_of, sources, widgets


def sparse_graph(method: str = "", value: Any = None, preprocessed: bool = True, kind: str = "") -> Drawing:
    """A video's pictures in a SparseCtrl, whose frames `method` chooses."""
    drawing = Drawing("video_to_video_controlnet")
    apply, video, vae = (
        drawing.node(t) for t in ("ACN_AdvancedControlNetApply", "VHS_LoadVideo", "CheckpointLoaderSimple")
    )
    if kind:
        apply["type"] = kind
    loader = drawing.add(
        "ACN_SparseCtrlLoaderAdvanced", ["sparse.ckpt", True, 0.9, 1.1, "off", 1, 1, 1], "", "CONTROL_NET"
    )
    drawing.wire(loader, 0, apply, "control_net")
    if method:
        drawing.wire(drawing.add(method, [value], "", "SPARSE_METHOD"), 0, loader, "sparse_method")
    images = video
    if preprocessed:
        images = drawing.add("ACN_SparseCtrlRGBPreprocessor", [], "", "IMAGE")
        drawing.wire(video, 0, images, "image")
        drawing.wire(vae, 2, images, "vae")
    drawing.wire(images, 0, apply, "image")
    return drawing


@pytest.mark.parametrize("preprocessed", [True, False])
@pytest.mark.parametrize("kind", ["", "ControlNetApplyAdvanced"])
def test_a_sparse_ctrl_gets_its_pictures_at_their_frames(preprocessed, kind):
    workflow, lost = sparse_graph("ACN_SparseCtrlIndexMethodNode", "0, 8, -1", preprocessed, kind).convert()
    (apply,) = nodes_of(workflow, "ControlNetApplyAdvanced")
    control, keyframes = (sources(workflow, apply)[name] for name in ("control_net", "image"))
    assert (control["type"], keyframes["type"]) == ("ADN_LoadSparseCtrl", "ADN_KeyframeImages")
    expected = {"sparse_ctrl": "sparse.ckpt", "strength": 0.9, "motion_scale": 1.1, "far_keyframes": "none"}
    assert widgets(control) == expected
    assert widgets(keyframes)["frames"] == "0, 8, -1"
    assert ("vae" in sources(workflow, keyframes)) == preprocessed and "images" in sources(workflow, keyframes)
    assert apply["mode"] == 0
    assert not [line for line in lost if "ACN_Sparse" in line]


@pytest.mark.parametrize(
    ("method", "value", "said"),
    [
        ("", None, None),
        ("ACN_SparseCtrlSpreadMethodNode", "uniform", None),
        (
            "ACN_SparseCtrlSpreadMethodNode",
            "center",
            "spread center becomes even: write the frames into Keyframe Images.",
        ),
        ("ACN_SparseCtrlIndexMethodNode", "0:4", 'indexes "0:4" is left out: write the frames into Keyframe Images.'),
        ("ACN_SparseCtrlOtherMethod", 3, "with 3, is left out: write the frames into Keyframe Images."),
    ],
)
def test_pictures_without_known_frames_are_spread_evenly_and_that_is_said(method, value, said):
    workflow, lost = sparse_graph(method, value).convert()
    assert [widgets(node)["frames"] for node in nodes_of(workflow, "ADN_KeyframeImages")] == [""]
    lines = [line for line in lost if "Keyframe Images" in line]
    assert len(lines) == (said is not None) and all(line.endswith(said or "") for line in lines)


def with_picture(
    apply: str, values: list[Any], loader: str = "ADE_LoadAnimateDiffModel"
) -> tuple[Drawing, dict[str, Any]]:
    """A graph with Use Evolved Sampling whose motion module gets a picture from a loader of images."""
    drawing = Drawing("long_clip_free_noise")
    node = drawing.node("ADE_ApplyAnimateDiffModelSimple")
    node |= {"type": apply, "widgets_values": values}
    drawing.node("ADE_LoadAnimateDiffModel")["type"] = loader
    return drawing, node


@pytest.mark.parametrize(
    ("preset", "motion"),
    [
        ("Animation (Small Motion)", "small"),
        ("Loop (Medium Motion)", "moderate loop"),
        ("Style Transfer (Large Motion)", "large style transfer"),
        (None, "none"),
    ],
)
def test_pia_follows_its_picture(preset, motion):
    drawing, apply = with_picture("ADE_ApplyAnimateDiffModelWithPIA", [0.0, 0.9])
    picture = drawing.add("LoadImage", ["a.png", "image"], "", "IMAGE MASK")
    drawing.wire(picture, 0, apply, "image")
    drawing.wire(drawing.node("CheckpointLoaderSimple"), 2, apply, "vae")
    if preset:
        values = drawing.add("ADE_InputPIA_PaperPresets", [preset, 3, False], "", "PIA_INPUT")
        drawing.wire(values, 0, apply, "pia_input")
    workflow, lost = drawing.convert()
    (ours,) = nodes_of(workflow, "ADN_ApplyAnimateDiff")
    assert (widgets(ours)["keyframe_motion"], widgets(ours)["end_percent"]) == (motion, 0.9)
    keyframes = sources(workflow, ours)["keyframes"]
    assert widgets(keyframes)["frames"] == ("3" if preset else "0")
    assert {name: node["type"] for name, node in sources(workflow, keyframes).items()} == {
        "images": "LoadImage",
        "vae": "CheckpointLoaderSimple",
    }
    assert not any("PIA" in line for line in lost)


@pytest.mark.parametrize("masked", [False, True])
def test_a_multival_sets_how_closely_frames_follow_the_picture_of_pia(masked):
    drawing, apply = with_picture("ADE_ApplyAnimateDiffModelWithPIA", [0.0, 1.0])
    multival = drawing.add("ADE_MultivalDynamic", [0.6], "", "MULTIVAL")
    if masked:
        drawing.wire(drawing.add("LoadImageMask", ["a.png", "red", "image"], "", "MASK"), 0, multival, "mask_optional")
    values = drawing.add("ADE_InputPIA_Multival", [], "", "PIA_INPUT")
    drawing.wire(multival, 0, values, "multival")
    drawing.wire(values, 0, apply, "pia_input")
    workflow, lost = drawing.convert()
    (ours,) = nodes_of(workflow, "ADN_ApplyAnimateDiff")
    assert widgets(ours)["keyframe_motion"] == "none"
    if masked:
        curve = sources(workflow, ours)["keyframe_strength"]
        assert (curve["type"], widgets(curve)["high"]) == ("ADN_MotionCurve", 0.6)
        types = {entry["name"]: entry["type"] for entry in ours["inputs"]}
        assert types["keyframe_strength"] == "FLOAT,MOTION_CURVE_ADN"
    else:
        assert widgets(ours)["keyframe_strength"] == 0.6
    assert not any("PIA" in line for line in lost)


@pytest.mark.parametrize(
    ("apply", "loader", "values"),
    [
        ("ADE_ApplyAnimateDiffModelWithPIA", "ADE_InjectPIAIntoAnimateDiffModel", [0.0, 1.0]),
        ("ADE_ApplyAnimateLCMI2VModel", "ADE_InjectI2VIntoAnimateDiffModel", [0.3, False, 0.0, 1.0]),
    ],
)
def test_a_module_with_the_picture_input_of_another_one_gets_no_pictures(apply, loader, values):
    workflow, lost = with_picture(apply, values, loader)[0].convert()
    (ours,) = nodes_of(workflow, "ADN_ApplyAnimateDiff")
    assert "keyframes" not in sources(workflow, ours)
    assert [line for line in lost if line.startswith(loader) and "is left out: choose its own motion module" in line]


def test_animate_lcm_i2v_follows_the_images_of_its_latents():
    drawing, apply = with_picture("ADE_ApplyAnimateLCMI2VModel", [0.3, False, 0.0, 1.0], "ADE_LoadAnimateLCMI2VModel")
    picture = drawing.add("LoadImage", ["a.png", "image"], "", "IMAGE MASK")
    encode = drawing.add("ADE_UpscaleAndVAEEncode", ["lanczos", "center"], "", "LATENT")
    drawing.wire(picture, 0, encode, "image")
    drawing.wire(drawing.node("CheckpointLoaderSimple"), 2, encode, "vae")
    drawing.wire(encode, 0, apply, "ref_latent")
    workflow, lost = drawing.convert()
    (ours,) = nodes_of(workflow, "ADN_ApplyAnimateDiff")
    assert widgets(ours)["keyframe_drift"] == 0.3
    assert {"images", "vae"} == set(sources(workflow, sources(workflow, ours)["keyframes"]))
    assert nodes_of(workflow, "ADN_LoadMotionModule") and not any("I2V" in line for line in lost)
