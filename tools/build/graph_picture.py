"""Draws the README's picture of a graph: `python -m animatediff_native.tools.build.graph_picture`.

ComfyUI's page opens the example workflow and Chromium takes the picture. Empty files stand in for the published
models, so that the page finds the names which the workflow gives.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from ..chromium import find_chromium
from ..comfy_app import PACKS, REPO
from ..comfy_page import ComfyPage
from ..comfy_server import ComfyServer

WORKFLOW, OUTPUT = REPO / "workflows" / "text_to_animation.json", REPO / "demo" / "graph.png"
SCALE = 0.6  # of the canvas: text stays readable at the width that README pages have
LEFT, TOP = 120, 140  # pixels that the page's own bars take at most
MARGIN, TITLE = 16, 30  # around the nodes, in the picture's and in the canvas's pixels
SET = """async settings => {
    for (const [name, value] of Object.entries(settings)) await window.app.extensionManager.setting.set(name, value)
}"""


def add_model_names(workflow: dict[str, Any], base: Path) -> None:
    """Write an empty file for each model that the workflow's nodes name."""
    for node in workflow["nodes"]:
        for model in node.get("properties", {}).get("models", []):
            file = base / "models" / model["directory"] / model["name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def bounds(workflow: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return left, top, width and height of all nodes, on the canvas."""
    corners = [(*node["pos"], *node["size"]) for node in workflow["nodes"]]
    left, top = min(x for x, *_ in corners), min(y for _, y, *_ in corners) - TITLE
    right, bottom = max(x + width for x, _, width, _ in corners), max(y + height for _, y, _, height in corners)
    return left, top, right - left, bottom - top


def picture_size(workflow: dict[str, Any]) -> tuple[int, int]:
    """Return the width and height of the picture, in pixels."""
    _, _, width, height = bounds(workflow)
    return round(width * SCALE) + 2 * MARGIN, round(height * SCALE) + 2 * MARGIN


def take_picture(workflow: dict[str, Any], file: Path, comfyui: Path, chromium: str) -> None:
    """Write what ComfyUI's page shows of the whole workflow as a PNG."""
    left, top, *_ = bounds(workflow)
    width, height = picture_size(workflow)
    offset = (LEFT + MARGIN) / SCALE - left, (TOP + MARGIN) / SCALE - top
    size = width + 2 * LEFT, height + 2 * TOP
    with tempfile.TemporaryDirectory() as folder:
        add_model_names(workflow, Path(folder))
        packs = {"animatediff-native": PACKS["animatediff-native"]}
        server = ComfyServer(comfyui, Path(folder), packs)
        with server, ComfyPage(f"http://127.0.0.1:{server.port}", chromium, size=size) as page:
            missing = {node["type"] for node in workflow["nodes"] if node["type"].startswith("ADN_")}
            missing -= server.object_info().keys()
            if missing:
                sys.exit(f"ComfyUI has no node {', '.join(sorted(missing))}: the pack was not loaded.")
            page.browser.evaluate(SET, {"Comfy.VueNodes.Enabled": False, "Comfy.Minimap.Visible": False})
            page.load({**workflow, "extra": {"ds": {"scale": SCALE, "offset": list(offset)}}})
            page.browser.wait_for_timeout(1000)  # until text boxes lie where their nodes are
            page.browser.screenshot(path=file, clip={"x": LEFT, "y": TOP, "width": width, "height": height})
    with Image.open(file) as picture:
        picture.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflow", type=Path, default=WORKFLOW)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("Chromium is needed for this: install it with your system's package manager.")
    workflow = json.loads(options.workflow.read_text(encoding="utf-8"))
    take_picture(workflow, options.output, comfyui=Path(os.environ["ADN_COMFYUI"]), chromium=chromium)
    print(options.output)


if __name__ == "__main__":
    main()
