"""The frontends that the page is tested on, and the examples as it opens them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from server_support import ROOT

# The two ways in which ComfyUI's own frontend draws nodes, and the newest frontend there is.
CLASSIC, VUE, NEWEST = "classic canvas", "Vue nodes", "newest frontend"
# For tests that ask the frontend but not how it draws nodes, and for those that ask the server through the page.
each_frontend = pytest.mark.parametrize("frontend", [CLASSIC, NEWEST], indirect=True)
one_frontend = pytest.mark.parametrize("frontend", [CLASSIC], indirect=True)


def example(name: str) -> dict[str, Any]:
    """Return an example workflow as its file holds it."""
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
