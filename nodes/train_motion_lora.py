"""Train Motion LoRA: teach a motion module a movement from a few clips."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..motion_models.key_layouts import PROJECTIONS
from . import training_inputs
from .sockets import MotionLora, MotionModel


class TrainMotionLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_TrainMotionLora",
            display_name="Train Motion LoRA",
            category=training_inputs.CATEGORY,
            description="Teaches a motion module a movement, such as a camera's, from 20 to 50 clips of it. "
            "Interrupted, it goes on where it was when queued again.",
            search_aliases=["motiondirector", "motion director", "fine-tune motion", "camera motion training"],
            is_input_list=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The checkpoint to learn on, as its loader gives it. It is not changed."
                ),
                MotionModel.Input("motion_module", tooltip="What the LoRA alters; the input stays as it was."),
                *training_inputs.inputs(steps=1000, learning_rate=5e-4),
                io.Int.Input("rank", default=32, min=1, max=256, tooltip="Size of the LoRA; 2 is enough for a camera."),
                io.Float.Input(
                    "alpha",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    advanced=True,
                    tooltip="The change is alpha / rank times what is learned. 0 is the rank.",
                ),
                io.Combo.Input(
                    "projections",
                    options=list(PROJECTIONS),
                    default="attention",
                    advanced=True,
                    tooltip="Layers that are altered: as in AnimateDiff's LoRAs, or as in MotionDirector's.",
                ),
                io.Boolean.Input(
                    "appearance_debiased",
                    default=False,
                    advanced=True,
                    tooltip="MotionDirector's loss: minds what differs between frames, less what they look like.",
                ),
                *training_inputs.advanced(),
            ],
            outputs=[
                MotionModel.Output(display_name="motion_module", tooltip="The motion module with the LoRA on it."),
                MotionLora.Output(display_name="motion_lora", tooltip="For Save Motion LoRA."),
                training_inputs.loss_output(),
            ],
        )

    @classmethod
    def execute(cls, latents: list[Any], conditioning: list[Any], **lists: Any) -> io.NodeOutput:
        from ..training.in_graph import train_motion_lora  # here, since reading it would lengthen ComfyUI's start

        altered, trained = train_motion_lora(latents, conditioning, **training_inputs.single(lists))
        return io.NodeOutput(altered, trained, {"loss": trained.losses})
