"""Trains motion: `python -m training --config my_run.toml`, or on several GPUs `accelerate launch -m training ...`.

Run it in the pack's folder. ComfyUI is found there if the pack is installed in its custom_nodes, or by --comfyui.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent


def start_comfyui() -> None:
    """Settings that ComfyUI reads when its modules are first imported."""
    import torch
    from comfy.cli_args import args

    args.cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="a TOML file, see training/examples")
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder")
    options = parser.parse_args()
    # The folders of the pack import each other as parts of one package, which has no name outside of ComfyUI.
    package = types.ModuleType("animatediff_native")
    package.__path__ = [str(PACK)]
    sys.modules[package.__name__] = package
    importlib.import_module("animatediff_native.evaluation.comfyui_folder").find_comfyui(options.comfyui)
    start_comfyui()
    command = importlib.import_module("animatediff_native.training.command")
    sys.exit(command.run(options.config))


if __name__ == "__main__":
    main()
