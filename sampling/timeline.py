r"""Read the timeline grammar: values at frames of a clip, or at moments of its sampling. Needs no ComfyUI, no PyTorch.

    0: 0.2                 -- a frame, a colon and the value; two hyphens after a blank begin a comment
    0.5: 1                 -- with a decimal point it is a part of the clip, from 0.0 to 1.0; 50% is the same
    -1: 0                  -- negative frames count from the end
    10-20: 1               -- the value holds from frame 10 to frame 20
    30 ease: 0.4           -- the word leads to the next value: linear, ease, ease-in, ease-out or hold
    "40": 1, 44 = 0; 48: 1 -- quotation marks, =, commas and semicolons are read as other packs write them
    50: 1 hold             -- an easing behind a value is read too

Each sort of value brings its own reader, `Values`: prompts are in prompt_schedule.py, numbers in curves.py. Nothing is
evaluated. Reading takes time linear in the text: no two repetitions of a pattern can match the same run of characters.
"""

from __future__ import annotations

import logging
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, Generic, TypeVar

V = TypeVar("V")
Easing = Callable[[float], float]

EASINGS: dict[str, Easing] = {  # the last four are named as in CSS
    "linear": lambda t: t,
    "ease": lambda t: (1.0 - math.cos(math.pi * t)) / 2.0,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2.0 - t),
    "hold": lambda _: 0.0,
}

NUMBER = r"(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})"
WORD = r"[a-z][a-z-]*"
POSITION = rf"-?{NUMBER}%?"
BLANK = r"[^\S\n]"  # also the no-break space of web pages
HEAD = re.compile(
    rf'(")?{BLANK}*({POSITION})(?:{BLANK}*-{BLANK}*({POSITION}))?(?:{BLANK}+({WORD}))?(?(1){BLANK}*"){BLANK}*[:=]',
    re.IGNORECASE,
)
EASING_BEHIND = re.compile(rf"{BLANK}*({WORD})(?={BLANK}*(?:[,;\n]|\Z)|{BLANK}+--)", re.IGNORECASE)
QUOTE = re.compile(r'\s*"')
SEPARATORS = re.compile(r"[\s,;]*(?:--[^\n]*[\s,;]*)*")


@dataclass(frozen=True)
class Place:
    """A character of a text, for errors."""

    text: str = field(repr=False)
    at: int

    def __str__(self) -> str:
        line, column = self.text.count("\n", 0, self.at) + 1, self.at - self.text.rfind("\n", 0, self.at)
        return f"line {line}, column {column}"

    def error(self, sentence: str) -> ValueError:
        return ValueError(f"{str(self).capitalize()}: {sentence}")


@dataclass(frozen=True)
class Position:
    """The number of a frame, negative from the end of the clip, or a part of the clip."""

    number: Fraction
    whole: int
    """The number of the last frame: 1 for parts, 100 for percentages, 0 where frames are counted."""

    @property
    def relative(self) -> bool:
        return self.whole > 0

    def frame(self, frames: int, arithmetic: type[Any] = Fraction) -> Any:
        """Return the frame in a clip of so many, as a Fraction or float; it may lie outside, or between two frames."""
        number = arithmetic(self.number)
        if self.relative:
            return number / self.whole * (frames - 1)
        return number if number >= 0 else number + frames


@dataclass(frozen=True)
class Key(Generic[V]):
    """A value that holds from `first` to `last`, and goes over into the next key's from there."""

    first: Position
    last: Position
    easing: Easing
    value: V
    place: Place


@dataclass(frozen=True)
class Values(Generic[V]):
    """A sort of value: its name and an example for errors, and its reader.

    The reader takes the match of a key's `HEAD`, whose end is where the value begins, and returns the value and where
    it ends in the text.
    """

    name: str
    example: str
    read: Callable[[re.Match[str]], tuple[V, int]]


@dataclass(frozen=True)
class Span(Generic[V]):
    """A key in a clip of known length, with `start` and `end` in frames."""

    start: Any
    end: Any
    key: Key[V]


@dataclass(frozen=True)
class Blend(Generic[V]):
    """The values of one frame: `t` of the way from `first` to `second`, 0 <= t < 1."""

    first: V
    second: V
    t: float


def parse(text: str, values: Values[V], parts_only: bool = False) -> tuple[Key[V], ...]:
    """Return the keys in the order of the text.

    With `parts_only` every position is a part from 0 to 1, as over the sampling. ValueError names line and column.
    """
    keys: list[Key[V]] = []
    quoted, at = False, skip(SEPARATORS, text, 0)
    while at < len(text):
        head = HEAD.match(text, at)
        if head is None:
            raise missing_head(text, at, values.name, after_quoted=quoted)
        first = read_position(head, 2, parts_only)
        last = read_position(head, 3, parts_only) if head[3] else first
        value, end = values.read(head)
        easing, end = read_easing(head, end)
        keys.append(Key(first, last, easing=easing, value=value, place=Place(text, at)))
        quoted, at = QUOTE.match(text, head.end()) is not None, skip(SEPARATORS, text, end)
    if not keys:
        name = values.name
        raise Place(text, 0).error(f'there is no {name}: write "frame: {name}", such as "{values.example}".')
    return tuple(keys)


def skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a match of the pattern ends, or `at` without one."""
    match = pattern.match(text, at)
    return match.end() if match else at


def cut(text: str) -> str:
    """Return at most 40 characters of a line, for errors."""
    text = text.strip()
    return text if len(text) <= 40 else f"{text[:40]}..."


def read_position(head: re.Match[str], group: int, parts_only: bool) -> Position:
    written = head[group]
    whole = 100 if written.endswith("%") else int("." in written or parts_only)
    number = Fraction(written.rstrip("%"))
    if whole and not 0 <= number <= whole:
        fix = "clip: write a whole number for a frame, or a part from 0.0 to 1.0 or from 0% to 100%."
        if parts_only:
            fix = "sampling: write a part of it from 0 to 1, or from 0% to 100%."
        raise Place(head.string, head.start(group)).error(f'"{cut(written)}" lies outside the {fix}')
    return Position(number, whole)


def read_easing(head: re.Match[str], end: int) -> tuple[Easing, int]:
    """Return the easing of a key whose value ends at `end`, and where the key ends."""
    behind = EASING_BEHIND.match(head.string, end)
    match, group = (behind, 1) if behind else (head, 4)
    word, place = match[group], Place(head.string, match.start(group))
    if behind and head[4]:
        raise place.error(f'"{cut(word)}" is a second easing: write only one, before the colon.')
    if word and word.lower() not in EASINGS:
        raise place.error(f'"{cut(word)}" is not an easing: write one of {", ".join(EASINGS)}, or nothing.')
    return EASINGS[(word or "linear").lower()], behind.end() if behind else end


def missing_head(text: str, at: int, name: str, after_quoted: bool) -> ValueError:
    """Return the error for a line that does not begin with a position and a colon."""
    line, place = text[at:].partition("\n")[0], Place(text, at)
    hint = f', and \\" for a quotation mark inside the {name} before it' if after_quoted and line[0] != '"' else ""
    if not re.match(r'["\d.-]', line):
        return place.error(f'"{cut(line)}" does not begin with a frame number: write "frame: {name}"{hint}.')
    if not re.search("[:=]", line):
        return place.error(f'"{cut(line)}" has no colon after its frame number: write "frame: {name}"{hint}.')
    sentence = "write a frame such as 12, a part such as 0.5 or 50%, or a range such as 10-20"
    position = re.split("[:=]", line, maxsplit=1)[0].strip(' \t"')
    return place.error(f'"{cut(position)}" is not a frame: {sentence}{hint}.')


def spans(keys: Sequence[Key[V]], frames: int, arithmetic: type[Any] = Fraction, jumps: bool = False) -> list[Span[V]]:
    """Return the keys in the order of their frames, which are Fractions or floats.

    ValueError names both of two keys that claim the same frame. With `jumps` two keys may meet at one frame: the value
    jumps there, and the later one counts.
    """
    ends = ((key.first.frame(frames, arithmetic), key.last.frame(frames, arithmetic), key) for key in keys)
    ordered = sorted((Span(*end) for end in ends), key=lambda span: span.start)
    for span in ordered:
        if span.end < span.start:
            bounds = f"from frame {float(span.start):g} to {float(span.end):g}"
            raise span.key.place.error(f"this range runs backwards {bounds}: swap them.")
    for before, after in pairwise(ordered):
        if after.start < before.end or (after.start == before.end and not jumps):
            earlier, later = sorted((before.key.place, after.key.place), key=lambda place: place.at)
            sentence = f"frame {float(after.start):g} is already taken by {earlier}: give each line its own frames."
            raise later.error(sentence)
    return ordered


def blends(ordered: Sequence[Span[V]], frames: int) -> list[Blend[V]]:
    """Return the values of each frame. The first key's value holds before it, and the last key's after it."""
    starts = [span.start for span in ordered]
    return [blend_at(ordered, bisect_right(starts, frame), frame) for frame in range(frames)]


def blend_at(ordered: Sequence[Span[V]], begun: int, frame: int) -> Blend[V]:
    """Return the values of a frame by which `begun` of the spans have begun."""
    before = ordered[max(begun - 1, 0)]
    if begun in (0, len(ordered)) or frame <= before.end:
        return Blend(before.key.value, before.key.value, 0.0)
    after = ordered[begun]
    t = before.key.easing(float((frame - before.end) / (after.start - before.end)))
    return Blend(before.key.value, after.key.value, t)


def numbers_between(keys: Sequence[Key[Any]], frames: int, node: str, value: str) -> list[list[float]]:
    """Return the numbers of each frame, of keys that hold several. ValueError names two ranges that claim a frame."""
    ordered = spans(keys, frames, arithmetic=float, jumps=True)
    if ordered[-1].key.easing is not EASINGS["linear"]:
        logging.info(
            f"{node}: the easing of the last {value} does nothing, since an easing leads to the next {value}: move it "
            f"to the {value} before."
        )
    return [[a + b.t * (c - a) for a, c in zip(b.first, b.second, strict=True)] for b in blends(ordered, frames)]
