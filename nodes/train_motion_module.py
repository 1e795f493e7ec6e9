"""Train Motion Module: from clips, from nothing or on from another one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import training_inputs
from .sockets import MotionModel


class TrainMotionModule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_TrainMotionModule",
            display_name="Train Motion Module",
            category=training_inputs.CATEGORY,
            description="Trains all of a motion module: goes on with one for a domain that is far from what it knows, "
            "or starts from nothing, which needs thousands of clips. Interrupted, it goes on where it was when queued "
            "again.",
            search_aliases=["fine-tune motion", "animatediff training", "motion model training"],
            is_input_list=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The checkpoint to learn on, as its loader gives it. It is not changed."
                ),
                *training_inputs.inputs(steps=1000, learning_rate=1e-5),
                MotionModel.Input(
                    "motion_module",
                    optional=True,
                    tooltip="What the training goes on from. Without one it starts from nothing.",
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
        from ..training.in_graph import train_motion_module  # here, since reading it would lengthen ComfyUI's start

        motion, trained = train_motion_module(latents, conditioning, **training_inputs.single(lists))
        return io.NodeOutput(motion, {"loss": trained.losses})
