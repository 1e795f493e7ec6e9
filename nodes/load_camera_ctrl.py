"""Load CameraCtrl: let a motion module follow a camera."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sampling.camera import follow_camera
from .model_files import CAMERA_CTRLS
from .schema import Schema
from .sockets import CameraPath, MotionCurve, MotionModel


class LoadCameraCtrl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_LoadCameraCtrl",
            display_name="Load CameraCtrl",
            category="AnimateDiff",
            description="Lets a motion module follow a camera path, with the CameraCtrl file that its authors "
            "published. It was made for AnimateDiff v3.",
            search_aliases=["camera control", "cameractrl", "CameraCtrl_pruned", "camera motion"],
            inputs=[
                MotionModel.Input("motion_module", tooltip="From Load Motion Module or Load Motion LoRA."),
                io.Combo.Input(
                    "camera_ctrl",
                    options=CAMERA_CTRLS.choices(),
                    tooltip=f"A .safetensors or .ckpt file from models/{CAMERA_CTRLS.name}.",
                ),
                CameraPath.Input("camera_path", tooltip="From Camera Path."),
                io.MultiType.Input(
                    io.Float.Input(
                        "strength",
                        default=1.0,
                        min=0.0,
                        max=10.0,
                        step=0.01,
                        tooltip="How closely the clip follows the camera. 0 leaves the motion module unchanged. Takes "
                        "a number or a Motion Curve.",
                    ),
                    [MotionCurve],
                ),
            ],
            outputs=[MotionModel.Output(display_name="motion_module", tooltip="For Apply AnimateDiff.")],
        )

    @classmethod
    def execute(cls, motion_module, camera_ctrl: str, camera_path, strength: Any = 1.0) -> io.NodeOutput:
        file = CAMERA_CTRLS.path(camera_ctrl)
        return io.NodeOutput(follow_camera(motion_module, file, path=camera_path, strength=strength))

    @classmethod
    def fingerprint_inputs(cls, camera_ctrl: str, **_):
        return CAMERA_CTRLS.fingerprint(camera_ctrl)
