"""What every conversion keeps to, whichever nodes are in the workflow."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from conversion_support import every_workflow, links_of, read, widgets

from animatediff_native.old_workflows.convert import convert
from animatediff_native.old_workflows.node_types import NODE_TYPES
from animatediff_native.old_workflows.old_nodes import is_old


@every_workflow
def test_no_old_node_is_left_but_those_that_are_named(name):
    workflow, lost = convert(read(name))
    for node in workflow["nodes"]:
        if is_old(node["type"]):
            assert any(line.startswith(f"{node['type']} (node {node['id']}): it has no counterpart") for line in lost)
            assert node["mode"] == 4


@every_workflow
def test_both_ends_of_every_link_agree(name):
    workflow, _ = convert(read(name))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = links_of(workflow)
    assert len(links) == len(workflow["links"])
    for id, source, output, target, input, type in links.values():
        leaving, entering = nodes[source]["outputs"][output], nodes[target]["inputs"][input]
        assert id in leaving["links"]
        assert entering["link"] == id
        assert type in (leaving["type"], entering["type"]) or "*" in (leaving["type"], entering["type"])
        leaves, enters = (set(end["type"].split(",")) for end in (leaving, entering))
        assert leaves & enters or "*" in leaves | enters or "COMBO" in leaves
    named = [link for node in workflow["nodes"] for socket in node["outputs"] for link in socket["links"] or []]
    named += [socket["link"] for node in workflow["nodes"] for socket in node.get("inputs", []) if socket["link"]]
    assert set(named) == set(links)


@every_workflow
def test_other_nodes_and_groups_stay_as_they_were(name):
    old = read(name)
    new, _ = convert(old)
    kept = {node["id"]: node for node in new["nodes"]}
    for node in old["nodes"]:
        if is_old(node["type"]) or (node["type"] in ("Reroute", "PrimitiveNode") and node["id"] not in kept):
            continue
        keys = ("type", "pos", "size", "mode", "title", "color", "bgcolor", "widgets_values", "properties", "flags")
        assert {key: kept[node["id"]].get(key) for key in keys} == {key: node.get(key) for key in keys}
    keys = ("groups", "extra", "version", "id")
    assert [new.get(key) for key in keys] == [old.get(key) for key in keys]


@every_workflow
def test_nodes_do_not_hide_each_other(name):
    """Those that were not in each other's way before."""
    workflow, _ = convert(read(name))
    old = {node["id"] for node in read(name)["nodes"]}
    boxes = [(node, *node["pos"], *pair(node["size"])) for node in workflow["nodes"]]
    for node, x, y, w, h in boxes:
        for other, left, top, wide, high in boxes:
            if node["id"] not in old and other["id"] != node["id"]:
                assert x + w <= left or left + wide <= x or y + h <= top or top + high <= y


def pair(size: Any) -> tuple[float, float]:
    return (size["0"], size["1"]) if isinstance(size, dict) else tuple(size)


@every_workflow
def test_the_workflow_that_is_given_is_not_changed(name):
    old = read(name)
    before = copy.deepcopy(old)
    convert(old)
    assert old == before


@every_workflow
def test_a_converted_workflow_is_not_changed_again(name):
    once, _ = convert(read(name))
    twice, lost = convert(once)
    assert twice == once
    assert all("it has no counterpart" in line for line in lost)


@pytest.mark.parametrize("value", [None, "", "0", -1e9, 1e9, True, []])
@every_workflow
def test_values_that_slipped_into_the_wrong_widget_do_no_harm(name, value):
    """As the page saved them where a pack had got another widget in between."""
    old = read(name)
    for node in old["nodes"]:
        if is_old(node["type"]):
            values = node.get("widgets_values") or []
            named = isinstance(values, dict)
            node["widgets_values"] = dict.fromkeys(values, value) if named else [value] * len(values)
    for node in convert(old)[0]["nodes"]:
        if node["type"] in NODE_TYPES:
            for widget, default in NODE_TYPES[node["type"]].widgets.items():
                assert isinstance(widgets(node)[widget], (int, float) if isinstance(default, (int, float)) else str)


def test_links_keep_the_form_that_the_page_gave_them():
    workflow, _ = convert(read("ade_prompt_scheduling"))
    names = {"id", "origin_id", "origin_slot", "target_id", "target_slot", "type"}
    assert all(link.keys() == names for link in workflow["links"])
    assert workflow["state"]["lastNodeId"] == max(node["id"] for node in workflow["nodes"])
    assert workflow["state"]["lastLinkId"] == max(link["id"] for link in workflow["links"])


def test_links_that_lead_nowhere_are_dropped():
    old = read("text_to_video_gen1")
    old["links"] += [None, [90, 77, 0, 78, 0, "MODEL"]]
    assert convert(old)[0] == convert(read("text_to_video_gen1"))[0]
