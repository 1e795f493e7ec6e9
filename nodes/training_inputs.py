"""The inputs that the training nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

CATEGORY = "AnimateDiff/training"


def inputs(steps: int, learning_rate: float) -> list[Any]:
    return [
        io.Latent.Input(
            "latents",
            tooltip="Clips, each the latents of a batch of frames: from Make Training Dataset or VAE Encode.",
        ),
        io.Conditioning.Input(
            "conditioning", tooltip="What the clips show: one prompt for all, or a list with one for each clip."
        ),
        io.Int.Input("steps", default=steps, min=1, max=1_000_000, tooltip="Steps of the training."),
        io.Float.Input(
            "learning_rate",
            default=learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="How far a step goes, at most; it rises at first and then falls to 0.",
        ),
        io.Int.Input("frames", default=16, min=2, max=256, tooltip="Frames of a clip in training."),
        io.Int.Input(
            "stride",
            default=1,
            min=1,
            max=64,
            tooltip="Every how many frames of the latents one is taken: 4 in AnimateDiff.",
        ),
        io.Int.Input("seed", default=0, min=0, max=2**31 - 1, tooltip="Of all chance."),
    ]


def advanced() -> list[Any]:
    return [
        io.Int.Input("batch", default=1, min=1, max=64, advanced=True, tooltip="Clips at once: more need more memory."),
        io.Int.Input(
            "accumulate", default=1, min=1, max=256, advanced=True, tooltip="Batches that a step learns from."
        ),
        io.Combo.Input(
            "loss",
            options=["noise", "velocity"],
            default="noise",
            advanced=True,
            tooltip="noise as in AnimateDiff; velocity minds high noise more, where it is settled what moves where.",
        ),
        io.Int.Input(
            "first_timestep",
            default=0,
            min=0,
            max=999,
            advanced=True,
            tooltip="Train at this timestep and noisier ones: camera movements are learned faster from 600 on.",
        ),
        io.Float.Input(
            "caption_dropout",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Share of the clips that are shown with the empty prompt, if one is connected.",
        ),
        io.Combo.Input(
            "precision",
            options=["automatic", "bf16", "fp32"],
            default="automatic",
            advanced=True,
            tooltip="Of the calculation; what is learned is fp32. Automatic is bf16 where the GPU can.",
        ),
        io.Boolean.Input(
            "recompute",
            default=True,
            advanced=True,
            tooltip="Gradient checkpointing: a third more time, a fraction of the memory.",
        ),
        io.Conditioning.Input(
            "empty_prompt",
            optional=True,
            tooltip="An empty CLIP Text Encode: with it, the result follows the guidance (cfg) better.",
        ),
    ]


def loss_output() -> Any:
    return io.Custom("LOSS_MAP").Output(display_name="losses", tooltip="For Plot Loss Graph.")


def single(values: dict[str, Any]) -> dict[str, Any]:
    """Of inputs that ComfyUI hands over as lists."""
    return {name: value[0] for name, value in values.items() if value}
