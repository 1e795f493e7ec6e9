"""Inputs and outputs that the training nodes share."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

CATEGORY = "AnimateDiff/training"


def inputs(steps: int, learning_rate: float) -> list[Any]:
    """Return the basic inputs, with these defaults."""
    return [
        io.Latent.Input(
            "latents",
            tooltip="The clips, each a batch of latents, from Make Training Dataset or VAE Encode.",
        ),
        io.Conditioning.Input(
            "conditioning", tooltip="What the clips show: one prompt for all of them, or a list with one per clip."
        ),
        io.Int.Input("steps", default=steps, min=1, max=1_000_000, tooltip="Number of training steps."),
        io.Float.Input(
            "learning_rate",
            default=learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="Peak learning rate. The rate warms up first, then decays to 0.",
        ),
        io.Int.Input("frames", default=16, min=2, max=256, tooltip="Frames per training clip."),
        io.Int.Input(
            "stride",
            default=1,
            min=1,
            max=64,
            tooltip="Use every n-th frame of the latents. AnimateDiff was trained with 4.",
        ),
        io.Int.Input("seed", default=0, min=0, max=2**31 - 1, tooltip="Random seed."),
    ]


def advanced() -> list[Any]:
    """Return the inputs that most people leave alone."""
    return [
        io.Int.Input(
            "batch", default=1, min=1, max=64, advanced=True, tooltip="Clips per batch. More need more memory."
        ),
        io.Int.Input(
            "accumulate", default=1, min=1, max=256, advanced=True, tooltip="Batches per step (gradient accumulation)."
        ),
        io.Combo.Input(
            "loss",
            options=["noise", "velocity"],
            default="noise",
            advanced=True,
            tooltip="Noise is AnimateDiff's loss. Velocity weights noisy timesteps more, where motion is decided.",
        ),
        io.Int.Input(
            "first_timestep",
            default=0,
            min=0,
            max=999,
            advanced=True,
            tooltip="Train on this timestep and noisier ones only. Camera movements are learned faster with 600.",
        ),
        io.Float.Input(
            "caption_dropout",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
            tooltip="Fraction of clips that are trained with the empty prompt, if one is connected.",
        ),
        io.Combo.Input(
            "precision",
            options=["automatic", "bf16", "fp32"],
            default="automatic",
            advanced=True,
            tooltip="Precision of the computation. Trained weights are always fp32. Automatic uses bf16 on GPUs that "
            "support it.",
        ),
        io.Boolean.Input(
            "recompute",
            default=True,
            advanced=True,
            tooltip="Gradient checkpointing: takes a third more time but a fraction of the memory.",
        ),
        io.Conditioning.Input(
            "empty_prompt",
            optional=True,
            tooltip="From CLIP Text Encode with an empty text. It makes the result respond better to cfg.",
        ),
    ]


def loss_output() -> Any:
    """Return the output for the losses of the steps."""
    return io.Custom("LOSS_MAP").Output(display_name="losses", tooltip="For Plot Loss Graph.")


def first_values(schema: io.Schema, lists: dict[str, Any]) -> dict[str, Any]:
    """Return the first value of each input that ComfyUI hands over as a list, and the defaults of missing ones."""
    defaults = {entry.id: entry.default for entry in schema.inputs if isinstance(entry, io.WidgetInput)}
    return defaults | {name: values[0] for name, values in lists.items() if values}
