"""Graphs that ComfyUI offers as one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .graph import Graph
from .parts import SIZE, text_to_clip


@dataclass
class Blueprint:
    """A graph that ComfyUI offers as one node.

    An input is the title or type of an inner node, its widget, and the name outside; an output likewise.
    """

    name: str
    description: str
    category: str
    graph: Callable[[Graph], None]
    inputs: list[tuple[str, str, str]]
    outputs: list[tuple[str, str, str]]


def enclosed_clip(graph: Graph) -> None:
    checkpoint, samples = text_to_clip(graph)
    images = graph.add(4, "VAEDecode", samples=samples, vae=checkpoint["VAE"])["IMAGE"]
    graph.add(4, "CreateVideo", images=images, fps=8.0)


BLUEPRINTS = (
    Blueprint(
        "Text to Animation (AnimateDiff)",
        "Makes a short clip from a prompt, with a Stable Diffusion 1.5 checkpoint and a motion module.",
        "Video generation and editing/Text to video",
        enclosed_clip,
        [
            ("Prompt", "text", "prompt"),
            ("Negative prompt", "text", "negative prompt"),
            (SIZE, "width", "width"),
            (SIZE, "height", "height"),
            (SIZE, "batch_size", "frames"),
            ("KSampler", "seed", "seed"),
            ("KSampler", "steps", "steps"),
            ("KSampler", "cfg", "cfg"),
            ("CheckpointLoaderSimple", "ckpt_name", "checkpoint"),
            ("ADN_LoadMotionModule", "motion_module", "motion module"),
            ("ADN_ApplyAnimateDiff", "strength", "motion strength"),
        ],
        [("CreateVideo", "VIDEO", "video"), ("VAEDecode", "IMAGE", "images")],
    ),
)
