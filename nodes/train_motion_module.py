"""Train Motion Module: train a motion module on clips, fine-tuned or from scratch."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import training_inputs
from .schema import Schema
from .sockets import MotionModel


class TrainMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_TrainMotionModule",
            display_name="Train Motion Module",
            category=training_inputs.CATEGORY,
            description="Trains a whole motion module on clips: fine-tunes an existing one for a new domain, or starts "
            "from scratch, which needs thousands of clips. If it is interrupted, queue it again to resume.",
            search_aliases=["fine-tune motion", "animatediff training", "motion model training"],
            is_input_list=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The checkpoint to train with, straight from its loader. It is not changed."
                ),
                *training_inputs.inputs(steps=1000, learning_rate=1e-5),
                MotionModel.Input(
                    "motion_module",
                    optional=True,
                    tooltip="The motion module to fine-tune. Leave unconnected to train from scratch.",
                ),
                *training_inputs.advanced(),
            ],
            outputs=[
                MotionModel.Output(
                    display_name="motion_module", tooltip="For Apply AnimateDiff or Save Motion Module."
                ),
                training_inputs.loss_output(),
            ],
        )

    @classmethod
    def execute(cls, latents: list[Any], conditioning: list[Any], **lists: Any) -> io.NodeOutput:
        from ..training.in_graph import train_motion_module  # imported late, to keep ComfyUI's start fast

        motion, trained = train_motion_module(
            latents, conditioning, **training_inputs.first_values(cls.define_schema(), lists)
        )
        return io.NodeOutput(motion, {"loss": trained.losses})
