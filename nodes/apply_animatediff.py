"""Apply AnimateDiff: put a motion module into a MODEL."""

from __future__ import annotations

from comfy_api.latest import io

from ..motion_models.schedules import AUTOMATIC, BETA_SCHEDULES, KEEP
from ..sampling.animate import MotionSettings, animate
from ..sampling.progress import FRAME_RATE
from .sockets import MotionModel, MotionStrength


class ApplyAnimateDiff(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_ApplyAnimateDiff",
            display_name="Apply AnimateDiff",
            category="AnimateDiff",
            description="Lets a model sample the images of a batch as the frames of one clip. Chain several to combine "
            "motion modules.",
            search_aliases=["animatediff", "text to video", "animation", "motion module", "evolved sampling"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A checkpoint of the base that the motion module was made for, with any LoRA on it.",
                ),
                MotionModel.Input("motion_module", tooltip="From Load Motion Module."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much of the motion module's effect is added. 0 leaves the model as it is.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Part of the sampling after which the motion module begins to work.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="Part of the sampling after which the motion module rests.",
                ),
                io.Combo.Input(
                    "beta_schedule",
                    options=[AUTOMATIC, *BETA_SCHEDULES, KEEP],
                    default=AUTOMATIC,
                    advanced=True,
                    tooltip="Noise schedule of the model. Automatic takes the one that the motion module was trained "
                    "with; another gives washed-out or flickering clips.",
                ),
                io.Float.Input(
                    "motion_scale",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Multiplies the attention between frames: above 1 frames follow each other more sharply, "
                    "below 1 more loosely.",
                ),
                io.Float.Input(
                    "frame_rate",
                    default=FRAME_RATE,
                    min=1.0,
                    max=60.0,
                    step=0.5,
                    advanced=True,
                    tooltip="Frames per second of the live preview; motion modules were trained on clips of 8.",
                ),
                MotionStrength.Input(
                    "motion_strength",
                    optional=True,
                    tooltip="From Motion Strength: strength and motion scale per frame, region, level, or over the "
                    "sampling.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model, ready for any sampler with a batch of 16 latents."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        motion_module,
        strength: float,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        beta_schedule: str = AUTOMATIC,
        motion_scale: float = 1.0,
        frame_rate: float = FRAME_RATE,
        motion_strength: tuple = (),
    ) -> io.NodeOutput:
        settings = MotionSettings(
            strength=strength,
            motion_scale=motion_scale,
            start_percent=start_percent,
            end_percent=end_percent,
            beta_schedule=beta_schedule,
            motion_strength=motion_strength,
            frame_rate=frame_rate,
        )
        return io.NodeOutput(animate(model, motion_module, settings))
