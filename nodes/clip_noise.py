"""Clip Noise: share noise between the frames of a clip, or seed each frame separately."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

from ..sampling.clips import prepare_clips
from ..sampling.noise import KEY, KINDS, ClipNoise
from .schema import Schema


class ClipNoiseNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="ADN_ClipNoise",
            display_name="Clip Noise",
            category="AnimateDiff",
            description="Starts the frames of a clip from shared noise, which pulls them towards each other, or gives "
            "each frame its own seed.",
            search_aliases=["noise type", "sample settings", "constant noise", "repeated context", "seed per frame"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. Works before or after Apply AnimateDiff."),
                io.Combo.Input(
                    "noise",
                    options=list(KINDS),
                    default="constant",
                    tooltip="Constant: every frame gets the first frame's noise. Repeated: the noise of the first "
                    "frames repeats over the clip. Per-frame seeds: each frame gets its own seed, the sampler's seed "
                    "plus the frame number.",
                ),
                io.Float.Input(
                    "share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of this noise is blended into each frame's own noise. 0 changes nothing, 1 uses "
                    "this noise only.",
                ),
                io.Int.Input(
                    "period",
                    default=16,
                    min=1,
                    max=4096,
                    advanced=True,
                    tooltip="Number of frames after which repeated noise starts over.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model. Any sampler starts its clips from this noise.")],
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, noise: str = "constant", share: float = 0.5, period: int = 16
    ) -> io.NodeOutput:
        if noise != "repeated" and period != 16:
            logging.info(f"Clip Noise: period {period} does nothing with {noise} noise.")
        model = prepare_clips(model.clone())
        options: dict[str, Any] = model.model_options
        options[KEY] = (*options.get(KEY, ()), ClipNoise(noise, share, period))
        return io.NodeOutput(model)
