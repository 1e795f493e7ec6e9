"""ContextRef of old graphs becomes `reference` of Sliding Context."""

from __future__ import annotations

import pytest
from conversion_support import Drawing, nodes_of, widgets

from animatediff_native.sampling.reference import END

OPTIONS = "ADE_LoopedUniformContextOptions"


def drawn(*extras: tuple[str, list[float]], multival: list[float] | None = None):
    """A looped clip with context extras, chained in that order."""
    drawing = Drawing("looped_closed_loop")
    loader = next(node for node in drawing.workflow["nodes"] if "sampling" in node["type"].lower())
    setter = drawing.add("ADE_ContextExtras_Set", [], "context_opts context_extras", "CONTEXT_OPTIONS")
    drawing.wire(drawing.node(OPTIONS), 0, setter, "context_opts")
    target = setter, "context_extras"
    for type, values in reversed(extras):
        node = drawing.add(type, values, "prev_extras strength_multival", "CONTEXT_EXTRAS")
        drawing.wire(node, 0, *target)
        target = node, "prev_extras"
        if multival and type.endswith("Ref"):
            drawing.wire(drawing.add("ADE_MultivalDynamic", multival, "", "MULTIVAL"), 0, node, "strength_multival")
    drawing.wire(setter, 0, loader, "context_options")
    return drawing


@pytest.mark.parametrize(("multival", "reference"), [(None, 1.0), ([0.4], 0.4), ([3.0], 1.0)])
def test_context_ref_is_a_reference(multival, reference):
    workflow, lost = drawn(("ADE_ContextExtras_ContextRef", [0.0, END]), multival=multival).convert()
    (sliding,) = nodes_of(workflow, "ADN_SlidingContext")
    assert widgets(sliding)["reference"] == reference
    assert widgets(sliding)["schedule"] == "closed loop"
    assert not [line for line in lost if "ContextRef" in line]


def test_what_has_no_counterpart_is_named_with_its_values():
    extras = ("ADE_ContextExtras_NaiveReuse", [0.0, 0.15, 0.95]), ("ADE_ContextExtras_ContextRef", [0.1, 0.5])
    workflow, lost = drawn(*extras).convert()
    assert widgets(nodes_of(workflow, "ADN_SlidingContext")[0])["reference"] == 1.0
    assert any("ContextRef" in line and "0 to 0.25" in line and "0.1 to 0.5" in line for line in lost)
    assert any("NaiveReuse" in line and "0.95" in line for line in lost)
