"""Train Motion LoRA: train a motion LoRA on a few clips."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..motion_models.key_layouts import PROJECTIONS
from . import training_inputs
from .schema import Schema
from .sockets import MotionLora, MotionModel


class TrainMotionLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_TrainMotionLora",
            display_name="Train Motion LoRA",
            category=training_inputs.CATEGORY,
            description="Trains a motion LoRA on 20 to 50 clips of one movement, such as a camera movement. If it is "
            "interrupted, queue it again to resume.",
            search_aliases=["motiondirector", "motion director", "fine-tune motion", "camera motion training"],
            is_input_list=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The checkpoint to train with, straight from its loader. It is not changed."
                ),
                MotionModel.Input(
                    "motion_module", tooltip="The motion module that the LoRA is trained for. It is not changed."
                ),
                *training_inputs.inputs(steps=1000, learning_rate=5e-4),
                io.Int.Input(
                    "rank", default=32, min=1, max=256, tooltip="Size of the LoRA. 2 is enough for a camera movement."
                ),
                io.Float.Input(
                    "alpha",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    advanced=True,
                    tooltip="Scales the learned change by alpha / rank. 0 sets alpha to the rank.",
                ),
                io.Combo.Input(
                    "projections",
                    options=list(PROJECTIONS),
                    default="attention",
                    advanced=True,
                    tooltip="Layers to train: attention only, as in AnimateDiff's LoRAs, or feed-forward as well, as "
                    "in MotionDirector's.",
                ),
                io.Boolean.Input(
                    "appearance_debiased",
                    default=False,
                    advanced=True,
                    tooltip="Adds MotionDirector's loss, which favours the differences between frames over their "
                    "appearance.",
                ),
                *training_inputs.advanced(),
            ],
            outputs=[
                MotionModel.Output(display_name="motion_module", tooltip="The motion module with the LoRA applied."),
                MotionLora.Output(display_name="motion_lora", tooltip="For Save Motion LoRA."),
                training_inputs.loss_output(),
            ],
        )

    @classmethod
    def execute(cls, latents: list[Any], conditioning: list[Any], **lists: Any) -> io.NodeOutput:
        from ..training.in_graph import train_motion_lora  # imported late, to keep ComfyUI's start fast

        motion, trained = train_motion_lora(
            latents, conditioning, **training_inputs.first_values(cls.define_schema(), lists)
        )
        return io.NodeOutput(motion, trained, {"loss": trained.losses})
