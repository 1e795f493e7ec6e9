"""The miniature ControlNet, loaded and sampled with the functions behind ComfyUI's stock nodes."""

from __future__ import annotations

import importlib
import operator
from dataclasses import replace
from typing import Any

import comfy.controlnet
import comfy.model_management
import numpy as np
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from animatediff_native.demo import control, evaluate, metrics, shapes
from animatediff_native.demo.train import MODELS
from animatediff_native.training.lora import lora

core_nodes: Any = importlib.import_module("nodes")  # ComfyUI's nodes.py; type checkers would see the pack's own folder

FILE = MODELS / "controlnet" / "miniature_outline.safetensors"
MODULE = MODELS / "animatediff_models" / "miniature_motion.safetensors"
BLUE = list(shapes.COLOURS).index("blue")


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


@pytest.fixture(scope="module")
def unet(miniature) -> UNetModel:
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([miniature.base])
    return miniature.base.model.diffusion_model


def inputs(n: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, hints, timesteps and token features."""
    generator = torch.Generator().manual_seed(5)
    latents, words = torch.randn(n, 4, 12, 12, generator=generator), torch.randn(n, 16, 64, generator=generator)
    return latents, torch.rand(n, 3, 96, 96, generator=generator), torch.linspace(100, 900, n), words


def test_an_untrained_controlnet_changes_nothing(unet):
    latents, hints, time, words = inputs()
    changes = control.build(unet)(latents, hints, time, words)
    assert torch.equal(unet(latents, time, words, control=changes), unet(latents, time, words))


def test_comfyui_runs_the_file_as_it_was_trained(miniature, unet):
    """ComfyUI puts the file and the checkpoint together; training's model is another one with the same weights."""
    loaded = comfy.controlnet.load_controlnet(str(FILE))
    assert isinstance(loaded, comfy.controlnet.ControlLora)
    weights, model = loaded.control_weights, control.build(unet)
    layers = [key.removesuffix(".up") for key in weights if key.endswith(".up")]
    with lora(model, layers, control.RANK) as changes:
        own = {key: parameter for key, parameter in model.named_parameters() if control.is_own(key)}
        for key, parameter in (own | changes).items():
            parameter.copy_(weights[key if key in own else control.control_lora(key)].float())
        expected = model(*inputs())
    loaded.pre_run(miniature.base.model, lambda percent: percent)
    assert loaded.control_model
    predicted = loaded.control_model(*inputs())
    assert len(predicted["output"]) == len(expected["output"]) == 12
    for name in ("output", "middle"):
        for there, here in zip(predicted[name], expected[name], strict=True):
            assert (there - here).norm() / here.norm() < 1e-5


def sample(miniature, model, prompt: str, hints: Tensor, strength: float) -> Tensor:
    """One picture (n, 3, h, w) for each hint, as Load ControlNet Model, Apply ControlNet and KSampler make them."""
    net = comfy.controlnet.load_controlnet(str(FILE))
    words = (miniature.clip.encode_from_tokens_scheduled(miniature.clip.tokenize(text)) for text in (prompt, ""))
    prompts = core_nodes.ControlNetApplyAdvanced().apply_controlnet(
        *words, net, hints.movedim(1, -1), strength, 0.0, 1.0
    )
    latent = {"samples": torch.zeros(len(hints), 4, shapes.SIZE // 8, shapes.SIZE // 8)}
    settings = (evaluate.STEPS, evaluate.CFG, evaluate.SAMPLER, "normal")
    (result,) = core_nodes.common_ksampler(model, 1, *settings, *prompts, latent)
    return miniature.vae.decode(result["samples"]).movedim(-1, 1)


def distance(pictures: Tensor, drawn: Tensor) -> float:
    """Mean distance in pixels of the pictures' shapes from the drawn ones."""
    frames = ([metrics.read_frame(picture) for picture in clip] for clip in (pictures, drawn))
    pairs = [(one.centroid, other.centroid) for one, other in zip(*frames, strict=True) if one and other]
    assert len(pairs) == len(drawn)
    return float(np.linalg.norm(np.subtract(*zip(*pairs, strict=True)), axis=1).mean())


def scenes(shape: str, n: int) -> shapes.Scene:
    """n of one shape, all over the picture, in a colour that the Canny node sees."""
    scene = shapes.random_scene(n, torch.Generator().manual_seed(31))
    kind, colour = (torch.full_like(scene.shape, i) for i in (shapes.SHAPES.index(shape), BLUE))
    return replace(scene, shape=kind, colour=colour)


@pytest.mark.one_version
@pytest.mark.parametrize("model", ["base", "personalised"])
def test_stills_follow_the_outlines(miniature, model):
    drawn = shapes.draw(scenes("star", 6))
    free, led = (
        sample(miniature, getattr(miniature, model), "a red star", control.outlines(drawn), strength)
        for strength in (0.0, 1.0)
    )
    assert distance(free, drawn) > 12
    assert distance(led, drawn) < 3


@pytest.mark.one_version
def test_the_outline_says_which_shape_where_the_prompt_does_not(miniature):
    hints = torch.cat([control.outlines(shapes.draw(scenes(shape, 4))) for shape in shapes.SHAPES])
    expected = [shape for shape in shapes.SHAPES for _ in range(4)]
    led, free = (
        [frame and frame.shape for frame in map(metrics.read_frame, pictures)]
        for pictures in (
            sample(miniature, miniature.base, "a red shape", hints, strength=1.0),
            sample(miniature, miniature.base, "a red shape", hints[:4], strength=0.0).repeat(5, 1, 1, 1),
        )
    )
    assert sum(map(operator.eq, led, expected)) >= 17
    assert sum(map(operator.eq, free, expected)) <= 8


@pytest.mark.one_version
@pytest.mark.parametrize("model", ["base", "personalised"])
def test_every_frame_of_a_clip_follows_its_own_outline(miniature, model):
    scene = shapes.random_clip(1, evaluate.FRAMES, torch.Generator().manual_seed(32))
    drawn = shapes.draw(replace(scene, colour=torch.full_like(scene.colour, BLUE)))
    prompt = f"a red {shapes.SHAPES[int(scene.shape[0])]}"
    animated = evaluate.with_module(getattr(miniature, model), MODULE)
    clip = sample(miniature, animated, prompt, control.outlines(drawn), 1.0)
    assert distance(clip, drawn) < 3
    assert distance(clip.flip(0), drawn) > 8
