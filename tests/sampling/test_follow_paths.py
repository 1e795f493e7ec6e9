"""Clips whose subjects follow paths: their noise, their attention, and what stays as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import comfy.sample
import pytest
import torch
import torch.nn.functional as F
from comfy_extras.nodes_hypertile import HyperTile
from comfy_support import CONTEXT, conditioning
from node_support import FAILURES, FRAMES, SIZE, error, noise_of, run, windowed
from torch import Tensor

from animatediff_native.sampling.follow_paths import FollowPaths, attend_with, follow_paths
from animatediff_native.sampling.motion_paths import Box, MotionPath, coverage

ACROSS = tuple(Box(i / 8, 1 / 4, i / 8 + 3 / 8, 3 / 4) for i in range(FRAMES))  # whole cells of 8 x 8
DOWN = tuple(Box(5 / 8, i / 8, 1.0, i / 8 + 1 / 4) for i in range(FRAMES))
OVERRIDE = "optimized_attention_override"


@pytest.fixture(scope="module")
def paths() -> tuple[MotionPath, ...]:
    words = torch.randn(2, CONTEXT, generator=torch.Generator().manual_seed(7))
    return MotionPath(ACROSS, words), MotionPath(DOWN)


def followed(model: Any, paths: tuple[MotionPath, ...], strength: float = 1.0, end_percent: float = 1.0) -> Any:
    return follow_paths(model, FollowPaths(paths, strength, end_percent))


def sample(model: Any, positive: list, noise: Tensor, steps: int = 1) -> Tensor:
    prompts, latents = (positive, conditioning(6)), torch.zeros_like(noise)
    return comfy.sample.sample(model, noise, steps, 3.0, "euler", "normal", *prompts, latents, seed=3)


def test_logits_grow_by_the_products_of_the_factors():
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, n, 3 * 20, generator=generator) for n in (5, 7, 7))
    of_queries, of_keys = (torch.randn(2, n, 2, generator=generator) for n in (5, 7))

    def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        assert q.shape[-1] == heads * 24  # a multiple of 8 channels for each head
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    heads_of_q, heads_of_k, heads_of_v = (t.unflatten(-1, (3, 20)) for t in (q, k, v))
    logits = torch.einsum("bqhc,bkhc->bhqk", heads_of_q, heads_of_k) / math.sqrt(20)
    logits = logits + torch.einsum("bqs,bks->bqk", of_queries, of_keys)[:, None]
    expected = torch.einsum("bhqk,bkhc->bqhc", logits.softmax(-1), heads_of_v).flatten(2)
    assert error(attend_with(attention, q, k, v, 3, factors=(of_queries, of_keys)), expected) < 1e-5


def steered_by_masks(model: Any, paths: tuple[MotionPath, ...]) -> Any:
    """The same steering with masks for the attention, written out from its description."""
    words = torch.zeros(0, CONTEXT) if paths[0].words is None else paths[0].words

    def attend(attention, q, k, v, heads, **kwargs):
        options = kwargs["transformer_options"]
        window = options.get("context_window")
        frames = window.index_list if window else list(range(FRAMES))
        size, kinds = options["activations_shape"][-2:], options["cond_or_uncond"]
        covered = torch.stack([coverage(path.boxes, (SIZE, SIZE))[frames] for path in paths])
        covered = F.adaptive_avg_pool2d(covered, size).flatten(2)
        mask = torch.zeros(len(kinds), len(frames), q.shape[1], k.shape[1])
        for row, kind in enumerate(kinds):
            if q.shape[1] == k.shape[1]:
                mask[row] = sum(5.0 * (2 * of_path[:, :, None] - 1) * of_path[:, None] for of_path in covered)
            elif len(words):
                pull = (8.0 * covered[0] - 5.0)[..., None]
                mask[row, :, :, -len(words) :] = pull if kind == 0 else -math.inf
        return attention(q, k, v, heads, **kwargs | {"mask": mask.flatten(0, 1)[:, None]})

    def add_words(n, context, value, options):
        context = torch.cat((context, words.expand(len(context), -1, -1)), dim=1)
        return n, context, context

    model = model.clone()
    model.set_model_attn2_patch(add_words)
    model.model_options["transformer_options"][OVERRIDE] = attend
    return model


@pytest.mark.parametrize("positive", [conditioning(5), [*conditioning(5), *conditioning(8)]])
@pytest.mark.parametrize("in_windows", [False, True])
@pytest.mark.parametrize("with_words", [True, False])
def test_attention_is_that_of_the_papers_masks(animated, paths, with_words, in_windows, positive):
    paths = paths if with_words else tuple(replace(path, words=None) for path in paths)
    model = windowed(animated, length=4, overlap=2) if in_windows else animated
    noise = noise_of()
    expected = sample(steered_by_masks(model, paths), positive, noise)
    assert error(sample(model, positive, noise), expected) > 0.05
    assert error(sample(followed(model, paths), positive, noise), expected) < 1e-4


def test_at_strength_0_and_after_the_end_nothing_changes(animated, paths):
    noise, positive = noise_of(), conditioning(5)
    plain = sample(animated, positive, noise)
    assert torch.equal(sample(followed(animated, paths, strength=0.0), positive, noise), plain)
    assert torch.equal(sample(followed(followed(animated, paths), paths, strength=0.0), positive, noise), plain)
    assert error(sample(followed(animated, paths, strength=1e-6), positive, noise), plain) < 1e-4
    assert torch.equal(sample(followed(animated, paths, end_percent=0.0), positive, noise), plain)


@pytest.mark.parametrize("name", FAILURES)
def test_a_run_that_ends_early_leaves_nothing(animated, paths, name):
    fail, exception = FAILURES[name]
    noise, positive = noise_of(), conditioning(5)
    before = sample(animated, positive, noise)
    model = followed(animated, paths)
    steered = sample(model, positive, noise)
    failing = model.clone()
    failing.set_model_attn2_output_patch(lambda n, options: fail() or n)
    with pytest.raises(exception):
        sample(failing, positive, noise)
    assert torch.equal(sample(animated, positive, noise), before)
    assert torch.equal(sample(model, positive, noise), steered)


def test_other_nodes_attention_is_used_and_tiles_stay_as_they_are(animated, paths):
    used = []
    model = followed(animated, paths)
    model.model_options["transformer_options"][OVERRIDE] = lambda attention, *args, **kwargs: (
        used.append(args[0].shape) or attention(*args, **kwargs)
    )
    noise, positive = noise_of(), conditioning(5)
    assert torch.equal(sample(model, positive, noise), sample(followed(animated, paths), positive, noise)) and used
    tiles = {"tile_size": 32, "swap_size": 1, "max_depth": 10, "scale_depth": False}
    clip = sample(run(HyperTile, model=followed(animated, paths), **tiles), positive, noise)
    assert clip.isfinite().all()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (MotionPath(ACROSS[:-1]), "The paths have 5 frames, but the clip 6: set the same number"),
        (MotionPath(ACROSS, torch.zeros(2, 768)), f"have 768 features a token, but this model takes {CONTEXT}"),
    ],
)
def test_paths_that_do_not_fit(animated, changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        sample(followed(animated, (changed,)), conditioning(5), noise_of())
