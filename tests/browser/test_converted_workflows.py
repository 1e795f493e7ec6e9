"""Old workflows that tools/convert_workflow.py has rewritten, opened in the page and run."""

from __future__ import annotations

import pytest
from conversion_support import CORPUS, read
from old_workflow_support import make_small, unknown
from page_support import one_frontend

from animatediff_native.old_workflows.convert import convert

NOT_WHOLE = {"camera_and_sparse_control"}  # what no node of ours can do stays, bypassed, and is reported
NO_MINIATURE = {"sdxl_hotshot"}  # which encodes its prompts for SDXL


@one_frontend
@pytest.mark.parametrize("name", sorted({file.stem for file in CORPUS.glob("*.json")} - NOT_WHOLE))
def test_a_converted_workflow_opens_whole_and_runs(page, name):
    workflow, _ = convert(read(name))
    page.load(workflow)
    assert unknown(page) == []
    if name in NO_MINIATURE:
        return
    make_small(page)
    page.queue()
    reports = page.wait_until_done()
    assert reports["errors"] == []
