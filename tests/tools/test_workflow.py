"""Workflows as the editor saves them become the prompts that the editor would send."""

from typing import Any

import pytest

from animatediff_native.tools.workflow import workflow_to_prompt

OBJECT_INFO = {
    "Load": {"input": {"required": {"file": [["a.safetensors", "b.safetensors"], {}]}}, "display_name": "Load a File"},
    "Sample": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "steps": ["INT", {"default": 20}],
                "cfg": ["FLOAT", {"default": 8.0, "forceInput": True}],
                "effect": ["FLOAT,CURVE", {"default": 1.0, "widgetType": "FLOAT"}],
                "source": ["MASK,CURVE", {}],
                "curve": ["CURVE", {"default": [[0, 0], [1, 1]]}],
            },
            "optional": {"sampler": ["COMBO", {"options": ["euler", "heun"], "default": "euler"}]},
        }
    },
    "Save": {
        "input": {
            "required": {
                "images": ["IMAGE", {}],
                "format": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "webp", "inputs": {"required": {"quality": ["INT", {"default": 80}]}}},
                            {"key": "mp4", "inputs": {"required": {"codec": ["COMBO", {"options": ["h264"]}]}}},
                        ]
                    },
                ],
                "prefix": ["STRING", {"default": "out"}],
            }
        }
    },
}
MODEL_LINK = [1, 1, 0, 2, 0, "MODEL"]  # id, from node, its output, to node, its input, type


def load_node(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "type": "Load", "widgets_values": ["b.safetensors"], **changes}


def sample_node(**changes: Any) -> dict[str, Any]:
    inputs = [{"name": "model", "type": "MODEL", "link": 1}, {"name": "cfg", "type": "FLOAT", "link": None}]
    return {
        "id": 2,
        "type": "Sample",
        "inputs": inputs,
        "widgets_values": [7, "randomize", 12, 0.5, [[0, 1]], "heun"],
        **changes,
    }


def convert(*nodes: dict[str, Any], links: list[list] | None = None) -> dict[str, Any]:
    return workflow_to_prompt({"nodes": list(nodes), "links": links or [MODEL_LINK]}, OBJECT_INFO)


def test_values_get_the_names_of_their_widgets():
    """The editor's own widget beside a seed is none of the node's."""
    prompt = convert(load_node(), sample_node())
    assert prompt["1"]["inputs"] == {"file": "b.safetensors"}
    curve = {"__value__": [[0, 1]]}
    values = {"seed": 7, "steps": 12, "effect": 0.5, "curve": curve, "sampler": "heun", "model": ["1", 0]}
    assert prompt["2"]["inputs"] == values


def test_a_node_is_called_what_its_user_called_it():
    prompt = convert(load_node(), sample_node(title="Second pass"))
    titles = [node["_meta"]["title"] for node in prompt.values()]
    assert titles == ["Load a File", "Second pass"]


def test_an_older_workflow_gets_the_default_of_a_newer_widget():
    assert convert(load_node(), sample_node(widgets_values=[7, "fixed", 12]))["2"]["inputs"]["sampler"] == "euler"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["webp", 95, "clip"], {"format": "webp", "format.quality": 95, "prefix": "clip"}),
        (["mp4", "h264", "clip"], {"format": "mp4", "format.codec": "h264", "prefix": "clip"}),
    ],
)
def test_the_widgets_of_a_chosen_entry_follow_it(values, expected):
    prompt = convert({"id": 3, "type": "Save", "widgets_values": values})
    assert prompt["3"]["inputs"] == expected


def dynamic(entries: dict[str, dict[str, Any]], optional: bool = False) -> list[Any]:
    """An input whose entries bring inputs, all of them needed or none."""
    kind = "optional" if optional else "required"
    options = [{"key": key, "inputs": {kind: inputs}} for key, inputs in entries.items()]
    return ["COMFY_DYNAMICCOMBO_V3", {"options": options}]


CRF = {"crf": ["FLOAT", {"default": 23.0}]}
CODEC = dynamic({"auto": {}, "h264": {"encoding": dynamic({"auto": {}, "re-encode": CRF})}}, optional=True)
PREFIX = {"filename_prefix": ["STRING", {"default": "video/ComfyUI"}]}
SAVE_VIDEO = {
    "0.30": {
        "required": {**PREFIX, "format": ["COMBO", {"options": ["auto", "mp4"], "default": "auto"}], "codec": CODEC}
    },
    "0.33": {
        "required": {**PREFIX, "format": dynamic({"auto": {"codec": CODEC}, "mp4": {"codec": CODEC}})},
        "optional": {"codec": [CODEC[0], {**CODEC[1], "hidden": True}]},
    },
}


@pytest.mark.parametrize("version", SAVE_VIDEO)
@pytest.mark.parametrize(
    ("saved", "codec"),
    [
        (["auto", "auto"], {"": "auto"}),
        (["auto", "h264", "re-encode", 30.0], {"": "h264", ".encoding": "re-encode", ".encoding.crf": 30.0}),
    ],
)
def test_save_video_means_the_same_where_its_codec_belongs_to_its_format(version, saved, codec):
    """The page gives the codec that is hidden there its first entry, and the node prefers that of the format."""
    node = {"id": 3, "type": "SaveVideo", "widgets_values": ["a", *saved]}
    info = {"SaveVideo": {"input": SAVE_VIDEO[version]}}
    inputs = workflow_to_prompt({"nodes": [node], "links": []}, info)["3"]["inputs"]
    moved = version == "0.33"
    expected = {f"{'format.' * moved}codec{name}": value for name, value in codec.items()}
    assert inputs == {"filename_prefix": "a", "format": "auto", **expected, **({"codec": "auto"} if moved else {})}


def test_reroutes_notes_and_primitives_are_resolved():
    reroute = {"id": 3, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 1}]}
    number = {"id": 4, "type": "PrimitiveNode", "widgets_values": [4.5, "fixed"]}
    sample = sample_node()
    sample["inputs"] = [{"name": "model", "type": "MODEL", "link": 2}, {"name": "cfg", "type": "FLOAT", "link": 3}]
    links = [[1, 1, 0, 3, 0, "MODEL"], [2, 3, 0, 2, 0, "MODEL"], [3, 4, 0, 2, 1, "FLOAT"]]
    prompt = convert(load_node(), reroute, number, sample, {"id": 5, "type": "Note"}, links=links)
    assert sorted(prompt) == ["1", "2"]
    assert prompt["2"]["inputs"]["model"] == ["1", 0]
    assert prompt["2"]["inputs"]["cfg"] == 4.5


@pytest.mark.parametrize(("mode", "source"), [(0, ["3", 0]), (2, None), (4, ["1", 0])])
def test_a_muted_node_passes_nothing_and_a_bypassed_one_what_it_gets(mode, source):
    inputs = [{"name": "model", "type": "MODEL", "link": 1}]
    between = {"id": 3, "type": "Sample", "mode": mode, "inputs": inputs, "widgets_values": []}
    sample = sample_node()
    sample["inputs"] = [{"name": "model", "type": "MODEL", "link": 2}]
    prompt = convert(load_node(), between, sample, links=[[1, 1, 0, 3, 0, "MODEL"], [2, 3, 0, 2, 0, "MODEL"]])
    assert prompt["2"]["inputs"].get("model") == source
    assert ("3" in prompt) == (mode == 0)


def test_an_unknown_node_is_named():
    with pytest.raises(ValueError, match="has a node Missing"):
        convert({"id": 9, "type": "Missing"})


def test_subgraphs_are_refused_in_words():
    with pytest.raises(ValueError, match="unpack them"):
        workflow_to_prompt({"nodes": [], "links": [], "definitions": {"subgraphs": [{"id": "x"}]}}, OBJECT_INFO)
