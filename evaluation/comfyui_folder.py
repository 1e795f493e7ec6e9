"""Where ComfyUI is, for `python -m training` and `python -m evaluation`, which run in the pack's folder."""

import sys
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent


def find_comfyui(folder: Path | None) -> None:
    """Make ComfyUI importable, before the pack, whose nodes/ would hide its nodes.py."""
    try:
        import comfy  # noqa: F401
    except ImportError:
        folder = folder or PACK.parent.parent
        if not (folder / "comfy").is_dir():
            raise SystemExit(f"There is no ComfyUI in {folder}: say where it is with --comfyui.") from None
        sys.path.insert(0, str(folder))
