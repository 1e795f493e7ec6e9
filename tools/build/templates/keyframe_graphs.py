"""The example workflows that animate pictures with SparseCtrl."""

from __future__ import annotations

from .graph import Graph, Model, Output
from .graphs import BALLOON, FOX
from .models import SPARSE_RGB, SPARSE_SCRIBBLE
from .parts import apply, empty, loaders, prompts, sampler, save


def animate_picture(graph: Graph) -> None:
    graph.note(
        "Animate a picture",
        "The clip begins with your picture and moves on from there, in the look of the checkpoint. Describe the "
        "picture in the prompt. *Keyframe Images* says at which frame it belongs; its crop fits it to the clip.",
        "A lower **strength** in *Apply ControlNet*, or an **end_percent** of about 0.6, lets the clip move more "
        "freely.",
        "Motion modules that take pictures themselves, such as PIA and AnimateLCM-I2V, need no SparseCtrl: load one in "
        "*Load Motion Module* and connect the keyframes to *Apply AnimateDiff*.",
    )
    clip_with_keyframes(graph, "animate_picture", SPARSE_RGB, ("first_picture.png",), frames="0", text=FOX)


def first_and_last_picture(graph: Graph) -> None:
    graph.note(
        "From a first to a last picture",
        "The clip begins with one picture, ends with another and finds its way between them. Both belong to the same "
        "scene: the further apart they are, the more the clip has to invent.",
        "**frames** has one entry for each picture, in the order of the batch: `0` is the first frame, `-1` the last. "
        "`0, 50%, -1` with three pictures adds one in the middle.",
    )
    pictures = "first_picture.png", "last_picture.png"
    clip_with_keyframes(graph, "first_and_last_picture", SPARSE_RGB, pictures, frames="0, -1", text=FOX)


def animate_sketches(graph: Graph) -> None:
    graph.note(
        "Animate sketches",
        "Three sketches say where things are at the beginning, in the middle and at the end. The prompt and the "
        "checkpoint say what they look like.",
        "Draw white lines on black. *Invert Image* turns a drawing on white paper round, and *Canny* makes a sketch "
        "from a picture.",
    )
    sketches = "sketch_1.png", "sketch_2.png", "sketch_3.png"
    clip_with_keyframes(graph, "animate_sketches", SPARSE_SCRIBBLE, sketches, frames="0, 8, -1", text=BALLOON)


KEYFRAME_TEMPLATES = animate_picture, first_and_last_picture, animate_sketches


def clip_with_keyframes(
    graph: Graph, name: str, sparse_ctrl: Model, pictures: tuple[str, ...], frames: str, text: str
) -> None:
    """Add all nodes of a clip that passes through pictures."""
    checkpoint, motion = loaders(graph)
    loaded: list[Output] = [graph.add(1, "LoadImage", image=picture)["IMAGE"] for picture in pictures]
    images = loaded[0]
    for image in loaded[1:]:
        images = graph.add(2, "ImageBatch", image1=images, image2=image)["IMAGE"]
    keyframes = graph.add(2, "ADN_KeyframeImages", images=images, frames=frames, vae=checkpoint["VAE"])
    positive, negative = prompts(graph, 2, checkpoint["CLIP"], text)
    net = graph.add(0, "ADN_LoadSparseCtrl", sparse_ctrl=sparse_ctrl)
    guided = graph.add(
        3,
        "ControlNetApplyAdvanced",
        positive=positive,
        negative=negative,
        control_net=net["CONTROL_NET"],
        image=keyframes["keyframes"],
    )
    animated = apply(graph, checkpoint["MODEL"], motion, column=3)
    samples = sampler(graph, 4, animated, (guided["positive"], guided["negative"]), empty(graph, 3))
    save(graph, 5, samples, checkpoint["VAE"], name)
