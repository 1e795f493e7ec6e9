"""Old workflows that tools/convert_workflow.py has rewritten, opened in the page and run."""

from __future__ import annotations

import pytest
from old_workflow_support import CORPUS, make_small, read, unknown

from old_workflows.convert import convert

# What no node of ours can do stays in the graph, bypassed, and is reported.
WHOLE = [file for file in sorted(CORPUS.glob("*.json")) if file.stem != "camera_and_sparse_control"]
NO_MINIATURE = {"sdxl_hotshot"}  # which encodes its prompts for SDXL


@pytest.mark.parametrize("file", WHOLE, ids=lambda file: file.stem)
def test_a_converted_workflow_opens_whole_and_runs(classic_page, file):
    workflow, _ = convert(read(file))
    classic_page.load(workflow)
    assert unknown(classic_page) == []
    if file.stem in NO_MINIATURE:
        return
    make_small(classic_page)
    classic_page.queue()
    told = classic_page.wait_until_done()
    assert told["errors"] == []
