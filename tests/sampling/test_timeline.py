"""The timeline grammar, which prompts and numbers share: positions, easings, lists of other packs, errors, time."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from animatediff_native.sampling import curves, prompt_schedule, timeline
from animatediff_native.sampling.timeline import EASINGS, HEAD, NUMBER, Values

REPO = Path(__file__).resolve().parents[2]


def of_numbers(text: str, frames: int) -> list[float]:
    """Return the number of each frame."""
    return curves.parse(text)(frames).flatten().tolist()


def of_prompts(text: str, frames: int) -> list[float]:
    """Return how far each frame is from prompt "0" to prompt "1"."""
    shown = prompt_schedule.blends(prompt_schedule.parse(text), frames)
    return [float(b.first) + b.t * (float(b.second) - float(b.first)) for b in shown]


KINDS = pytest.mark.parametrize("values_of", [of_numbers, of_prompts])


# Positions and easings


@KINDS
@pytest.mark.parametrize(("position", "frame"), [("8", 8), ("0.5", 8), (".5", 8), ("50%", 8), ("-9", 8), ("-1", 16),
                                                 ("1.0", 16), ("100%", 16), ("1", 1), ("12.5%", 2)])  # fmt: skip
def test_positions_are_frames_or_parts_of_the_clip_or_count_from_the_end(values_of, position, frame):
    expected = [0.0] * frame + [1.0] * (17 - frame)
    assert values_of(f"0 hold: 0\n{position}: 1", 17) == expected


@KINDS
@pytest.mark.parametrize("span", ["4-8", "4 - 8", "0.25-0.5", "25%-50%", "4--9", "-13--9", "0.25-8"])
def test_a_range_holds_from_its_first_frame_to_its_last(values_of, span):
    values = values_of(f"0: 0\n{span}: 1\n16: 0", 17)
    assert values == pytest.approx([0, 0.25, 0.5, 0.75, *[1] * 5, *(1 - i / 8 for i in range(1, 9))])


@KINDS
@pytest.mark.parametrize("easing", EASINGS)
def test_the_word_before_the_colon_leads_to_the_next_value(values_of, easing):
    values = values_of(f"0 {easing.upper()}: 0\n4: 1\n8: 0", 9)
    assert values[:4] == pytest.approx([EASINGS[easing](t) for t in (0, 0.25, 0.5, 0.75)])
    assert values[4:] == pytest.approx([1, 0.75, 0.5, 0.25, 0])


@KINDS
@pytest.mark.parametrize("easing", EASINGS)
def test_an_easing_behind_the_value_is_read_where_it_cannot_be_part_of_it(values_of, easing):
    """Motion Curve wrote it so at first."""
    before = values_of(f"0 {easing}: 0\n4-5: 1\n8: 0", 9)
    behind = (
        f'"0": "0" {easing}, "4-5": "1" -- {easing}\n8: 0'
        if values_of is of_prompts
        else f"0: 0 {easing}, 4-5: 1, 8: 0"
    )
    assert values_of(behind, 9) == before


def test_words_behind_a_prompt_without_quotation_marks_belong_to_it():
    (key,) = prompt_schedule.parse("0: a hand with ease")
    assert (key.value, key.easing) == ("a hand with ease", EASINGS["linear"])


@KINDS
def test_without_a_word_the_way_is_linear(values_of):
    assert values_of("0: 0\n4: 1", 5) == values_of("0 linear: 0\n4: 1", 5) == [0, 0.25, 0.5, 0.75, 1]


def test_easings_are_what_their_names_say():
    assert EASINGS["ease"](0.5) == pytest.approx(0.5)
    assert EASINGS["ease"](0.1) < 0.1 < EASINGS["ease-out"](0.1)
    assert EASINGS["ease-in"](0.5) < 0.5
    assert EASINGS["hold"](0.99) == 0.0


# Spellings


@KINDS
@pytest.mark.parametrize(
    "text",
    [
        "3: 1 \n\n 0: 0",
        "-- comment\n0: 0 -- 9: 9\n--\n3: 1 --",
        "0: 0\r\n3: 1\r\n",
        "0.0: 0\n1.0: 1",
        "0 = 0\n3 =1\n",
    ],
)
def test_lines_in_any_order_with_comments(values_of, text):
    assert values_of(text, 4) == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("values_of", "text"),
    [
        (of_prompts, '"0": "0", "3": "1"'),
        (of_prompts, '"0": "0";\n"3": "1";'),
        (of_numbers, "0: 0, 3: 1"),
        (of_numbers, "0:(0),3:(1)"),
        (of_numbers, "0: (0.0); 3: (1.0);"),
        (of_numbers, '"0": 0, "3": 1'),
    ],
)
def test_lists_of_other_packs_are_read_as_they_are(values_of, text):
    assert values_of(text, 4) == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_another_sort_of_value_brings_its_reader_alone():
    def read_place(head: re.Match[str]) -> tuple[tuple[float, float], int]:
        place = re.compile(rf"\s*({NUMBER})%\s+({NUMBER})%").match(head.string, head.end())
        assert place is not None
        return (float(place[1]), float(place[2])), place.end()

    keys = timeline.parse("0: 20% 50%, -1 hold: 80% 50%", Values("place", "0: 50% 50%", read_place))
    assert [(key.value, key.first.frame(16), key.easing) for key in keys] == [
        ((20.0, 50.0), 0, EASINGS["linear"]),
        ((80.0, 50.0), 15, EASINGS["hold"]),
    ]


# Errors


READERS = {
    "prompt": prompt_schedule.parse,
    "number": curves.parse,
    "number over the sampling": lambda text: curves.parse(text, curves.SAMPLING),
}


@pytest.mark.parametrize("kind", ["prompt", "number"])
@pytest.mark.parametrize(
    ("text", "line", "column", "sentence"),
    [
        ("0: 1\n\nsprout: 2", 3, 1, '"sprout: 2" does not begin with a frame number: write "frame: KIND".'),
        ("0: 1\n30 a fish", 2, 1, '"30 a fish" has no colon after its frame number: write "frame: KIND".'),
        ("0: 1\n10 to 20: 2", 2, 1, '"10 to 20" is not a frame: write a frame such as 12'),
        ("0: 1\n30 bounce: 2", 2, 4, '"bounce" is not an easing: write one of linear, ease, ease-in, ease-out, hold'),
        ('0: "1" bounce', 1, 8, '"bounce" is not an easing: write one of linear'),
        ('0 ease: "1" hold', 1, 13, '"hold" is a second easing: write only one, before the colon.'),
        ("0: 1\n1.5: 2", 2, 1, '"1.5" lies outside the clip: write a whole number for a frame, or a part from 0.0'),
        ("0: 1\n0.2-150%: 2", 2, 5, '"150%" lies outside the clip'),
        ("-0.5: 1", 1, 1, '"-0.5" lies outside the clip'),
        ("\n -- nothing: 1", 1, 1, 'there is no KIND: write "frame: KIND", such as "0: '),
    ],
)
def test_an_error_says_where_and_what_to_do(kind, text, line, column, sentence):
    text = text if kind == "prompt" else text.replace('"', " ")
    with pytest.raises(ValueError) as error:
        READERS[kind](text)
    assert str(error.value).startswith(f"Line {line}, column {column}: ")
    assert sentence.replace("KIND", kind) in str(error.value)
    assert str(error.value).endswith(".")


@KINDS
@pytest.mark.parametrize(
    ("text", "line", "column", "sentence"),
    [
        ("0: 0\n20-10: 1", 2, 1, "this range runs backwards from frame 20 to 10: swap them."),
        ("0: 0\n0.5-3: 1", 2, 1, "this range runs backwards from frame 7.5 to 3"),
        ("5: 0\n0-8: 1", 2, 1, "frame 5 is already taken by line 1, column 1: give each line its own frames."),
    ],
)
def test_ranges_that_cannot_be_shown_are_named(values_of, text, line, column, sentence):
    with pytest.raises(ValueError) as error:
        values_of(text, 16)
    assert str(error.value).startswith(f"Line {line}, column {column}: {sentence}")


LONG = "x" * 100
LONG_ENTRIES = [
    LONG,
    f"1 {LONG}",
    f"1 {LONG}: 1",
    f"0: 1, {LONG}",
    f"0: `{LONG}`",
    f"0: --neg {LONG}",
    f'"{LONG}":',
    f"0: {LONG}",
]


@pytest.mark.parametrize("text", [*LONG_ENTRIES, *(entry.replace("x", "x\n") for entry in LONG_ENTRIES)])
@pytest.mark.parametrize("kind", READERS)
def test_an_error_quotes_at_most_forty_characters_of_one_line(kind, text):
    try:
        READERS[kind](text)
    except ValueError as error:
        assert "x" * 41 not in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 250


# Each pattern meets a long run of every sort of character behind each part of a key. A pattern that tried all ways to
# divide a run would take minutes, and the test's time limit would end it.
RUNS = [*' \t\n\r0a-.%"\\:=(),;`[+猫', '\\"', "--\n", "0:", "0 -", "0 a-", "- ", "a ", "1 ", "\n\t", "  b\n"]
BEGINNINGS = ["", "0", "0 ", "0 -", "0.", '"0', '"0 ', "0: ", "0: (", "0: 1", "0: 1 ", "0: 1 e", '0: "', '"0": "a" ']


@pytest.mark.timeout(100)
@pytest.mark.parametrize("kind", ["prompt", "number over the sampling"])
@pytest.mark.parametrize("run", RUNS)
def test_a_long_run_is_read_or_refused_in_linear_time(kind, run):
    for beginning in BEGINNINGS:
        for end in ("x", "\n:"):
            try:
                READERS[kind](beginning + run * (200_000 // len(run)) + end)
            except ValueError as error:
                assert re.match(r"Line \d+, column \d+: ", str(error))


@pytest.mark.parametrize("kind", READERS)
def test_many_short_keys_are_read_in_linear_time(kind):
    assert len(timeline.parse("0 hold: 1 \n" * 10_000, prompt_schedule.PROMPTS)) == 10_000
    READERS[kind]("0 hold: 1 \n" * 10_000)


@pytest.mark.timeout(100)
def test_a_head_is_refused_in_linear_time():
    """The most ways to divide a run are in the blanks around a position and its word."""
    for gap in (" " * 200_000, "\t" * 200_000):
        for text in (
            f"0{gap}x",
            f"0{gap}-{gap}x",
            f"0{gap}ease{gap}x",
            f'"0{gap}x',
            f'"0{gap}"{gap}x',
            f"0 {'a-' * 100_000}x;",
        ):
            assert HEAD.match(text) is None


# Documentation


@pytest.mark.parametrize("page", ["{}.md", "{}/zh.md"])
def test_both_help_pages_explain_the_same_grammar(page):
    paths = [REPO / "web" / "docs" / page.format(node) for node in ("ADN_PromptSchedule", "ADN_MotionCurve")]
    prompts, numbers = (path.read_text(encoding="utf-8").partition("\n## ")[2] for path in paths)
    assert prompts == numbers
    assert all(f"`{easing}`" in prompts for easing in EASINGS)


@KINDS
def test_the_positions_of_the_help_page_are_read(values_of):
    page = (REPO / "web" / "docs" / "ADN_PromptSchedule.md").read_text(encoding="utf-8")
    positions = [
        code for cell in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE) for code in re.findall("`(.*?)`", cell)
    ]
    assert positions == ["12", "-1", "0.5", "50%", "10-20", "12 ease"]
    for position in positions:
        assert values_of(f"0 hold: 0\n{position}: 1", 31)[30] == 1


def test_the_example_of_the_module_is_read():
    example = textwrap.dedent((inspect.getdoc(timeline) or "").split("\n\n")[1])
    keys = timeline.parse(example, curves.NUMBERS)
    assert [key.value for key in keys] == [0.2, 1, 0, 1, 0.4, 1, 0, 1, 1]
    assert keys[4].easing is EASINGS["ease"]
    assert keys[8].easing is EASINGS["hold"]


def test_the_grammar_and_prompts_need_neither_comfyui_nor_pytorch():
    probe = (
        "import sys, animatediff_native.sampling.timeline, animatediff_native.sampling.prompt_schedule\n"
        "sys.exit(', '.join(sys.modules.keys() & {'torch', 'comfy', 'numpy'}) or None)"
    )
    subprocess.run([sys.executable, "-c", probe], cwd=REPO, check=True)
