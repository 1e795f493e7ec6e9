r"""Read prompts in the timeline grammar, and return those of each frame. Needs neither ComfyUI nor PyTorch.

    0: a seed                  -- a frame and its prompt
    0.5: a sprout              -- half of the clip
    -1: a tree                 -- the last frame
    10-20: a bird              -- from frame 10 to frame 20
    30 hold: a fish            -- holds until the next prompt
        in the sea             -- an indented line continues the prompt above
    "40": "a (dog:1.2)",       -- the lists of other packs; \" is a quotation mark inside

A position and a colon at the start of a line make a key; all other colons belong to the prompt. A prompt that begins
with a quotation mark ends at the next one, and any other at the end of its line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import timeline
from .timeline import HEAD, Blend, Key, Place, Values, cut, skip

BEGINNING = re.compile(r'\s*(?=")|[ \t]*')  # a prompt in quotation marks may stand on a line of its own
QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
ESCAPED = re.compile(r'\\(["\\n])')
COMMENT = re.compile(r"(?<!\S)--")  # "well--known" contains none
BLANKS = re.compile(r"\s*(?:--[^\n]*\s*)*")
UNSUPPORTED = {
    "`": "an expression in backticks is not supported: write its value, with a keyframe wherever it changes.",
    "--neg": "--neg is not supported: write what to avoid in a second Prompt Schedule, for the negative.",
}
MARKS = re.compile("|".join(UNSUPPORTED))
JOINT = " \t\n,"


def parse(text: str) -> tuple[Key[str], ...]:
    """Return the prompts in the order of the text. ValueError names the line and column of a mistake."""
    return timeline.parse(text, PROMPTS)


def read_prompt(head: re.Match[str]) -> tuple[str, int]:
    """Return the prompt behind a key's head, with the indented lines that continue it, and its end in the text."""
    text = head.string
    at = skip(BEGINNING, text, head.end())
    if text.startswith('"', at):
        return read_quoted(text, at)
    if head[1]:
        raise Place(text, at).error(f"the prompt after {cut(head[0])} needs quotation marks too.")
    line, end = read_line(text, at)
    lines = [line]
    while (at := skip(BLANKS, text, end)) < len(text) and text[at - 1] != "\n" and not HEAD.match(text, at):
        line, end = read_line(text, at)
        lines.append(line)
    return " ".join(lines).strip(), end


def read_line(text: str, at: int) -> tuple[str, int]:
    """Return one line of a prompt without its comment, and its end in the text."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    comment = COMMENT.search(text, at, end)
    end = comment.start() if comment else end
    return supported(text, at, end).strip(), end


def read_quoted(text: str, at: int) -> tuple[str, int]:
    """Return the prompt inside the quotation marks, and their end in the text."""
    match = QUOTED.match(text, at)
    if match is None:
        sentence = 'this quotation mark is never closed: write " after the prompt, and \\" inside it.'
        raise Place(text, at).error(sentence)
    prompt = supported(text, *match.span(1))
    return ESCAPED.sub(lambda escaped: "\n" if escaped[1] == "n" else escaped[1], prompt), match.end()


def supported(text: str, start: int, end: int) -> str:
    """Return that part of the text. ValueError names syntax of other packs that Prompt Schedule does not have."""
    mark = MARKS.search(text, start, end)
    if mark:
        raise Place(text, mark.start()).error(UNSUPPORTED[mark[0]])
    return text[start:end]


PROMPTS = Values("prompt", "0: a seed", read_prompt)


def blends(keys: Sequence[Key[str]], frames: int) -> list[Blend[str]]:
    """Return the prompts of each frame. A single frame is the beginning of a clip."""
    return timeline.blends(timeline.spans(keys, max(frames, 2)), frames)


def distinct_prompts(shown: Sequence[Blend[str]]) -> list[str]:
    """Return the prompts that have to be encoded, each once."""
    return list(dict.fromkeys(prompt for b in shown for prompt in ((b.first, b.second) if b.t else (b.first,))))


def join(*parts: str) -> str:
    """Join parts of a prompt with one comma between them; empty ones are left out, and a single one stays as it is."""
    joined, *rest = [part for part in parts if part.strip(JOINT)] or [""]
    for part in rest:
        joined = f"{joined.rstrip(JOINT)}, {part.lstrip(JOINT)}"
    return joined
