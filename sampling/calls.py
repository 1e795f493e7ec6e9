"""Frames of a clip that one UNet call holds, as context windows tell motion modules and other packs.

Needs no ComfyUI.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEY = "animatediff_native.call"
"""Under which Sliding Context puts a call's `CallFrames` into transformer_options."""
ATTENTION_WINDOWS = "animatediff_native.attention_windows"
"""Under which it puts a function of a device that returns the windows inside motion modules, or None."""


@dataclass(frozen=True)
class CallFrames:
    """The frames that a UNet call holds for each of its conds: one window of the clip, or several of equal length."""

    clip: int
    """Frames of the whole clip."""
    length: int
    """Frames of a window; they attend to each other."""
    indices: tuple[int, ...] | None = None
    """Frame numbers of all windows, one window after the other. None for the whole clip, or where nothing tells."""
    windows: int = 1
    loop: bool = False
    """Whether the clip's last frame comes before its first."""
    prompts: Mapping[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    """From the names that prompts have in this call to their own."""

    @classmethod
    def of_control(cls, frames: int, options: Mapping[str, Any]) -> CallFrames:
        """Return which frames a call of a ControlNet holds, if it holds so many for each cond."""
        of_window, window = options.get("ad_params", {}), options.get("context_window")
        clip = getattr(window, "total_frames", of_window.get("full_length", frames))
        return cls.from_options(clip, options) or cls(frames, frames)

    @classmethod
    def from_options(cls, clip: int, options: Mapping[str, Any]) -> CallFrames | None:
        """Read a call's transformer_options, as Sliding Context, ComfyUI's own windows or another pack fill them.

        Return None if nothing there tells which of the clip's frames the call holds.
        """
        if KEY in options:
            return options[KEY]
        if "context_window" in options:
            window = options["context_window"]
            anchor = getattr(window, "causal_anchor_index", None)  # a frame that ComfyUI puts before the window's own
            indices = (*(() if anchor is None else (anchor,)), *window.index_list)
        else:
            indices = options.get("ad_params", {}).get("sub_idxs")
        return None if indices is None else cls(clip, len(indices), tuple(indices))

    @property
    def frames(self) -> list[int]:
        """Return the frame numbers of all windows; where nothing tells, those of the whole clip."""
        return list(range(self.clip) if self.indices is None else self.indices)

    def ad_params(self) -> dict[str, Any]:
        """Return what IPAdapter_plus and Advanced-ControlNet read to slice their per-frame inputs to a window."""
        if self.indices is None:
            return {"full_length": self.clip, "context_length": self.length, "sub_idxs": None}
        return {"full_length": self.clip, "context_length": len(self.indices), "sub_idxs": list(self.indices)}
