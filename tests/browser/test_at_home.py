"""What a newcomer finds in the page: help with pictures, the nodes in Chinese, and a whole graph as one node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from page_support import each_frontend

from animatediff_native.tools.comfy_app import stand_ins


def test_the_help_page_opens_with_its_pictures(page, picture):
    page.clear()
    page.browser.evaluate(
        """() => {
            const node = LiteGraph.createNode('ADN_SlidingContext')
            node.pos = [500, 300]
            window.app.graph.add(node)
            window.app.canvas.selectNode(node)
        }"""
    )
    page.browser.get_by_test_id("info-button").first.click()
    page.browser.get_by_role("heading", name="Sliding Context").first.wait_for()
    page.browser.wait_for_function(
        """() => {
            const shown = [...document.querySelectorAll('img')].filter(each => each.src.includes('/docs/pictures/'))
            return shown.length === 3 && shown.every(each => each.naturalWidth > 0)
        }"""
    )
    picture()


def test_the_blueprint_is_dragged_from_the_library_and_runs(page, picture):
    page.forget()
    page.clear()
    tab = page.browser.get_by_role("button", name="Node Library")
    tab.click()
    page.drag_from_library("Text to Animation (AnimateDiff)", 700, 250)
    page.browser.wait_for_function("() => window.app.graph.nodes.length === 1")
    tab.click()
    values = stand_ins()
    page.use(
        {
            "prompt": values["text"],
            "negative prompt": values["text"],
            "width": {"512": 64},
            "height": {"512": 64},
            "steps": {"20": 3},
            "cfg": values["cfg"],
            "checkpoint": values["ckpt_name"],
            "motion module": values["motion_module"],
        }
    )
    page.browser.evaluate(
        """() => {
            const [clip] = window.app.graph.nodes, saver = LiteGraph.createNode('SaveAnimatedWEBP')
            saver.pos = [clip.pos[0] + clip.size[0] + 60, clip.pos[1]]
            window.app.graph.add(saver)
            clip.connect(clip.findOutputSlot('images'), saver, 0)
        }"""
    )
    page.queue()
    reports = page.wait_until_done()
    assert reports["errors"] == []
    frames = page.browser.evaluate("() => Object.values(window.app.nodeOutputs).map(each => each.images?.length)")
    assert 1 in frames
    picture(fit=True)


@pytest.fixture
def chinese_tab(page) -> Iterator[Any]:
    """A second tab of the browser, whose page is in Chinese."""
    page.set(**{"Comfy.Locale": "zh"})
    with page.browser.context.new_page() as tab:
        page.open_in(tab)
        yield tab
    page.set(**{"Comfy.Locale": "en"})


@each_frontend
def test_nodes_speak_chinese_to_those_who_do(chinese_tab):
    title, inputs = chinese_tab.evaluate(
        """() => {
            const node = LiteGraph.createNode('ADN_SlidingContext')
            return [node.title, node.inputs.map(each => each.localized_name)]
        }"""
    )
    assert title == "滑动上下文"
    assert "上下文长度" in inputs
