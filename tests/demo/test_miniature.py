"""The models that the repository ships: they load, they draw what is asked, and their clips move."""

from __future__ import annotations

import pytest
import torch

from demo import evaluate, metrics, shapes
from demo.train import MODELS


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


@pytest.fixture(scope="module")
def module_file():
    return MODELS / "animatediff_models" / "miniature_motion.safetensors"


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

    from demo.text_to_image import TextEncoder

    weights = comfy.utils.load_torch_file(str(MODELS / "checkpoints" / "miniature.safetensors"))
    prefix = "cond_stage_model.transformer.text_model."
    trained = TextEncoder().eval()
    names = dict.fromkeys(trained.model.state_dict())
    trained.model.load_state_dict({name: weights[prefix + name.removeprefix("text_model.")].float() for name in names})
    prompt = "a red star"
    expected = trained([prompt])
    found = miniature.clip.encode_from_tokens(miniature.clip.tokenize(prompt))
    assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("model", ["base", "personalised"])
def test_a_clip_moves_smoothly_and_keeps_shape_and_colour(miniature, module_file, model):
    animated = evaluate.with_module(getattr(miniature, model), module_file)
    for seed, (colour, shape) in enumerate([("red", "star"), ("blue", "circle")]):
        clip = miniature.sample(animated, f"a {colour} {shape}", seed)
        frames = [metrics.read_frame(picture) for picture in clip]
        path = [frame.centroid for frame in frames if frame]
        assert len(path) == evaluate.FRAMES
        assert sum(frame.colour == colour for frame in frames) >= 15
        assert sum(frame.shape == shape for frame in frames) >= 12
        assert 0.8 < metrics.displacement(path) < 5
        assert metrics.jerk(path) < 3


def test_without_the_module_the_frames_of_a_batch_have_nothing_to_do_with_each_other(miniature):
    clip = miniature.sample(miniature.base, "a green square", 3)
    path = [frame.centroid for frame in map(metrics.read_frame, clip) if frame]
    assert metrics.displacement(path) > 10


def test_the_looks_differ(miniature):
    paper, neon = (miniature.sample(model, "a purple cross", 5) for model in (miniature.base, miniature.personalised))
    assert paper.mean() > 0.6
    assert neon.mean() < 0.3
