"""Prompt schedule: its prompts in the timeline grammar, and those of each frame. test_timeline.py has the rest."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import pytest

from animatediff_native.sampling import prompt_schedule
from animatediff_native.sampling.prompt_schedule import Blend, blends, distinct_prompts, join, parse

SEED_AND_TREE = "0: a seed\n4: a tree"


def shown(text: str, frames: int) -> list[Blend]:
    return blends(parse(text), frames)


def prompts(text: str, frames: int = 16) -> list[str]:
    """The prompts of frames that show one alone, in the order of the clip."""
    return list(dict.fromkeys(b.first for b in shown(text, frames) if b.t == 0))


def parts(text: str, frames: int) -> list[float]:
    return [b.t for b in shown(text, frames)]


def frames_of(prompt: str, text: str, frames: int = 16) -> list[int]:
    """Frames that show the prompt alone."""
    return [i for i, b in enumerate(shown(text, frames)) if b.first == prompt and b.t == 0]


# What each frame shows


def test_between_two_prompts_a_clip_goes_evenly_from_one_to_the_other():
    seed, *between, tree = shown(SEED_AND_TREE, 5)
    assert (seed.first, seed.t, tree.first, tree.t) == ("a seed", 0.0, "a tree", 0.0)
    assert between == [Blend("a seed", "a tree", t) for t in (0.25, 0.5, 0.75)]


def test_before_the_first_and_after_the_last_prompt_they_hold():
    assert frames_of("a", "3: a\n5: b", 8) == [0, 1, 2, 3]
    assert frames_of("b", "3: a\n5: b", 8) == [5, 6, 7]


def test_the_order_of_lines_does_not_matter():
    assert shown("4: b\n0: a", 5) == shown("0: a\n4: b", 5)


def test_a_part_that_is_a_whole_frame_falls_on_it_exactly():
    for percent in range(101):
        assert frames_of("b", f"-200: a\n{percent / 100:.2f}: b\n300: c", 101) == [percent]


def test_a_part_between_two_frames_is_not_rounded():
    assert parts("0.0: a\n0.5: b\n1.0: c", 4) == pytest.approx([0, 2 / 3, 1 / 3, 0])


def test_a_word_after_a_range_leads_on_from_its_end():
    assert frames_of("a", "0-2 hold: a\n6: b", 8) == [0, 1, 2, 3, 4, 5]


def test_a_prompt_beyond_the_clip_is_headed_for_but_not_reached():
    assert parts("0: a\n32: b", 17) == [i / 32 for i in range(17)]
    assert parts("-24: a\n8: b", 9)[:8] == [(15 + i) / 23 for i in range(8)]


def test_a_single_frame_shows_the_beginning():
    for text in ("0: a\n0.5: b\n1.0: c", "0: a\n-1: c", "0.0: a\n8: b"):
        assert shown(text, 1) == [Blend("a", shown(text, 1)[0].second, 0.0)]


def test_only_what_is_shown_has_to_be_encoded():
    assert distinct_prompts(shown("0: a\n4: b\n8: a\n40: c", 9)) == ["a", "b"]
    assert distinct_prompts(shown("0 hold: a\n40: b", 16)) == ["a"]


# Grammar


def test_a_comment_ends_a_line_or_is_one():
    assert prompts("-- growth\n0: a seed -- small\n\n  -- and then\n15: a tree --big\n---") == ["a seed", "a tree"]


def test_lines_may_end_as_on_windows():
    assert prompts("0: a seed\r\n  in soil\r\n\r\n15: a tree -- big\r\n") == ["a seed in soil", "a tree"]


def test_two_hyphens_within_a_word_are_no_comment():
    assert prompts("0: a well--known face") == ["a well--known face"]


@pytest.mark.parametrize(
    "prompt",
    [
        "(fluffy:1.3) cat, [dog], ((red)), \\(film\\)",
        "embedding:easynegative, a (cat:0.8)",
        "<lora:add_detail:0.7> a cat = a pet",
        'a sign that says "16: 9"',
        "10-20: 5 cats",
        "a, b,",
        "größe, 猫: 花",
    ],
)
def test_a_prompt_is_taken_as_it_is(prompt):
    assert prompts(f"0: {prompt}") == [prompt]


def test_an_indented_line_continues_the_prompt_above():
    text = "0: a seed\n    in dark soil, (wet:1.2)\n\n\t, by night -- late\n8:\n  a tree"
    assert prompts(text) == ["a seed in dark soil, (wet:1.2) , by night", "a tree"]


def test_a_frame_and_a_colon_make_a_keyframe_however_far_the_line_is_indented():
    assert prompts("  0: a\n    8 : b\n  15 hold: c") == ["a", "b", "c"]


def test_an_empty_prompt_is_one():
    assert prompts('0:\n15: ""') == [""]


@pytest.mark.parametrize(
    "text",
    [
        '"0": "a cat", "15": "a dog (fluffy:1.3)"',
        '"0": "a cat",\n"15": "a dog (fluffy:1.3)",\n',
        '"0" :"a cat" ,\n\n  "15" :"a dog (fluffy:1.3)"',
        '"0" = "a cat"\n"15" = "a dog (fluffy:1.3)"',
        '0: "a cat", 15: "a dog (fluffy:1.3)",',
        '0 = "a cat",\n15 = "a dog (fluffy:1.3)"',
        '"0":\n"a cat",\n"15":\n"a dog (fluffy:1.3)"',
        '"0": "a cat", -- first\r\n-- second\r\n"15": "a dog (fluffy:1.3)" -- end',
        '"0": "a cat" "-1": "a dog (fluffy:1.3)"',
        '"0": "a cat"\n-1: a dog (fluffy:1.3)',
    ],
)
def test_lists_of_other_packs_are_read_as_they_are(text):
    assert prompts(text) == ["a cat", "a dog (fluffy:1.3)"]


def test_within_quotation_marks_everything_belongs_to_the_prompt():
    assert prompts('"0": "a \\"red\\" cat -- really,\n16: 9, \\\\(film\\\\)\\nwide, "') == [
        'a "red" cat -- really,\n16: 9, \\(film\\)\nwide, '
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "sentence"),
    [
        ("0: a seed\n\nsprout", 3, 1, '"sprout" does not begin with a frame number: write "frame: prompt"'),
        ("a cat", 1, 1, '"a cat" does not begin with a frame number'),
        ("  a cat\n0: a dog", 1, 3, '"a cat" does not begin with a frame number'),
        ("0: a seed\n30 a fish", 2, 1, '"30 a fish" has no colon after its frame number'),
        ("0: a seed\n10 to 20: a fish", 2, 1, '"10 to 20" is not a frame: write a frame such as 12'),
        ("0: a seed\n30 bounce: a fish", 2, 4, '"bounce" is not an easing: write one of linear, ease'),
        ("0: a seed\n1.5: a fish", 2, 1, '"1.5" lies outside the clip'),
        ("0: a seed\n0.2-150%: a fish", 2, 5, '"150%" lies outside the clip'),
        ("-0.5: a seed", 1, 1, '"-0.5" lies outside the clip'),
        ('"0": "a cat, \n"15": a dog', 2, 2, 'and \\" for a quotation mark inside the prompt before it'),
        ('"0": "a "red" cat"', 1, 10, 'and \\" for a quotation mark inside the prompt before it'),
        ('"0": "a cat', 1, 6, "this quotation mark is never closed"),
        ('"0": a cat', 1, 6, 'the prompt after "0": needs quotation marks too'),
        ('"max_f": "a cat"', 1, 1, '"max_f" is not a frame'),
        ('"0": "a (cat:`sin(t)`)"', 1, 14, "an expression in backticks is not supported"),
        ("0: a (cat:`__import__('os')`)", 1, 11, "an expression in backticks is not supported"),
        ('"0": "a cat --neg ugly"', 1, 13, "--neg is not supported: write what to avoid in a second"),
        ("0: a\n20-10: b", 2, 1, "this range runs backwards from frame 20 to 10"),
        ("0: a\n0.5-3: b", 2, 1, "this range runs backwards from frame 7.5 to 3"),
        ("4: a\n8: b\n4: c", 3, 1, "frame 4 is already taken by line 1, column 1"),
        ("15: a\n-1: b", 2, 1, "frame 15 is already taken by line 1, column 1"),
        ("5: a\n0-8: b", 2, 1, "frame 5 is already taken by line 1, column 1"),
        ('"0-8": "a", "8-12": "b"', 1, 13, "frame 8 is already taken by line 1, column 1"),
        ("", 1, 1, 'there is no prompt: write "frame: prompt"'),
        (" \n-- nothing\n", 1, 1, "there is no prompt"),
    ],
)
def test_an_error_says_where_and_what_to_do(text, line, column, sentence):
    with pytest.raises(ValueError) as error:
        shown(text, 16)
    assert str(error.value).startswith(f"Line {line}, column {column}: ")
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


def test_the_examples_of_the_documentation_are_read():
    page = Path(__file__).resolve().parents[2] / "web" / "docs" / "ADN_PromptSchedule.md"
    example = page.read_text(encoding="utf-8").split("`position: prompt` per line.\n\n")[1].split("\n\n  The table")[0]
    assert prompts(textwrap.dedent(example), 101) == [
        "a seed in dark soil", "a green sprout", "a tree", "a tree in bloom", "a bare tree, covered with (snow:1.2)"
    ]  # fmt: skip
    example = textwrap.dedent((inspect.getdoc(prompt_schedule) or "").split("\n\n")[1])
    assert [key.value for key in parse(example)] == [
        "a seed", "a sprout", "a tree", "a bird", "a fish in the sea", "a (dog:1.2)"
    ]  # fmt: skip


def test_a_long_text_is_read_in_no_time():
    text = "\n".join(f'"{i}": "{"a (cat:1.2), " * 20}",' for i in range(2000))
    assert len(shown(text, 2000)) == 2000


# Prefix and suffix


@pytest.mark.parametrize(
    ("written", "joined"),
    [
        (("photo", "a cat", "sharp"), "photo, a cat, sharp"),
        (("photo, ", ", a cat,", "\n,sharp,"), "photo, a cat, sharp,"),
        (("", "a cat", " , "), "a cat"),
        (("photo", "", "sharp"), "photo, sharp"),
        (("", " a cat, ", ""), " a cat, "),
        (("", "", ""), ""),
    ],
)
def test_parts_are_joined_by_one_comma(written, joined):
    assert join(*written) == joined
