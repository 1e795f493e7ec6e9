"""FreeInit: samples a clip several times, for steadier frames."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.free_init import FILTERS, FreeInit, apply_free_init


class FreeInitNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_FreeInit",
            display_name="FreeInit",
            category="AnimateDiff",
            description="Samples a clip several times, each time from noise whose coarse part is the last result's, so "
            "that frames agree better. Takes that many times as long.",
            search_aliases=["free init", "iteration options", "noise reinitialization", "steady", "consistency"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with, before or after Apply AnimateDiff."),
                io.Int.Input(
                    "iterations",
                    default=FreeInit.iterations,
                    min=1,
                    max=10,
                    tooltip="How many times the clip is sampled. 1 changes nothing, 3 to 5 are usual.",
                ),
                io.Combo.Input(
                    "filter",
                    options=list(FILTERS),
                    default=FreeInit.filter,
                    tooltip="How sharply what is kept of the last result ends. Butterworth is the usual one, gaussian "
                    "ends more gently and keeps more, ideal keeps most, box cuts frames and pictures separately.",
                ),
                stop_frequency(
                    "spatial_frequency",
                    "How fine the details are that are kept. 1 is the finest.",
                ),
                stop_frequency(
                    "temporal_frequency",
                    "How fast the changes are that are kept. 1 is from frame to frame.",
                ),
                io.Int.Input(
                    "order",
                    default=FreeInit.order,
                    min=1,
                    max=16,
                    advanced=True,
                    tooltip="Of the Butterworth filter: higher is a sharper cut between what is kept and what is not.",
                ),
                io.Boolean.Input(
                    "coarse_to_fine",
                    default=FreeInit.coarse_to_fine,
                    advanced=True,
                    tooltip="Saves time: of 3 iterations the first makes a third of the steps, the second two thirds.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, sampling every clip that many times in any sampler.")],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        iterations: int,
        filter: str,
        spatial_frequency: float = FreeInit.spatial_frequency,
        temporal_frequency: float = FreeInit.temporal_frequency,
        order: int = FreeInit.order,
        coarse_to_fine: bool = FreeInit.coarse_to_fine,
    ) -> io.NodeOutput:
        settings = FreeInit(iterations, filter, spatial_frequency, temporal_frequency, order, coarse_to_fine)
        return io.NodeOutput(apply_free_init(model, settings))


def stop_frequency(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=0.25, min=0.0, max=1.0, step=0.01, advanced=True, tooltip=tooltip)
