"""Workflows of ComfyUI-AnimateDiff-Evolved in the page: their nodes are replaced there, and they run."""

from __future__ import annotations

from typing import Any

import pytest
from conversion_support import read
from old_workflow_support import make_small, unknown


def with_cores_saver(workflow: dict[str, Any]) -> dict[str, Any]:
    """Only ComfyUI-AnimateDiff-Evolved's nodes can be replaced in the page, not those of the packs beside it."""
    for node in workflow["nodes"]:
        if node["type"] == "VHS_VideoCombine":
            node.update(type="SaveAnimatedWEBP", widgets_values=["old", 8.0, True, 80, "default"], outputs=[])
            node["inputs"] = [entry for entry in node["inputs"] if entry["name"] == "images"]
            node["properties"] = {"Node name for S&R": "SaveAnimatedWEBP"}
    return workflow


@pytest.mark.parametrize("name", ["text_to_video_gen1", "looped_closed_loop", "motion_lora_chain", "multi_model_gen2"])
def test_the_page_offers_to_replace_old_nodes_and_the_workflow_runs(page, picture, name):
    """What a run gives is remembered, so that a prompt that two frontends make alike is sampled once."""
    page.load(with_cores_saver(read(name)))
    page.browser.get_by_text("View details").first.click()
    offer = page.browser.get_by_role("button", name="Replace All")
    offer.wait_for()
    assert unknown(page)
    picture("before")
    offer.click()
    page.browser.wait_for_function("() => window.app.graph.nodes.some(node => node.type.startsWith('ADN_Old'))")
    assert unknown(page) == []
    make_small(page)
    page.queue()
    reports = page.wait_until_done()
    assert reports["errors"] == [] and page.errors == []
    picture()
