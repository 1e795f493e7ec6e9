"""What the nodes for old workflows have in common: socket types, and inputs that are not carried over.

The types are spelled as in ComfyUI-AnimateDiff-Evolved, so that a link to one of its nodes that has no replacement
stays visible, and fits again once that pack is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from comfy_api.latest import io

from ...motion_models.loader import LoadedMotionModel
from ...sampling.animate import MotionSettings

MotionModel = io.Custom("MOTION_MODEL_ADE")
"""A `LoadedMotionModel`."""
MotionModels = io.Custom("M_MODELS")
"""A tuple of `AppliedMotionModel`, the last one that was added first."""
MotionLoras = io.Custom("MOTION_LORA")
"""A tuple of `MotionLoraFile`."""
Multival = io.Custom("MULTIVAL")
"""A number, or a `Curve` over the frames."""
ContextOptions = io.Custom("CONTEXT_OPTIONS")
"""A tuple of `ContextOptions`."""
SampleSettings = io.Custom("SAMPLE_SETTINGS")
"""A `NoiseSettings`."""


class AppliedMotionModel(NamedTuple):
    motion: LoadedMotionModel
    settings: MotionSettings


class MotionLoraFile(NamedTuple):
    path: str
    strength: float


# Input: its type, and what to do instead.
NOT_CARRIED_OVER = {
    "ad_settings": ("AD_SETTINGS", "set stretch_to of Load Motion Module to get longer movements"),
    "ad_keyframes": ("AD_KEYFRAMES", "use Motion Strength with a Motion Curve over the sampling"),
    "per_block": ("PER_BLOCK", "use Motion Strength per Level"),
    "view_opts": ("VIEW_OPTS", "set 'within' of Sliding Context to the motion module"),
    "noise_layers": ("NOISE_LAYERS", "use Clip Noise"),
    "iteration_opts": ("ITERATION_OPTS", "use FreeInit in front of the sampler"),
    "custom_cfg": ("CUSTOM_CFG", "set the cfg of the sampler"),
    "sigma_schedule": ("SIGMA_SCHEDULE", "choose a beta_schedule"),
    "image_inject": ("IMAGE_INJECT", "sample in two passes with KSampler (Advanced)"),
    "ancestral_opts": ("ANCESTRAL_OPTS", "use a sampler that adds no noise of its own"),
    "values_replace": ("VALUES_REPLACE", "write the values into the prompts"),
}


def not_carried_over(*names: str) -> list[io.Input]:
    """Inputs that show where something was linked. Without them the link would be gone, and nothing would say so."""
    return [
        io.Custom(kind).Input(name, optional=True, tooltip=f"Not carried over: {instead}.")
        for name, (kind, instead) in ((name, NOT_CARRIED_OVER[name]) for name in names)
    ]


def refuse(inputs: Mapping[str, Any]) -> None:
    """ValueError if one of those inputs is linked."""
    for name in inputs:
        instead = NOT_CARRIED_OVER[name][1]
        raise ValueError(f"{name} is not carried over from old workflows: disconnect it, and {instead}.")


def old_node(old_id: str, name: str, description: str, inputs: list[io.Input], *outputs: io.Output) -> io.Schema:
    """The schema of the node that stands in for `ADE_<old_id>`."""
    return io.Schema(
        node_id=f"ADN_Old{old_id}",
        display_name=f"{name} (old workflow)",
        category="AnimateDiff/old workflows",
        description=description,
        inputs=inputs,
        outputs=list(outputs),
        is_deprecated=True,
    )
