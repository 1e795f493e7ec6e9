"""The models that the repository ships: they load, they draw what is asked, and their clips move."""

from __future__ import annotations

import functools
from typing import Any

import comfy.model_management
import pytest
import torch

from animatediff_native.demo import autoencoder, evaluate, metrics, shapes
from animatediff_native.demo.train import MODELS
from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.lora import apply_motion_lora
from animatediff_native.motion_models.unet import motion_hooks, unet_slots
from animatediff_native.sampling.animate import animate
from animatediff_native.training.diffusion import add_noise, alphas_cumprod


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


@pytest.fixture(scope="module")
def module_file():
    return MODELS / "animatediff_models" / "miniature_motion.safetensors"


@pytest.fixture(scope="module")
def clip(miniature, module_file):
    """Sample an animated clip of a model, a prompt and a seed, and remember it."""

    @functools.cache
    def sample(model: str, prompt: str, seed: int) -> torch.Tensor:
        return miniature.sample(evaluate.with_module(getattr(miniature, model), module_file), prompt, seed)

    return sample


@pytest.fixture(scope="module")
def stills(miniature):
    """Sample red stars of a model without the module, and remember them."""

    @functools.cache
    def sample(model: str) -> torch.Tensor:
        return miniature.sample(getattr(miniature, model), "a red star", 1, frames=6)

    return sample


def test_autoencoder_gives_pictures_back(miniature):
    scene = shapes.random_scene(16, torch.Generator().manual_seed(21))
    for look in shapes.LOOKS:
        pictures = shapes.draw(scene, look).movedim(1, -1)
        decoded = miniature.vae.decode(miniature.vae.encode(pictures))
        signal_to_noise = -10 * (decoded - pictures).square().mean().log10()
        assert signal_to_noise > 27


def test_text_encoder_is_the_one_that_was_trained(miniature):
    """ComfyUI's CLIP code against transformers', which trained it, on the same weights and words."""
    import comfy.utils

    from animatediff_native.demo.text_to_image import TextEncoder

    weights: Any = comfy.utils.load_torch_file(str(MODELS / "checkpoints" / "miniature.safetensors"))
    prefix = "cond_stage_model.transformer.text_model."
    trained = TextEncoder().eval()
    names = dict.fromkeys(trained.model.state_dict())
    trained.model.load_state_dict({name: weights[prefix + name.removeprefix("text_model.")].float() for name in names})
    prompt = "a red star"
    expected = trained([prompt])
    encoded = miniature.clip.encode_from_tokens(miniature.clip.tokenize(prompt))
    assert (encoded - expected).norm() / expected.norm() < 1e-4


@pytest.mark.one_version
@pytest.mark.parametrize("model", ["base", "personalised"])
def test_the_module_turns_unrelated_pictures_into_a_smooth_path(clip, stills, model):
    without = path_of(stills(model))
    with_module = path_of(clip(model, "a red star", 1))
    assert 1.5 < metrics.displacement(with_module) < 5
    assert metrics.displacement(with_module) < metrics.displacement(without) / 3
    assert metrics.jerk(with_module) < 4
    assert metrics.jerk(with_module) < metrics.jerk(without) / 8


@pytest.mark.one_version
def test_the_module_has_learned_the_order_of_frames(miniature, module_file):
    """Noise on a drawn clip is predicted better with its frames in order than shuffled."""
    comfy.model_management.load_models_gpu([miniature.base])  # the LoRA may still be in the shared weights
    unet = miniature.base.model.diffusion_model
    module = load_motion_model(str(module_file)).patcher.model
    generator = torch.Generator().manual_seed(11)
    scene = shapes.random_clip(4, evaluate.FRAMES, generator)
    clips = autoencoder.encode(shapes.draw(scene), *autoencoder.projection()).unflatten(0, (4, evaluate.FRAMES))
    shuffled = clips[:, torch.randperm(evaluate.FRAMES, generator=generator)]
    noise = torch.randn(clips.shape, generator=generator)
    prompts = shapes.captions(scene)
    words = torch.cat([miniature.clip.encode_from_tokens(miniature.clip.tokenize(prompt)) for prompt in prompts])

    def error(clips: torch.Tensor) -> float:
        time = 700
        noisy = add_noise(clips, noise, alphas_cumprod("motion")[time].expand(4)).flatten(0, 1)
        with motion_hooks(unet_slots(unet), module, evaluate.FRAMES):
            predicted = unet(noisy, torch.full((len(noisy),), float(time)), words, transformer_options={})
        return (predicted - noise.flatten(0, 1)).square().mean().item()

    assert error(clips) < 0.9 * error(shuffled)


@pytest.mark.one_version
@pytest.mark.parametrize("model", ["base", "personalised"])
def test_a_clip_keeps_the_shape_and_colour_that_the_prompt_names(clip, model):
    frames = [metrics.read_frame(picture) for picture in clip(model, "a blue circle", 2)]
    blue_circles = sum(frame is not None and (frame.colour, frame.shape) == ("blue", "circle") for frame in frames)
    assert blue_circles >= evaluate.FRAMES - 1


def path_of(clip: torch.Tensor) -> list[tuple[float, float]]:
    return [frame.centroid for frame in map(metrics.read_frame, clip) if frame]


@pytest.mark.one_version
def test_the_looks_differ(stills):
    assert stills("base").mean() > 0.6
    assert stills("personalised").mean() < 0.3


@pytest.mark.one_version
def test_the_motion_lora_sends_things_to_the_left(miniature, clip, module_file):
    lora = MODELS / "animatediff_motion_lora" / "miniature_pan.safetensors"
    panning = animate(miniature.base, apply_motion_lora(load_motion_model(str(module_file)), str(lora), 1.0))
    for prompt, seed in (("a red star", 1), ("a blue circle", 2)):
        paths = [path_of(clip("base", prompt, seed)), path_of(miniature.sample(panning, prompt, seed))]
        without, with_lora = (path[-1][0] - path[0][0] for path in paths)
        assert with_lora < -20
        assert with_lora < without - 20
        assert metrics.jerk(paths[1]) < 6
