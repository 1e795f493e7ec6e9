"""Camera Path and Load CameraCtrl as nodes."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from camera_support import camera_weights
from node_support import CHANNELS, error, ksampler, run

FILE = "CameraCtrl.safetensors"


def test_a_clip_follows_the_camera_as_strongly_as_the_node_says(adn, apply, model, motion, motion_folder):
    safetensors.torch.save_file(camera_weights(CHANNELS), motion_folder / FILE)
    load = {"motion_module": motion, "camera_ctrl": FILE}
    path = run(adn["ADN_CameraPath"], path="0: still\n-1: pan 50 up 1")
    still, moving = (
        run(adn["ADN_LoadCameraCtrl"], **load, camera_path=way)
        for way in (run(adn["ADN_CameraPath"], path="0: still"), path)
    )
    assert motion.camera is None, "the module that comes in is not changed"
    without, found = (ksampler(apply(model, module)) for module in (motion, moving))
    assert error(found, without) > 0.01 and error(found, ksampler(apply(model, still))) > 0.001
    curve = run(adn["ADN_MotionCurve"], keyframes="0: 0.5")
    halves = [run(adn["ADN_LoadCameraCtrl"], **load, camera_path=path, strength=s) for s in (0.5, curve)]
    half, curved = (ksampler(apply(model, module)) for module in halves)
    assert error(half, curved) < 1e-5 < error(half, found)
    none = run(adn["ADN_LoadCameraCtrl"], **load, camera_path=path, strength=0.0)
    assert torch.equal(ksampler(apply(model, none)), without)


def test_orbit_and_zoom_go_by_the_distance(adn):
    near, far = (run(adn["ADN_CameraPath"], path="0: zoom 2", distance=d).cameras(1) for d in (2.0, 4.0))
    assert [camera.to_world[0, 2, 3].item() for camera in (near, far)] == [1.0, 2.0]


def test_mistakes_are_said_by_the_node_that_they_are_in(adn, motion, motion_folder):
    with pytest.raises(ValueError, match='Line 2, column 5: "left" is not a camera movement'):
        run(adn["ADN_CameraPath"], path="0: still\n-1: left")
    path = run(adn["ADN_CameraPath"])
    with pytest.raises(
        ValueError, match=r"v2_1.safetensors is a motion module, not a CameraCtrl file: choose a CameraC"
    ):
        run(adn["ADN_LoadCameraCtrl"], motion_module=motion, camera_ctrl=motion.name, camera_path=path)
