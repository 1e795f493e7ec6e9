"""Apply AnimateDiff: add a motion module to a MODEL."""

from __future__ import annotations

from comfy_api.latest import io

from ..motion_models.schedules import AUTOMATIC, BETA_SCHEDULES, KEEP
from ..sampling.animate import MotionSettings, animate
from ..sampling.pictures import AFFINITIES, NO_PICTURES, PictureSettings
from ..sampling.progress import FRAME_RATE
from .levels import report_missing_levels
from .schema import Schema
from .sockets import Keyframes, MotionCurve, MotionModel, MotionStrength

MOTION_SCALE = (
    "Multiplies the keys of temporal attention. Above 1, each frame attends mostly to a few frames; below 1, more "
    "evenly to all of them."
)


class ApplyAnimateDiff(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_ApplyAnimateDiff",
            display_name="Apply AnimateDiff",
            category="AnimateDiff",
            description="Adds a motion module to a model, so that a batch of latents is sampled as the frames of one "
            "clip. Chain several to combine motion modules.",
            search_aliases=["animatediff", "text to video", "animation", "motion module", "evolved sampling"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The checkpoint, with any LoRAs applied. Its base must be the one that the motion module "
                    "was made for.",
                ),
                MotionModel.Input("motion_module", tooltip="From Load Motion Module."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How strongly the motion module acts. 0 leaves the model unchanged.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Point in the sampling, from 0 to 1, at which the motion module starts to act.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Point in the sampling, from 0 to 1, at which the motion module stops acting.",
                ),
                io.Combo.Input(
                    "beta_schedule",
                    options=[AUTOMATIC, *BETA_SCHEDULES, KEEP],
                    default=AUTOMATIC,
                    advanced=True,
                    tooltip="Noise schedule of the model. Automatic uses the one that the motion module was trained "
                    "with; a different one gives washed-out or flickering clips.",
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
                io.Float.Input(
                    "frame_rate",
                    default=FRAME_RATE,
                    min=1.0,
                    max=60.0,
                    step=0.5,
                    advanced=True,
                    tooltip="Frames per second of the live preview. The result does not depend on it. AnimateDiff's "
                    "motion modules were trained at 8.",
                ),
                MotionStrength.Input(
                    "motion_strength",
                    optional=True,
                    tooltip="From Motion Strength: strength and motion scale that vary over frames, regions, UNet "
                    "levels or the sampling. They multiply the values of this node.",
                ),
                Keyframes.Input(
                    "keyframes",
                    optional=True,
                    tooltip="From Keyframe Images: pictures that the clip starts from or passes through. For PIA and "
                    "AnimateLCM-I2V.",
                ),
                io.Combo.Input(
                    "keyframe_motion",
                    options=list(AFFINITIES),
                    default=NO_PICTURES.motion,
                    advanced=True,
                    tooltip="For PIA: how far frames move away from their picture. A loop comes back to it, and style "
                    "transfer follows the checkpoint's look and the prompt more than the picture. none keeps every "
                    "frame at its picture, unless a Motion Curve at keyframe_strength says otherwise.",
                ),
                io.MultiType.Input(
                    io.Float.Input(
                        "keyframe_strength",
                        default=1.0,
                        min=0.0,
                        max=10.0,
                        step=0.01,
                        advanced=True,
                        tooltip="How closely frames follow their picture: multiplies PIA's keyframe_motion and the "
                        "features that AnimateLCM-I2V takes from the picture. Takes a number or a Motion Curve.",
                    ),
                    [MotionCurve],
                ),
                io.Float.Input(
                    "keyframe_drift",
                    default=NO_PICTURES.drift,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    advanced=True,
                    tooltip="For AnimateLCM-I2V: how much frames differ from each other. 0 makes a still clip.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The animated model, for any sampler. A batch of 16 latents suits most modules."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        motion_module,
        strength: float = 1.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        beta_schedule: str = AUTOMATIC,
        motion_scale: float = 1.0,
        frame_rate: float = FRAME_RATE,
        motion_strength: tuple = (),
        keyframes=None,
        keyframe_motion: str = NO_PICTURES.motion,
        keyframe_strength=1.0,
        keyframe_drift: float = NO_PICTURES.drift,
    ) -> io.NodeOutput:
        for values in motion_strength:
            report_missing_levels(values.strength_of_level, motion_module)
            report_missing_levels(values.motion_scale_of_level, motion_module)
        pictures = PictureSettings(
            keyframes=None if keyframes is None else keyframes.keyframes,
            motion=keyframe_motion,
            strength=keyframe_strength,
            drift=keyframe_drift,
        )
        settings = MotionSettings(
            strength=strength,
            motion_scale=motion_scale,
            start_percent=start_percent,
            end_percent=end_percent,
            beta_schedule=beta_schedule,
            motion_strength=motion_strength,
            frame_rate=frame_rate,
            pictures=pictures,
        )
        return io.NodeOutput(animate(model, motion_module, settings))
