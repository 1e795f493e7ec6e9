"""Build the example workflows and the blueprint in ComfyUI's page.

    python tools/dev.py run -- python -m animatediff_native.tools.build.templates.build

graphs.py and blueprints.py describe them. The page creates the nodes, measures them and saves the graph, so the files
are what a user would have saved. This script only lays the nodes out, from left to right. `--check` writes nothing and
names the files that differ.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .blueprints import BLUEPRINTS, Blueprint
from .graph import Graph, Node
from .graphs import TEMPLATES
from .keyframe_graphs import KEYFRAME_TEMPLATES
from .parts import SIZE

ROOT = Path(__file__).resolve().parents[3]
PACK = "animatediff-native"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
GAP, TITLE = 60, 30  # pixels between nodes, and of a title bar; Vue nodes are a little taller
WIDTH = {"MarkdownNote": 420, "CLIPTextEncode": 340, "ADN_PromptSchedule": 340, "SaveVideo": 340}
WIDTH |= {"SaveAnimatedWEBP": 340, "ADN_ScoreAnimation": 340, "PreviewImage": 340}
# Extra height, in pixels, for what a node shows when it runs.
SHOWN = {
    "KSampler": 280,
    "ADN_SlidingContext": 130,
    "SaveVideo": 300,
    "SaveAnimatedWEBP": 280,
    "PreviewImage": 260,
    "LoadVideo": 260,
    "LoadImage": 260,
    "ADN_KeyframeImages": 160,
    "ADN_ScoreAnimation": 160,
    "ADN_TrainMotionLora": 240,
    "CLIPTextEncode": 60,
    "ADN_PromptSchedule": 120,
    "ADN_MotionCurve": 40,
    "MarkdownNote": 200,
}
# What a person sets in app mode, from top to bottom: widgets by their node's title or type.
APP_INPUTS = {
    "LoadVideo": ("file",),
    "LoadImage": ("image",),
    "ADN_KeyframeImages": ("frames",),
    "What the video shows": ("text",),
    "Prompt": ("text",),
    "ADN_PromptSchedule": ("prompts",),
    "Negative prompt": ("text",),
    SIZE: ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "ADN_LoadMotionModule": ("motion_module",),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CreateHookLora": ("lora_name",),
    "ADN_LoadMotionLora": ("motion_lora", "strength"),
    "ADN_MergeMotionModules": ("ratio",),
    "ADN_MotionCurve": ("keyframes",),
    "ADN_SlidingContext": ("context_length", "schedule"),
    "ADN_LoadSparseCtrl": ("sparse_ctrl",),
    "ADN_TrainMotionLora": ("steps",),
    "KSampler": ("seed", "steps", "cfg"),
}
APP_OUTPUTS = ("SaveVideo", "SaveAnimatedWEBP", "PreviewImage")

BUILD = """async ({nodes, gap, title}) => {
    const graph = window.app.rootGraph, created = {}
    window.app.graph.clear()
    for (const {key, type, name, widgets, properties} of nodes) {
        const node = created[key] = LiteGraph.createNode(type)
        if (!node) throw new Error(`The page has no node ${type}.`)
        graph.add(node)
        if (name) node.title = name
        const prompt = node.inputs.find(input => input.widget?.name === 'text')
        if (name && prompt) prompt.label = name  // in app mode the node's title is not seen
        Object.assign(node.properties, properties)
        for (const [name, value] of Object.entries(widgets)) {
            const widget = node.widgets.find(widget => widget.name === name)
            if (!widget) throw new Error(`${type} has no widget ${name}.`)
            widget.value = value
            widget.callback?.(value)
        }
    }
    for (const {key, links} of nodes)
        for (const [input, [source, output]] of Object.entries(links)) {
            const from = created[source].findOutputSlot(output), to = created[key].findInputSlot(input)
            if (from < 0 || to < 0) throw new Error(`${source}.${output} or ${key}.${input} is not a socket.`)
            created[source].connect(from, created[key], to)
        }
    const columns = []
    for (const {key, column, width, shown} of nodes) {
        const [minimum, height] = created[key].computeSize()
        created[key].setSize([Math.max(width ?? 270, minimum), height + shown])
        ;(columns[column] ??= []).push(created[key])
    }
    let x = 0
    for (const column of columns) {
        let y = 0
        for (const node of column) {
            node.pos = [x, y]
            y += node.size[1] + title + gap
        }
        x += Math.max(...column.map(node => node.size[0])) + gap
    }
    window.app.canvas.ds.reset()
    return JSON.stringify(graph.serialize())
}"""


# Encloses all nodes in one, with the widgets in `inputs` and the sockets in `outputs` under the names given there.
ENCLOSE = """({name, description, category, inputs, outputs}) => {
    const graph = window.app.rootGraph
    const {subgraph, node} = graph.convertToSubgraph(new Set(graph.nodes))
    for (const input of [...subgraph.inputs]) subgraph.removeInput(input)  // those that the page chose
    subgraph.name = node.title = name
    Object.assign(subgraph, {description, category})
    const inner = title => subgraph.nodes.find(node => node.title === title || node.type === title)
    for (const [title, widget, label] of inputs) {
        const owner = inner(title), slot = owner.inputs.find(slot => slot.widget?.name === widget)
        const input = subgraph.addInput(label, slot.type)
        input.connect(slot, owner)
    }
    for (const [title, output, label] of outputs) {
        const owner = inner(title), slot = owner.outputs.find(slot => slot.name === output)
        subgraph.addOutput(label, slot.type).connect(slot, owner)
    }
    node.pos = [0, 0]
    node.setSize([320, node.computeSize()[1]])
    return JSON.stringify(graph.serialize())
}"""


def describe(node: Node, version: str) -> dict[str, Any]:
    """Return a node as BUILD takes it."""
    own = node.type.startswith("ADN_")
    properties: dict[str, Any] = {"cnr_id": PACK, "ver": version} if own else {"cnr_id": "comfy-core"}
    if node.models:
        properties["models"] = [model._asdict() for model in node.models]
    if node.type == "MarkdownNote":
        properties = {}
    return {
        "key": node.key,
        "type": node.type,
        "name": node.title,
        "widgets": node.widgets,
        "links": node.links,
        "properties": properties,
        "column": node.column,
        "width": WIDTH.get(node.type),
        "shown": SHOWN.get(node.type, 0),
    }


def build(page: Any, template: Callable[[Graph], None], version: str) -> dict[str, Any]:
    """Return the workflow of a template; the same page gives the same workflow."""
    graph = Graph()
    template(graph)
    nodes = [describe(node, version) for node in graph.nodes]
    workflow = json.loads(page.browser.evaluate(BUILD, {"nodes": nodes, "gap": GAP, "title": TITLE}))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{template.__name__}"))
    view = {"scale": 0.7, "offset": [80, 120]}
    workflow["extra"] = {"ds": view, "linearData": app_mode(graph)}
    return workflow


def app_mode(graph: Graph) -> dict[str, list[Any]]:
    """Return the inputs and outputs that ComfyUI's app mode shows; the page numbers nodes as the graph does."""
    inputs = [
        [node.key, widget]
        for name, widgets in APP_INPUTS.items()
        for node in graph.nodes
        if name in (node.title, node.type)
        for widget in widgets
    ]
    return {"inputs": inputs, "outputs": [node.key for node in graph.nodes if node.type in APP_OUTPUTS]}


def build_blueprint(page: Any, blueprint: Blueprint, version: str) -> dict[str, Any]:
    """Return the blueprint's file; its random ids become those that its name gives."""
    graph = Graph()
    blueprint.graph(graph)
    nodes = [describe(node, version) for node in graph.nodes]
    page.browser.evaluate(BUILD, {"nodes": nodes, "gap": GAP, "title": TITLE})
    description = {name: value for name, value in asdict(blueprint).items() if name != "graph"}
    text = page.browser.evaluate(ENCLOSE, description)
    for number, random_id in enumerate(sorted(set(UUID.findall(text)), key=text.index)):
        text = text.replace(random_id, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{blueprint.name}/{number}")))
    workflow = json.loads(text)
    workflow["extra"] = {"BlueprintDescription": blueprint.description}
    return workflow


def write(workflow: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    import tomllib

    from ...chromium import find_chromium
    from ...comfy_app import DEMO
    from ...comfy_page import ComfyPage
    from ...comfy_server import ComfyServer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*", help="build only these; default: all")
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("Chromium is needed for this: install it with your system's package manager.")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changed = []
    with tempfile.TemporaryDirectory() as base:
        server = ComfyServer(Path(os.environ["ADN_COMFYUI"]), Path(base), **DEMO)
        with server, ComfyPage(f"http://127.0.0.1:{server.port}", chromium) as page:
            templates = *TEMPLATES, *KEYFRAME_TEMPLATES
            builders = {f"workflows/{item.__name__}.json": partial(build, page, item) for item in templates}
            builders |= {f"subgraphs/{item.name}.json": partial(build_blueprint, page, item) for item in BLUEPRINTS}
            for name, build_file in builders.items():
                file = ROOT / name
                if options.names and file.stem not in options.names:
                    continue
                workflow = build_file(version)
                if not file.exists() or json.loads(file.read_text(encoding="utf-8")) != workflow:
                    changed.append(name)
                    if not options.check:
                        write(workflow, file)
    print(f"{'different' if options.check else 'written'}: {', '.join(changed) or 'none'}")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
