"""Workflows of ComfyUI-AnimateDiff-Evolved in the page: their nodes are replaced there, and they run."""

from __future__ import annotations

from typing import Any

import pytest
from conversion_support import Drawing, read
from old_workflow_support import make_small, unknown
from page_support import one_frontend


def with_cores_saver(workflow: dict[str, Any]) -> dict[str, Any]:
    """Only ComfyUI-AnimateDiff-Evolved's nodes can be replaced in the page, not those of the packs beside it."""
    for node in workflow["nodes"]:
        if node["type"] == "VHS_VideoCombine":
            node.update(type="SaveAnimatedWEBP", widgets_values=["old", 8.0, True, 80, "default"], outputs=[])
            node["inputs"] = [entry for entry in node["inputs"] if entry["name"] == "images"]
            node["properties"] = {"Node name for S&R": "SaveAnimatedWEBP"}
    return workflow


def with_a_picture(kind: str) -> dict[str, Any]:
    """A clip whose first frame is a picture, as SparseCtrl or PIA sees it in old workflows."""
    drawing = Drawing()
    checkpoint, empty, sampler, old_loader = (
        drawing.node(type)
        for type in ("CheckpointLoaderSimple", "EmptyLatentImage", "KSampler", "ADE_AnimateDiffLoaderGen1")
    )
    picture = drawing.add("LoadImage", ["first_picture.png", "image"], "", "IMAGE MASK")
    if kind == "SparseCtrl":
        images = drawing.add("ACN_SparseCtrlRGBPreprocessor", [], "image vae latent_size", "IMAGE")
        method = drawing.add("ACN_SparseCtrlIndexMethodNode", ["0"], "", "SPARSE_METHOD")
        values = ["v3_sd15_sparsectrl_rgb.ckpt", True, 1.0, 1.0, "off", 1.0, 1.0, 1.0]
        loader = drawing.add("ACN_SparseCtrlLoaderAdvanced", values, "sparse_method", "CONTROL_NET")
        sockets = "positive negative control_net image"
        apply = drawing.add("ACN_AdvancedControlNetApply_v2", [1.0, 0.0, 1.0, ""], sockets, "CONDITIONING CONDITIONING")
        positive, negative = [node for node in drawing.workflow["nodes"] if node["type"] == "CLIPTextEncode"]
        drawing.wire(empty, 0, images, "latent_size")
        drawing.wire(method, 0, loader, "sparse_method")
        drawing.wire(positive, 0, apply, "positive")
        drawing.wire(negative, 0, apply, "negative")
        drawing.wire(loader, 0, apply, "control_net")
        drawing.wire(images, 0, apply, "image")
        drawing.wire(apply, 0, sampler, "positive")
        drawing.wire(apply, 1, sampler, "negative")
    else:
        images = drawing.add("ADE_ApplyAnimateDiffModelWithPIA", [0.0, 1.0], "motion_model image vae", "M_MODELS")
        loader = drawing.add("ADE_LoadAnimateDiffModel", ["pia.ckpt"], "", "MOTION_MODEL_ADE")
        drawing.wire(loader, 0, images, "motion_model")
        old_loader |= {"type": "ADE_UseEvolvedSampling", "widgets_values": ["autoselect"]}
        old_loader["inputs"] = old_loader["inputs"][:1]
        drawing.wire(images, 0, old_loader, "m_models")
    drawing.wire(picture, 0, images, "image")
    drawing.wire(checkpoint, 2, images, "vae")
    return drawing.workflow


def test_a_clip_that_starts_from_a_picture_is_replaced_and_runs(page, picture):
    replace_all(page, with_a_picture("SparseCtrl"), picture)
    run_small(page, picture)


@one_frontend
def test_the_nodes_of_pia_are_replaced(page, picture):
    """They do not run, since the miniature has no PIA."""
    replace_all(page, with_a_picture("PIA"), picture)


@pytest.mark.parametrize("name", ["text_to_video_gen1", "looped_closed_loop", "motion_lora_chain", "multi_model_gen2"])
def test_the_page_offers_to_replace_old_nodes_and_the_workflow_runs(page, picture, name):
    """What a run gives is remembered, so that a prompt that two frontends make alike is sampled once."""
    replace_all(page, read(name), picture)
    run_small(page, picture)


def replace_all(page: Any, workflow: dict[str, Any], picture: Any) -> None:
    page.load(with_cores_saver(workflow))
    page.browser.get_by_text("View details").first.click()
    offer = page.browser.get_by_role("button", name="Replace All")
    offer.wait_for()
    assert unknown(page)
    picture("before")
    offer.click()
    page.browser.wait_for_function("() => window.app.graph.nodes.some(node => node.type.startsWith('ADN_Old'))")
    assert unknown(page) == []


def run_small(page: Any, picture: Any) -> None:
    make_small(page)
    page.queue()
    reports = page.wait_until_done()
    assert reports["errors"] == [] and page.errors == []
    picture()
