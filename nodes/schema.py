"""The schema of the pack's nodes."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io


@dataclass
class Schema(io.Schema):
    """A schema in which every input with a default is optional.

    Prompts and scripts that were saved before an input existed stay valid. On screen the inputs are widgets as ever.
    """

    def __post_init__(self) -> None:
        for entry in self.inputs:
            widget = getattr(entry, "input_override", None) or entry  # a number that also takes a link has it inside
            if getattr(widget, "default", None) is not None:
                entry.optional = True
