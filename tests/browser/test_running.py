"""Runs in the page: the clip moves while it is made and when it is done, and what goes wrong is said on its node."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from page_support import each_frontend, example, one_frontend
from PIL import Image, ImageSequence

from animatediff_native.tools.comfy_app import stand_ins

LOADER, APPLY, SAMPLER, SAVER = "ADN_LoadMotionModule", "ADN_ApplyAnimateDiff", "KSampler", "SaveAnimatedWEBP"


def load(page: Any, workflow: str, **changes: Any) -> None:
    """An example with the miniature, of few steps and small pictures; `changes` are values of widgets by name."""
    page.forget()
    page.load(for_miniature(example(workflow)))
    page.use(stand_ins() | {"steps": {"20": 3}, "width": {"512": 64}, "height": {"512": 64}})
    page.browser.evaluate(
        """changes => {
            for (const node of window.app.graph.nodes)
                for (const widget of node.widgets ?? [])
                    if (widget.name in changes) widget.value = changes[widget.name]
        }""",
        changes,
    )
    page.fit()


def for_miniature(workflow: dict[str, Any]) -> dict[str, Any]:
    """Without the names of models that are not there, which the page would mark."""
    replacements = {old: new for values in stand_ins().values() for old, new in values.items() if isinstance(new, str)}
    for node in workflow["nodes"]:
        node["properties"].pop("models", None)
        node["widgets_values"] = [replacements.get(str(value), value) for value in node.get("widgets_values") or []]
    return workflow


def node_of(page: Any, kind: str) -> str:
    return next(str(node["id"]) for node in page.workflow()["nodes"] if node["type"] == kind)


def animations(reports: dict[str, Any], node: str) -> list[Any]:
    """Of the previews that a node was given those that move."""
    pictures = (Image.open(io.BytesIO(base64.b64decode(data))) for shown, data in reports["previews"] if shown == node)
    return [picture for picture in pictures if getattr(picture, "is_animated", False)]


def test_the_clip_moves_on_the_sampler_while_it_is_sampled_and_is_shown_at_the_end(page, picture):
    """What the browser is given really moves: 16 frames of a star that travels."""
    load(page, "text_to_animation", steps=6, width=96, height=96)
    page.queue()
    page.browser.wait_for_function("() => window.reports.previews.length > 1")
    picture("while it runs")
    reports = page.wait_until_done()
    assert reports["errors"] == [] and page.errors == []
    clips = animations(reports, node_of(page, SAMPLER))
    assert {clip.n_frames for clip in clips} == {16}
    assert len({frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(clips[-1])}) > 12
    result = page.browser.evaluate("id => window.app.nodeOutputs[id].images[0].filename", node_of(page, SAVER))
    assert result.endswith(".webp")
    page.settle()
    picture("when it is done")


@each_frontend
def test_sliding_context_shows_its_windows_and_how_far_they_are(page, picture):
    load(page, "long_animation")
    page.queue()
    reports = page.wait_until_done()
    context = node_of(page, "ADN_SlidingContext")
    (windows,) = (data for node, data in reports["previews"] if node == context)
    drawn = Image.open(io.BytesIO(base64.b64decode(windows)))
    assert drawn.format == "PNG" and drawn.width > 400
    assert {value for node, value, of in reports["values"] if node == context and of == 3} >= {1, 2, 3}
    parts = {value % 1 for node, value, _ in reports["values"] if node == node_of(page, SAMPLER)}
    assert len(parts) > 1, "the sampler's own bar moves within a step"
    picture()


def test_keyframe_images_shows_its_pictures_with_their_frames(page, picture):
    load(page, "animate_sketches")
    page.queue()
    reports = page.wait_until_done()
    assert reports["errors"] == [] and page.errors == []
    (sheet,) = (data for node, data in reports["previews"] if node == node_of(page, "ADN_KeyframeImages"))
    drawn = Image.open(io.BytesIO(base64.b64decode(sheet)))
    assert drawn.format == "PNG" and drawn.width > 400
    picture()


WRONG = {
    "a motion LoRA": ({"motion_module": "motion_lora.safetensors"}, LOADER, "is a motion LoRA, not a motion module"),
    "a truncated file": ({"motion_module": "truncated.safetensors"}, LOADER, "not a weights file"),
    "a SparseCtrl encoder": ({"motion_module": "sparse_control.safetensors"}, LOADER, "SparseCtrl"),
    "another base": ({"motion_module": "other_base.safetensors"}, APPLY, "but this"),
    "NaN": ({"motion_module": "too_large.safetensors"}, SAMPLER, "NaN or infinite values from frame 0 on"),
}


def test_what_is_wrong_is_said_on_the_node(page, picture):
    check_mistake(page, picture, "a motion LoRA")


@one_frontend
@pytest.mark.parametrize("case", [case for case in WRONG if case != "a motion LoRA"])
def test_whatever_is_wrong_is_said_on_the_node(page, picture, case):
    """The server says it, whichever frontend shows it."""
    check_mistake(page, picture, case)


def check_mistake(page: Any, picture: Any, case: str) -> None:
    changes, kind, sentence = WRONG[case]
    load(page, "text_to_animation", **changes)
    page.queue()
    reports = page.wait_until_done()
    ((node, message),) = reports["errors"]
    assert node == node_of(page, kind) and sentence in message
    page.browser.get_by_text("View details").first.click()
    page.browser.get_by_text(sentence).first.wait_for()
    picture()


@each_frontend
def test_hints_that_do_not_match_the_frames_are_counted(page, picture):
    load(page, "video_to_video")
    page.browser.evaluate(
        """() => {
            const latents = LiteGraph.createNode('EmptyLatentImage')
            window.app.graph.add(latents)
            for (const [name, value] of [['width', 64], ['height', 64], ['batch_size', 5]])
                latents.widgets.find(widget => widget.name === name).value = value
            const sampler = window.app.graph.nodes.find(node => node.type === 'KSampler')
            latents.connect(0, sampler, sampler.findInputSlot('latent_image'))
        }"""
    )
    page.queue()
    ((node, message),) = page.wait_until_done()["errors"]
    assert node == node_of(page, SAMPLER)
    assert "16" in message and "5" in message
    picture()


@each_frontend
def test_a_run_that_is_cancelled_leaves_the_next_one_whole(page):
    load(page, "text_to_animation", steps=500, seed=9)
    page.queue()
    page.browser.wait_for_function("() => window.reports.values.length > 2")
    page.browser.get_by_role("button", name="Cancel current run").click()
    page.wait_until_done()
    load(page, "text_to_animation", steps=4)
    page.queue()
    reports = page.wait_until_done()
    assert reports["errors"] == [] and animations(reports, node_of(page, SAMPLER))
