"""Load SparseCtrl: load a file from models/controlnet."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.keyframes_in_windows import FAR_KEYFRAMES, NEAREST
from ..sampling.sparse_control import SparseCtrlSettings, load_sparse_control
from .apply_animatediff import MOTION_SCALE
from .model_files import SPARSE_CTRL_MODELS
from .schema import Schema


class LoadSparseCtrl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_LoadSparseCtrl",
            display_name="Load SparseCtrl",
            category="AnimateDiff",
            description="Loads a SparseCtrl model, with which a clip follows pictures (rgb) or sketches (scribble) at "
            "a few of its frames. Use it with Keyframe Images and ComfyUI's Apply ControlNet.",
            search_aliases=[
                "sparse control",
                "animatediff controlnet",
                "image to video",
                "v3_sd15_sparsectrl_rgb",
                "v3_sd15_sparsectrl_scribble",
            ],
            inputs=[
                io.Combo.Input(
                    "sparse_ctrl",
                    options=SPARSE_CTRL_MODELS.choices(),
                    tooltip=f"A .safetensors or .ckpt file from models/{SPARSE_CTRL_MODELS.name}.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    advanced=True,
                    tooltip="How strongly SparseCtrl's own motion modules act, which carry the pictures to the other "
                    "frames. Apply ControlNet sets the strength of the whole.",
                ),
                io.Float.Input(
                    "motion_scale",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    advanced=True,
                    tooltip=MOTION_SCALE,
                ),
                io.Combo.Input(
                    "far_keyframes",
                    options=list(FAR_KEYFRAMES),
                    default=NEAREST,
                    advanced=True,
                    tooltip="What a context window of a long clip sees if none of its frames has a picture: the "
                    "nearest one, or none.",
                ),
            ],
            outputs=[io.ControlNet.Output(tooltip="For Apply ControlNet, whose image is from Keyframe Images.")],
        )

    @classmethod
    def execute(
        cls, sparse_ctrl: str, strength: float = 1.0, motion_scale: float = 1.0, far_keyframes: str = NEAREST
    ) -> io.NodeOutput:
        settings = SparseCtrlSettings(strength=strength, motion_scale=motion_scale, far_keyframes=far_keyframes)
        return io.NodeOutput(load_sparse_control(SPARSE_CTRL_MODELS.path(sparse_ctrl), settings))

    @classmethod
    def fingerprint_inputs(cls, sparse_ctrl: str, **_):
        return SPARSE_CTRL_MODELS.fingerprint(sparse_ctrl)
