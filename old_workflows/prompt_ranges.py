"""The way ComfyUI-AnimateDiff-Evolved writes the frames of a prompt. Needs no ComfyUI."""

from __future__ import annotations

import re

# Begins at a quotation mark, or where a run of blanks or digits does, and has no two blanks in a row that could divide
# one run between them: every run is read once.
RANGE = re.compile(
    r'(?:(")|(?<![\d. \t-]))[ \t]*(-?[\d.]{1,20})[ \t]*:(?:[ \t]*(-?[1-9]\d{0,20}(?:\.\d*)?|0?\.\d+))?(?(1)[ \t]*")'
    r'(?=\s*[:=]\s*")'
)


def as_prompt_schedule(text: str) -> str:
    """Return the same prompts for Prompt Schedule: `0:` holds until the next prompt, `2:8` until frame 7, `0:0.5`
    until just before the half."""

    def reworded(match: re.Match[str]) -> str:
        quote, first, end = match.groups("")
        return f"{quote}{first}-{before(end)}{quote}" if end else f"{quote}{first} hold{quote}"

    return RANGE.sub(reworded, text)


def before(end: str) -> str:
    """Return the last position of a range that leaves out its end."""
    return f"{max(0.0, float(end) - 0.0001):g}" if "." in end else str(int(end) - 1)
