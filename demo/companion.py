"""Imports the companion pack, which has a hyphen in its name, the way ComfyUI does."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

NAME = "comfyui_miniature"
FOLDER = Path(__file__).parent / "comfyui-miniature"


def companion() -> ModuleType:
    """The pack; ComfyUI then recognises the miniature checkpoint. Its vocabulary is in `.words`."""
    if NAME not in sys.modules:
        file = FOLDER / "__init__.py"
        spec = importlib.util.spec_from_file_location(NAME, file, submodule_search_locations=[str(FOLDER)])
        assert spec and spec.loader
        module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[NAME]
