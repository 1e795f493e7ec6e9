"""ComfyUI with this pack and its demo models: `render` a workflow to files, or `serve` it to the browser.

tools/dev.py runs this inside the environment that it made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .comfy_server import ComfyServer, ServerError, device_arguments, free_port
from .workflow import with_stand_ins, workflow_to_prompt

REPO = Path(__file__).resolve().parent.parent
PACKS = {"animatediff-native": REPO, "comfyui-miniature": REPO / "demo" / "comfyui-miniature"}
FOLDERS = ("checkpoints", "controlnet", "loras", "animatediff_models", "animatediff_motion_lora")
INPUTS = sorted((REPO / "demo" / "input").iterdir())
MODELS = {name: REPO / "demo" / "models" / name for name in FOLDERS}
DEMO: dict[str, Any] = {"packs": PACKS, "models": MODELS, "inputs": INPUTS}


def render(options: argparse.Namespace) -> int:
    workflow = json.loads(options.workflow.read_text(encoding="utf-8"))
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="animatediff-native-") as base:
        print("Starting ComfyUI ...", flush=True)
        server = ComfyServer(options.comfyui, Path(base), **DEMO, arguments=device_arguments())
        try:
            with server:
                prompt = with_stand_ins(workflow_to_prompt(workflow, server.object_info()), stand_ins())
                outputs = server.submit(prompt, show_progress)
        except (ServerError, ValueError) as error:
            print(f"\n{server.log_tail()}\n\nThe workflow was not rendered. {error}", file=sys.stderr)
            return 1
        files = [keep(file, options.output) for file in server.output_files(outputs)]
    if not files:
        print("The workflow ran but saved no file.", file=sys.stderr)
        return 1
    print(f"\nRendered in {time.monotonic() - start:.0f} s:", *files, sep="\n  ")
    return 0


def stand_ins() -> dict[str, dict[str, Any]]:
    """Return the miniature's values for those that the example workflows have for the published models."""
    return json.loads((REPO / "demo" / "stand_ins.json").read_text(encoding="utf-8"))


def serve(options: argparse.Namespace) -> int:
    port = free_port(options.port)
    arguments = [*device_arguments(), "--disable-auto-launch" if options.no_browser else "--auto-launch"]
    server = ComfyServer(options.comfyui, options.base, **DEMO, arguments=arguments, port=port)
    print(f"ComfyUI will answer at http://127.0.0.1:{port}; Ctrl-C stops it.", flush=True)
    process = subprocess.Popen(server.command(), cwd=options.base)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        process.wait()


def show_progress(node: str, step: int, steps: int) -> None:
    """Print the progress: one line that is overwritten on a terminal, a line per finished node elsewhere."""
    line = f"{node}: {step}/{steps}"
    if sys.stdout.isatty():
        print(f"\r{line:<60}", end="", flush=True)
    elif step == steps:
        print(line, flush=True)


def keep(file: Path, folder: Path) -> Path:
    """Move a file into `folder` under the first name of its kind that is free."""
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / file.name, 1
    while target.exists():
        number += 1
        target = folder / f"{file.stem}-{number}{file.suffix}"
    shutil.move(file, target)
    return target


def stop(*_) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(comfyui=Path(os.environ["ADN_COMFYUI"]))
    actions = parser.add_subparsers(required=True)

    rendering = actions.add_parser("render")
    rendering.add_argument("--workflow", type=Path, required=True)
    rendering.add_argument("--output", type=Path, required=True)
    rendering.set_defaults(action=render)

    serving = actions.add_parser("serve")
    serving.add_argument("--base", type=Path, required=True, help="what ComfyUI keeps from one time to the next")
    serving.add_argument("--port", type=int, default=8188)
    serving.add_argument("--no-browser", action="store_true")
    serving.set_defaults(action=serve)

    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        return options.action(options)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
