"""Blending of what a text encoder gives, against formulas."""

from __future__ import annotations

import numpy
import pytest
import torch
from scipy.spatial import geometric_slerp

from animatediff_native.sampling.prompt_blending import INTERPOLATIONS, MOST_TOKENS, blend, same_length, slerp
from animatediff_native.sampling.prompt_schedule import Blend, blends, parse


def seed_and_tree(frames: int) -> list[Blend]:
    return blends(parse("0: a seed\n4: a tree"), frames)


def conditioning(seed: int, tokens: int = 5, **values) -> list:
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, 6, generator=generator)
    return [[torch.randn(1, tokens, 8, generator=generator) * 3, {"pooled_output": pooled, **values}]]


def weighted_mean(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    return (1 - t) * a.double() + t * b.double()


def on_the_arc(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """scipy's slerp of directions, times the weighted mean of lengths, for every vector."""
    rows = []
    for x, y in zip(a.flatten(0, -2).double().numpy(), b.flatten(0, -2).double().numpy(), strict=True):
        lengths = numpy.linalg.norm(x), numpy.linalg.norm(y)
        turned = geometric_slerp(x / lengths[0], y / lengths[1], t)
        rows.append(torch.from_numpy(turned * ((1 - t) * lengths[0] + t * lengths[1])))
    return torch.stack(rows).view(a.shape)


@pytest.mark.parametrize(("interpolation", "formula"), [("linear", weighted_mean), ("slerp", on_the_arc)])
def test_tokens_and_pooled_outputs_go_from_one_prompt_to_the_other(interpolation, formula):
    (a, pooled_a), (b, pooled_b) = seed, tree = conditioning(1)[0], conditioning(2)[0]
    ((tokens, values),) = blend({"a seed": [seed], "a tree": [tree]}, seed_and_tree(5), interpolation)
    assert tokens.shape == (5, 5, 8)
    pooled = "pooled_output"
    for i, t in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        torch.testing.assert_close(tokens[i : i + 1].double(), formula(a, b, t), rtol=1e-5, atol=1e-5)
        expected = formula(pooled_a[pooled], pooled_b[pooled], t)
        torch.testing.assert_close(values[pooled][i : i + 1].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("b", [[2.0, 4.0, 6.0], [1.0, 2.0, 3.001], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]])
def test_slerp_of_vectors_without_an_arc_between_is_linear(b):
    x, y = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[b]])
    torch.testing.assert_close(slerp(x, y, 0.25), 0.75 * x + 0.25 * y)
    torch.testing.assert_close(slerp(y, x, 0.75), 0.75 * x + 0.25 * y)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_blend_is_exact_at_both_ends_and_keeps_its_dtype(interpolation, dtype):
    a, b = (torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (1, 2))
    mix = INTERPOLATIONS[interpolation]
    assert torch.equal(mix(a, b, 0.0), a)
    assert torch.equal(mix(a, b, 1.0), b)
    assert mix(a, b, 0.5).dtype == dtype


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_prompt_on_its_own_frame_is_what_the_text_encoder_gave(interpolation):
    a, b = conditioning(1), conditioning(2)
    ((tokens, values),) = blend({"a seed": a, "a tree": b}, seed_and_tree(7), interpolation)
    for frames, given in (([0], a), ([4, 5, 6], b)):
        for i in frames:
            assert torch.equal(tokens[i : i + 1], given[0][0])
            assert torch.equal(values["pooled_output"][i : i + 1], given[0][1]["pooled_output"])


def test_a_prompt_that_no_frame_shows_is_not_asked_for():
    a = conditioning(1)
    ((tokens, _),) = blend({"a": a}, blends(parse("0 hold: a\n40: b"), 3), "linear")
    assert torch.equal(tokens, a[0][0].expand(3, -1, -1))


def attention(query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(query, context, context)


def test_attention_does_not_notice_that_a_shorter_prompt_is_repeated():
    a, b = conditioning(1, tokens=4), conditioning(2, tokens=6)
    ((tokens, _),) = blend({"a seed": a, "a tree": b}, seed_and_tree(5), "linear")
    assert tokens.shape == (5, 12, 8)
    query = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(attention(query, tokens[:1]), attention(query, a[0][0]))
    torch.testing.assert_close(attention(query, tokens[4:]), attention(query, b[0][0]))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_tokens_of_any_batch_get_one_length(batch):
    """Training holds a prompt as (tokens, features), ComfyUI with a batch in front."""
    shorter, longer = same_length([torch.randn(*batch, 4, 8), torch.randn(*batch, 6, 8)])
    assert shorter.shape == longer.shape == (*batch, 12, 8)
    assert torch.equal(shorter[..., :4, :], shorter[..., 8:, :])
    assert torch.equal(longer[..., :6, :], longer[..., 6:, :])


def test_lengths_without_a_small_common_multiple_are_refused():
    assert {len(tokens) for tokens in same_length([torch.zeros(n, 1) for n in (1, 2, MOST_TOKENS)])} == {MOST_TOKENS}
    with pytest.raises(ValueError, match="3 different lengths"):
        same_length([torch.zeros(n, 1) for n in (77, 77, 78, MOST_TOKENS // 77)])


def test_every_entry_of_a_text_encoder_with_hooks_is_blended_for_itself():
    a = conditioning(1, start=0.0) + conditioning(2, start=0.5)
    b = conditioning(3, start=0.0) + conditioning(4, start=0.5)
    result = blend({"a seed": a, "a tree": b}, seed_and_tree(5), "linear")
    assert [values["start"] for _, values in result] == [0.0, 0.5]
    for entry, first, second in zip(result, a, b, strict=True):
        torch.testing.assert_close(entry[0][2:3], (first[0] + second[0]) / 2)


def test_what_else_an_entry_holds_is_that_of_the_first_frames_prompt():
    a, b = conditioning(1, strength=0.7), conditioning(2, strength=0.3)
    assert blend({"a seed": a, "a tree": b}, seed_and_tree(5), "linear")[0][1]["strength"] == 0.7


def test_an_output_that_is_not_pooled_stays_none():
    a, b = ([[conditioning(i)[0][0], {"pooled_output": None}]] for i in (1, 2))
    assert blend({"a seed": a, "a tree": b}, seed_and_tree(5), "linear")[0][1] == {"pooled_output": None}


def test_what_the_text_encoder_gave_is_left_as_it_was():
    a, b = conditioning(1), conditioning(2)
    copies = [(given[0][0].clone(), dict(given[0][1])) for given in (a, b)]
    blend({"a seed": a, "a tree": b}, seed_and_tree(5), "linear")
    for given, (tokens, values) in zip((a, b), copies, strict=True):
        assert torch.equal(given[0][0], tokens)
        assert given[0][1]["pooled_output"] is values["pooled_output"]
