"""Clip Noise: what the noise of a clip's frames has in common."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..sampling.clips import prepare_clips
from ..sampling.noise import KEY, KINDS, ClipNoise


class ClipNoiseNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ADN_ClipNoise",
            display_name="Clip Noise",
            category="AnimateDiff",
            description="Lets the frames of a clip begin with noise that they have in common, which pulls them towards "
            "each other, or with seeds of their own.",
            search_aliases=["noise type", "sample settings", "constant noise", "repeated context", "seed per frame"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with, before or after Apply AnimateDiff."),
                io.Combo.Input(
                    "noise",
                    options=list(KINDS),
                    default="constant",
                    tooltip="Constant: every frame has the first frame's noise. Repeated: the noise of the first "
                    "frames, over and over. Per-frame seeds: each frame has its own seed, that of the sampler plus its "
                    "number.",
                ),
                io.Float.Input(
                    "share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of this noise is blended into each frame's own. 1 leaves this noise alone, 0 "
                    "changes nothing.",
                ),
                io.Int.Input(
                    "period",
                    default=16,
                    min=1,
                    max=4096,
                    advanced=True,
                    tooltip="Frames after which repeated noise starts over.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, whose clips begin with this noise in any sampler.")],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, noise: str, share: float, period: int = 16) -> io.NodeOutput:
        model = prepare_clips(model.clone())
        options: dict[str, Any] = model.model_options
        options[KEY] = (*options.get(KEY, ()), ClipNoise(noise, share, period))
        return io.NodeOutput(model)
