"""Parts that the example workflows share, from the loaders to the saved clip."""

from __future__ import annotations

from typing import Any

from .graph import Graph, Model, Node, Output
from .models import SD15, V3

FOX = "a red fox running through fresh snow, morning light, photograph"
NEGATIVE = "worst quality, low quality, blurry, text, watermark"
SIZE = "Size and number of frames"


def loaders(graph: Graph, checkpoint: Model = SD15, motion: Model = V3) -> tuple[Node, Node]:
    loaded = graph.add(0, "CheckpointLoaderSimple", ckpt_name=checkpoint)
    return loaded, graph.add(0, "ADN_LoadMotionModule", motion_module=motion)


def apply(graph: Graph, model: Output, motion: Node, column: int = 1, **inputs: Any) -> Output:
    applied = graph.add(column, "ADN_ApplyAnimateDiff", model=model, motion_module=motion["motion_module"], **inputs)
    return applied["MODEL"]


def sliding(graph: Graph, column: int, model: Output, **settings: Any) -> Output:
    return graph.add(column, "ADN_SlidingContext", model=model, **settings)["MODEL"]


def prompts(graph: Graph, column: int, clip: Output, text: str) -> tuple[Output, Output]:
    positive = graph.add(column, "CLIPTextEncode", "Prompt", clip=clip, text=text)
    negative = graph.add(column, "CLIPTextEncode", "Negative prompt", clip=clip, text=NEGATIVE)
    return positive["CONDITIONING"], negative["CONDITIONING"]


def empty(graph: Graph, column: int, frames: int = 16, size: int = 512) -> Output:
    return graph.add(column, "EmptyLatentImage", SIZE, width=size, height=size, batch_size=frames)["LATENT"]


def sampler(
    graph: Graph,
    column: int,
    model: Output,
    conditioning: tuple[Output, Output],
    latents: Output,
    title: str | None = None,
    **overrides: Any,
) -> Output:
    settings = {"seed": 1, "steps": 20, "cfg": 7.5, "sampler_name": "euler_ancestral", "scheduler": "normal"}
    positive, negative = conditioning
    inputs = {"model": model, "positive": positive, "negative": negative, "latent_image": latents}
    fixed = {"control_after_generate": "fixed", "denoise": 1.0}
    return graph.add(column, "KSampler", title, **inputs, **{**settings, **fixed, **overrides})["LATENT"]


def save(graph: Graph, column: int, samples: Output, vae: Output, name: str, fps: Any = 8.0) -> None:
    images = graph.add(column, "VAEDecode", samples=samples, vae=vae)["IMAGE"]
    video = graph.add(column, "CreateVideo", images=images, fps=fps)
    graph.add(column + 1, "SaveVideo", video=video["VIDEO"], filename_prefix=f"animatediff/{name}")
    graph.add(column + 1, "SaveAnimatedWEBP", images=images, filename_prefix=f"animatediff/{name}", fps=8.0)


def clip(
    graph: Graph,
    name: str,
    checkpoint: Node,
    model: Output,
    text: str,
    frames: int = 16,
    size: int = 512,
    column: int = 2,
    **settings: Any,
) -> None:
    """Add the nodes that lead from a model to a saved clip."""
    conditioning, latents = prompts(graph, column, checkpoint["CLIP"], text), empty(graph, column, frames, size)
    samples = sampler(graph, column + 1, model, conditioning, latents, **settings)
    save(graph, column + 2, samples, checkpoint["VAE"], name)


def text_to_clip(graph: Graph) -> tuple[Node, Output]:
    """Add the nodes of a clip; return the checkpoint loader and the sampled latents."""
    checkpoint, motion = loaders(graph)
    animated = apply(graph, checkpoint["MODEL"], motion)
    conditioning = prompts(graph, 2, checkpoint["CLIP"], FOX)
    return checkpoint, sampler(graph, 3, animated, conditioning, empty(graph, 2))
