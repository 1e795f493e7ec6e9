"""Graphs in the page: made by hand, with nodes from the library and links drawn by mouse, or opened as examples."""

from __future__ import annotations

from typing import Any

import pytest
from page_support import NEWEST, VUE, each_frontend, example
from server_support import NODES, WORKFLOWS

from animatediff_native.tools.workflow import workflow_to_prompt

EXAMPLES = [path.stem for path in WORKFLOWS]


@pytest.fixture
def library(page):
    page.clear()
    tab = page.browser.get_by_role("button", name="Node Library")
    tab.click()
    yield
    tab.click()


@each_frontend
def test_every_node_is_dragged_from_the_library(page, server, library, picture):
    info = server.object_info()
    for node in NODES:
        page.drag_from_library(info[node]["display_name"], 900, 200)
        page.browser.wait_for_function("() => window.app.graph.nodes.length === 1")
        assert [node["type"] for node in page.workflow()["nodes"]] == [node]
        if node != NODES[-1]:
            page.clear()
    assert page.errors == []
    picture()


def test_every_node_is_drawn(page):
    page.clear()
    page.browser.evaluate("nodes => nodes.forEach(node => window.app.graph.add(LiteGraph.createNode(node)))", NODES)
    page.settle()
    assert [node["type"] for node in page.workflow()["nodes"]] == [*NODES]
    assert page.errors == []


ADD = """([type, x, y]) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    window.app.graph.add(node)
}"""
HEIGHTS = """() => Object.fromEntries(window.app.graph.nodes.map(node =>
    [node.type, document.querySelector(`[data-node-id="${node.id}"]`).offsetHeight]))"""
SHRINK = "() => window.app.graph.nodes.forEach(node => node.setSize([node.size[0], 0]))"


@pytest.mark.parametrize("frontend", [VUE, NEWEST], indirect=True)
def test_inputs_that_are_hidden_leave_no_space(page, server):
    """A node is as high as what it shows: it grows no smaller. A text takes whatever space there is."""
    page.clear()
    for number, node in enumerate(NODES):
        inputs = server.object_info()[node]["input"]
        settings = [options for _, options in (inputs.get("required", {}) | inputs.get("optional", {})).values()]
        advanced, multiline = (any(entry.get(name) for entry in settings) for name in ("advanced", "multiline"))
        if advanced and not multiline:
            page.browser.evaluate(ADD, [node, 500 * (number % 6), 700 * (number // 6)])
    page.fit()
    page.settle()
    heights = page.browser.evaluate(HEIGHTS)
    page.browser.evaluate(SHRINK)
    page.settle()
    assert len(heights) > 5
    assert heights == page.browser.evaluate(HEIGHTS)
    page.load(example("text_to_animation"))
    page.settle()
    opened = page.browser.evaluate(HEIGHTS)
    assert opened["ADN_ApplyAnimateDiff"] == heights["ADN_ApplyAnimateDiff"]


OLD_NAMES = {
    "AnimateDiff Loader": "Load Motion Module",
    "Evolved Sampling": "Apply AnimateDiff",
    "AnimateDiff LoRA": "Load Motion LoRA",
    "Context Options": "Sliding Context",
    "Looped Uniform": "Sliding Context",
    "Sample Settings": "Clip Noise",
    "Batch Prompt Schedule": "Prompt Schedule",
    "Iteration Options": "FreeInit",
    "Multival": "Motion Strength",
    "Value Schedule": "Motion Curve",
    "Motion Director": "Train Motion LoRA",
}


@each_frontend
def test_the_names_of_the_old_packs_find_our_nodes(page, library):
    for old, new in OLD_NAMES.items():
        page.search_library(old).filter(has_text=new).first.wait_for()


def test_nodes_are_connected_with_the_mouse(page, library, picture):
    page.drag_from_library("Load Motion Module", 420, 200)
    page.drag_from_library("Apply AnimateDiff", 900, 200)
    page.settle()
    load, apply = page.browser.evaluate(
        """() => {
            const rect = window.app.canvas.canvas.getBoundingClientRect(), [load, apply] = window.app.graph.nodes
            const place = ([x, y]) => {
                const [left, top] = window.app.canvas.ds.convertOffsetToCanvas([x, y])
                return [rect.left + left, rect.top + top]
            }
            return [place(load.getOutputPos(0)), place(apply.getInputPos(1))]
        }"""
    )
    mouse = page.browser.mouse
    mouse.move(*load)
    mouse.down()
    mouse.move((load[0] + apply[0]) / 2, apply[1], steps=5)
    mouse.move(*apply, steps=5)
    mouse.up()
    (link,) = page.workflow()["links"]
    assert link[-1] == "MOTION_MODEL_ADN"
    picture()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_opens_whole(page, server, name, picture):
    saved = example(name)
    page.load(saved)
    nodes = page.workflow()["nodes"]
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in saved["nodes"])
    assert list(overlaps(nodes)) == []
    prompt = {key: (node["class_type"], node["inputs"]) for key, node in page.prompt().items()}
    expected = workflow_to_prompt(saved, server.object_info())
    for _, inputs in prompt.values():
        inputs.pop("video-preview", None)  # a widget of the page alone
    assert prompt == {key: (node["class_type"], node["inputs"]) for key, node in expected.items()}
    app = saved["extra"]["linearData"]
    assert app["inputs"] and all(widget in prompt[node][1] for node, widget in app["inputs"])
    assert {"SaveAnimatedWEBP"} <= {prompt[node][0] for node in app["outputs"]}
    picture(fit=True)


def test_an_example_opens_from_the_template_browser(page, picture):
    """Every example has a card there, and the one that is clicked opens."""
    page.open_template("animatediff-native", "text_to_animation", beside=EXAMPLES)
    page.settle()
    assert "ADN_ApplyAnimateDiff" in {node["type"] for node in page.workflow()["nodes"]}
    picture()


def test_an_example_shows_in_app_mode_what_a_person_sets(page, picture):
    page.load(example("text_to_animation"))
    toggle = "() => window.app.extensionManager.command.execute('Comfy.ToggleLinear')"
    page.browser.evaluate(toggle)
    for label in ("Prompt", "Negative prompt", "batch_size", "motion_module", "steps"):
        page.browser.get_by_text(label, exact=True).filter(visible=True).first.wait_for()
    picture()
    page.browser.evaluate(toggle)


def overlaps(nodes: list[dict[str, Any]], title: int = 30):
    boxes = [(n["type"], n["pos"][0], n["pos"][1] - title, *n["size"]) for n in nodes]
    for number, (a, x, y, width, height) in enumerate(boxes):
        for b, left, top, wide, high in boxes[number + 1 :]:
            if x < left + wide and left < x + width and y < top + high + title and top < y + height + title:
                yield a, b


def test_the_published_models_are_offered_to_those_who_lack_them(page, picture):
    page.load(example("text_to_animation"))
    page.browser.get_by_text("View details").first.click()
    download = page.browser.get_by_test_id("missing-model-download")
    download.nth(1).wait_for()
    assert download.count() == 2
    picture()
