"""Gives this folder its one name outside ComfyUI, `animatediff_native`, and starts ComfyUI's modules there.

ComfyUI loads the folder by its path. Everything else (tests, training, evaluation, benchmarks, tools) runs with this
folder on sys.path and imports `animatediff_native.sampling` and the like.
"""

from __future__ import annotations

import os
import sys
from typing import Any

FOLDER = os.path.dirname(os.path.abspath(__file__))
__path__ = [FOLDER]
# Behind ComfyUI, whose nodes.py this folder's nodes/ would hide; Python itself puts the current folder first.
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != FOLDER] + [FOLDER]


def start_comfyui(comfyui: str | os.PathLike[str] | None = None, cpu: bool = False, **arguments: Any) -> None:
    """Make ComfyUI importable, and tell it before its first import whether there is a GPU.

    `comfyui` is its folder, by default the one whose custom_nodes holds this pack. `cpu` leaves a GPU unused, and
    `arguments` are more of ComfyUI's command line, by their names there.
    SystemExit if there is no ComfyUI.
    """
    try:
        import comfy
    except ImportError:
        folder = os.path.abspath(comfyui or os.path.join(FOLDER, "..", ".."))
        if not os.path.isdir(os.path.join(folder, "comfy")):
            raise SystemExit(f"There is no ComfyUI in {folder}: say where it is with --comfyui.") from None
        sys.path.insert(0, folder)
    import comfy.cli_args
    import torch

    devices = (torch.cuda, torch.xpu, torch.backends.mps)
    arguments["cpu"] = cpu or not any(device.is_available() for device in devices)
    vars(comfy.cli_args.args).update(arguments)
    import utils.extra_config  # noqa: F401 - as main.py does: older ComfyUIs' nodes.py hides the package `utils`
