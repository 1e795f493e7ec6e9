r"""Prompts over time: a small grammar, and which prompts each frame shows. Needs no ComfyUI.

    0: a seed                  -- a frame and its prompt, and after two hyphens a comment
    0.5: a sprout              -- with a decimal point it is a part of the clip, from 0.0 to 1.0; 50% is the same
    -1: a tree                 -- negative frames count from the end
    10-20: a bird              -- the prompt holds from frame 10 to frame 20
    30 hold: a fish            -- the word is the way to the next prompt: linear, ease, ease-in, ease-out or hold
        in the sea             -- an indented line continues the prompt above
    "40": "a (dog:1.2)",       -- the lists of other packs, with : or =; \" is a quotation mark inside

A frame and a colon at the start of a line make a keyframe; all other colons belong to the prompt. A prompt that begins
with a quotation mark ends at the next one, and any other at the end of its line. Nothing is evaluated.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

Easing = Callable[[float], float]

FRAME = r"-?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})%?"
HEAD = re.compile(
    rf'("?)[ \t]*({FRAME})(?:[ \t]*-[ \t]*({FRAME}))?(?:[ \t]+([a-z-]+))?[ \t]*\1[ \t]*[:=](?:\s*(?=")|[ \t]*)',
    re.IGNORECASE,
)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\s*,)*', re.DOTALL)
ESCAPED = re.compile(r'\\(["\\n])')
COMMENT = re.compile(r"(?<!\S)--")  # so "well--known" is none
UNSUPPORTED = {
    "`": "an expression in backticks is not supported: write its value, with a keyframe wherever it changes.",
    "--neg": "--neg is not supported: write what to avoid in a second Prompt Schedule, for the negative.",
}
JOINT = " \t\n,"


@dataclass(frozen=True)
class Position:
    """In a clip: the number of a frame, or with a negative one counted from the end; or a part of the clip."""

    number: Fraction
    relative: bool
    """Whether it is a part of the way from the first frame to the last."""

    def frame(self, frames: int) -> Fraction:
        """May lie outside of the clip, and between two frames."""
        if self.relative:
            return self.number * (frames - 1)
        return self.number if self.number >= 0 else self.number + frames


@dataclass(frozen=True)
class Key:
    """A prompt that holds from `first` to `last`, and from there goes over into the next key's."""

    first: Position
    last: Position
    easing: Easing
    prompt: str
    place: tuple[int, int]
    """Line and column in the text, from 1."""


@dataclass(frozen=True)
class Span:
    """A key in a clip of known length."""

    start: Fraction
    end: Fraction
    key: Key


@dataclass(frozen=True)
class Blend:
    """What one frame shows: `t` of the way from prompt `first` to prompt `second`, 0 <= t < 1."""

    first: str
    second: str
    t: float


def parse(text: str, easings: Mapping[str, Easing]) -> tuple[Key, ...]:
    """Keys in the order of the text. ValueError says line and column of what is none."""
    keys: list[Key] = []
    quoted, at = False, skip(text, 0)
    while at < len(text):
        head = HEAD.match(text, at)
        if head is not None:
            quoted = text.startswith('"', head.end())
            prompt, at = read_quoted(text, head.end()) if quoted else read_line(text, head.end())
            keys.append(read_key(text, head, easings, prompt))
        elif keys and not quoted and text[at - 1] != "\n":
            line, at = read_line(text, at)
            keys[-1] = replace(keys[-1], prompt=f"{keys[-1].prompt} {line}".strip())
        else:
            raise no_keyframe(text, at, quoted)
        at = skip(text, at)
    if not keys:
        raise located(text, 0, 'there is no prompt: write "frame: prompt", such as "0: a seed".')
    return tuple(keys)


def skip(text: str, at: int) -> int:
    """Where blanks and comments end."""
    while at < len(text) and (text[at].isspace() or text.startswith("--", at)):
        at = at + 1 if text[at].isspace() else end_of_line(text, at)
    return at


def end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def read_line(text: str, at: int) -> tuple[str, int]:
    """A prompt, or a further line of one, up to a comment or the end of the line; and where that is."""
    end = end_of_line(text, at)
    comment = COMMENT.search(text, at, end)
    end = comment.start() if comment else end
    return supported(text, at, end).strip(), end


def read_quoted(text: str, at: int) -> tuple[str, int]:
    """The prompt in the quotation marks, and where they and the comma after them end."""
    found = QUOTED.match(text, at)
    if found is None:
        raise located(text, at, 'this quotation mark is never closed: write " after the prompt, and \\" inside it.')
    supported(text, *found.span(1))
    return ESCAPED.sub(lambda m: "\n" if m[1] == "n" else m[1], found[1]), found.end()


def supported(text: str, start: int, end: int) -> str:
    for mark, sentence in UNSUPPORTED.items():
        at = text.find(mark, start, end)
        if at >= 0:
            raise located(text, at, sentence)
    return text[start:end]


def read_key(text: str, head: re.Match[str], easings: Mapping[str, Easing], prompt: str) -> Key:
    quote, _, last, easing = head.groups()
    if quote and text[head.end() : head.end() + 1] != '"':
        raise located(text, head.end(), f"a prompt after {head[0].strip()} needs quotation marks too.")
    if easing and easing.lower() not in easings:
        raise located(text, head.start(4), f'"{easing}" is no easing: write one of {", ".join(easings)}, or nothing.')
    first = read_position(text, head, 2)
    return Key(
        first,
        read_position(text, head, 3) if last else first,
        easings[(easing or "linear").lower()],
        prompt,
        place_of(text, head.start()),
    )


def read_position(text: str, head: re.Match[str], group: int) -> Position:
    written = head[group]
    relative = "." in written or written.endswith("%")
    number = Fraction(written.rstrip("%")) / (100 if written.endswith("%") else 1)
    if relative and not 0 <= number <= 1:
        sentence = "a number with a decimal point is a part of it, from 0.0 to 1.0, and so is one from 0% to 100%."
        raise located(text, head.start(group), f'"{written}" lies outside of the clip: {sentence}')
    return Position(number, relative)


def no_keyframe(text: str, at: int, after_quoted: bool) -> ValueError:
    line = text[at : end_of_line(text, at)].rstrip()
    shown = line if len(line) <= 40 else f"{line[:40]}..."
    hint = ', and \\" for a quotation mark inside the prompt before it' if after_quoted and line[0] != '"' else ""
    if not re.match(r'["\d.-]', line):
        return located(text, at, f'"{shown}" has no frame number in front: write "frame: prompt"{hint}.')
    if not re.search("[:=]", line):
        return located(text, at, f'"{shown}" has no colon after its frame number: write "frame: prompt"{hint}.')
    found = re.split("[:=]", line)[0].strip(' \t"')
    sentence = "write a frame such as 12, a part such as 0.5 or 50%, or a range such as 10-20"
    return located(text, at, f'"{found}" is no frame: {sentence}{hint}.')


def place_of(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def located(text: str, at: int, sentence: str) -> ValueError:
    return at_place(place_of(text, at), sentence)


def at_place(place: tuple[int, int], sentence: str) -> ValueError:
    return ValueError(f"Line {place[0]}, column {place[1]}: {sentence}")


def blends(keys: Sequence[Key], frames: int) -> list[Blend]:
    """What each frame shows. Before the first key its prompt holds, and after the last key that one's."""
    spans = spread(keys, frames)
    starts = [span.start for span in spans]
    return [blend_at(spans, bisect_right(starts, frame), frame) for frame in range(frames)]


def blend_at(spans: Sequence[Span], begun: int, frame: int) -> Blend:
    """`begun` of the spans begin at this frame or before."""
    before = spans[max(begun - 1, 0)]
    if begun in (0, len(spans)) or frame <= before.end:
        return Blend(before.key.prompt, before.key.prompt, 0.0)
    after = spans[begun]
    t = before.key.easing(float((frame - before.end) / (after.start - before.end)))
    return Blend(before.key.prompt, after.key.prompt, t)


def spread(keys: Sequence[Key], frames: int) -> list[Span]:
    """Keys in the order of their frames. ValueError names both of two that claim the same frame."""
    frames = max(frames, 2)  # a single frame is the beginning of a clip
    spans = sorted(
        (Span(key.first.frame(frames), key.last.frame(frames), key) for key in keys), key=lambda span: span.start
    )
    for span in spans:
        if span.end < span.start:
            sentence = f"this range goes back from frame {float(span.start):g} to {float(span.end):g}: swap them."
            raise at_place(span.key.place, sentence)
    for before, after in pairwise(spans):
        if after.start <= before.end:
            earlier, later = sorted((before.key.place, after.key.place))
            other = f"line {earlier[0]}, column {earlier[1]}"
            sentence = f"frame {float(after.start):g} already has the prompt of {other}: give each its own frames."
            raise at_place(later, sentence)
    return spans


def distinct_prompts(shown: Sequence[Blend]) -> list[str]:
    """All that have to be encoded, each once."""
    return list(dict.fromkeys(prompt for b in shown for prompt in ((b.first, b.second) if b.t else (b.first,))))


def join(*parts: str) -> str:
    """Parts of a prompt with one comma between them; empty ones are left out. A single part stays as it is."""
    joined, *others = [part for part in parts if part.strip(JOINT)] or [""]
    for part in others:
        joined = f"{joined.rstrip(JOINT)}, {part.lstrip(JOINT)}"
    return joined
