"""Camera Path: where the camera is in each frame of a clip."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.camera_path import CameraPath, Movement
from ..sampling.timeline import EASINGS
from .schema import Schema
from .sockets import CameraPath as CameraPathSocket

PATH = "0: still\n-1: orbit 30 zoom 120%"


class CameraPathNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_CameraPath",
            display_name="Camera Path",
            category="AnimateDiff",
            description="Says where the camera is in each frame, for Load CameraCtrl: by movements, or as a pose file "
            "of RealEstate10K does.",
            search_aliases=["cameractrl poses", "camera motion", "trajectory", *Movement._fields[:5], "dolly"],
            inputs=[
                io.String.Input(
                    "path",
                    default=PATH,
                    multiline=True,
                    tooltip="One 'frame: movements' per line, against the first frame: pan, tilt, roll and orbit in "
                    "degrees (to the right, up, clockwise), zoom as in 'zoom 150%', and right, up and forward for "
                    "how far the camera moves. 'still' is where it began. Frames and easings "
                    f"({', '.join(EASINGS)}) are written as in Motion Curve. Or paste a pose file, which is spread "
                    "over the clip.",
                ),
                io.Float.Input(
                    "distance",
                    default=CameraPath.distance,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="How far the camera is from the subject at first, for orbit and zoom, in the unit of "
                    "right, up and forward.",
                ),
            ],
            outputs=[CameraPathSocket.Output(display_name="camera_path", tooltip="For Load CameraCtrl.")],
        )

    @classmethod
    def execute(cls, path: str = PATH, distance: float = CameraPath.distance) -> io.NodeOutput:
        return io.NodeOutput(CameraPath.parse(path, distance))
