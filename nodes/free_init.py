"""FreeInit: sample a clip several times, for steadier frames."""

from __future__ import annotations

from comfy_api.latest import io

from ..sampling.free_init import FILTERS, FreeInit, apply_free_init
from .schema import Schema


class FreeInitNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_FreeInit",
            display_name="FreeInit",
            category="AnimateDiff",
            description="Samples a clip several times for steadier frames. Each iteration starts from noise that keeps "
            "the coarse structure of the previous result. Sampling time grows with the number of iterations.",
            search_aliases=["free init", "iteration options", "noise reinitialization", "steady", "consistency"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. Works before or after Apply AnimateDiff."),
                io.Int.Input(
                    "iterations",
                    default=FreeInit.iterations,
                    min=1,
                    max=10,
                    tooltip="How many times the clip is sampled. 1 changes nothing; 3 to 5 are usual.",
                ),
                io.Combo.Input(
                    "filter",
                    options=list(FILTERS),
                    default=FreeInit.filter,
                    tooltip="Low-pass filter that selects what is kept of the previous result. Butterworth is the "
                    "usual choice. Gaussian cuts off more softly and keeps more, ideal keeps the most, and box filters "
                    "time and space separately.",
                ),
                stop_frequency(
                    "spatial_frequency",
                    "Spatial cut-off: detail up to this frequency is kept. 1 is the finest detail, 0 keeps nothing.",
                ),
                stop_frequency(
                    "temporal_frequency",
                    "Temporal cut-off: change up to this frequency is kept. 1 is change in every frame, 0 keeps "
                    "nothing.",
                ),
                io.Int.Input(
                    "order",
                    default=FreeInit.order,
                    min=1,
                    max=16,
                    advanced=True,
                    tooltip="Order of the Butterworth filter. A higher order cuts off more sharply.",
                ),
                io.Boolean.Input(
                    "coarse_to_fine",
                    default=FreeInit.coarse_to_fine,
                    advanced=True,
                    tooltip="Saves time by giving early iterations fewer steps. Of 3 iterations, the first takes a "
                    "third of the steps and the second two thirds.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model. Any sampler samples its clips this many times.")],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        iterations: int = FreeInit.iterations,
        filter: str = FreeInit.filter,
        spatial_frequency: float = FreeInit.spatial_frequency,
        temporal_frequency: float = FreeInit.temporal_frequency,
        order: int = FreeInit.order,
        coarse_to_fine: bool = FreeInit.coarse_to_fine,
    ) -> io.NodeOutput:
        settings = FreeInit(
            iterations=iterations,
            filter=filter,
            spatial_frequency=spatial_frequency,
            temporal_frequency=temporal_frequency,
            order=order,
            coarse_to_fine=coarse_to_fine,
        )
        return io.NodeOutput(apply_free_init(model, settings))


def stop_frequency(name: str, tooltip: str) -> io.Float.Input:
    """Return an input for a frequency, from 0 to the highest at 1, where the filter stops what lies above."""
    return io.Float.Input(name, default=0.25, min=0.0, max=1.0, step=0.01, advanced=True, tooltip=tooltip)
