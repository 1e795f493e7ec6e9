"""Imports the companion pack, whose name has a hyphen and does not fit an import statement."""

import importlib
from types import ModuleType


def companion() -> ModuleType:
    """Return the pack, after whose import ComfyUI recognises the miniature checkpoint. Its vocabulary is `.words`."""
    return importlib.import_module(".comfyui-miniature", __package__)
