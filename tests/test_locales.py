"""The nodes in English and Chinese: names, tooltips and help pages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import app.custom_node_manager
import folder_paths
import pytest

from animatediff_native.tools.build.locales import LOCALES, differences, english, flat, visible_schemas

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
LANGUAGES = ["en", "zh"]
FACTS = re.compile(r"\d+(?:\.\d+)?|\w+/\w+|\.\w{3,}", re.ASCII)  # numbers and names of files
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def schemas() -> list[Any]:
    return visible_schemas()


@pytest.fixture
def translations(tmp_path, monkeypatch) -> dict[str, Any]:
    """Return the translations that ComfyUI gives its page."""
    shutil.copytree(LOCALES, tmp_path / "animatediff-native" / "locales")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "custom_nodes", ([str(tmp_path)], set()))
    return app.custom_node_manager.CustomNodeManager().build_translations()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_every_node_is_there_and_no_other(schemas, language):
    problems = list(differences(english(schemas), language))
    assert not problems, "\n".join(["Write these into locales/:", *problems])


def test_english_is_what_the_schemas_say(schemas, translations):
    """If not: python tools/dev.py run -- python -m animatediff_native.tools.build.locales"""
    files = english(schemas)
    assert translations["en"] == files["main.json"] | {"nodeDefs": files["nodeDefs.json"]}


def test_chinese_is_chinese(translations):
    for path, text in flat(translations["zh"]["nodeDefs"]):
        if path.endswith((".tooltip", ".description")):
            assert CHINESE.search(text), f"{path} is not translated: {text}"


def test_both_languages_tell_the_same_numbers_and_files(schemas, translations):
    chinese = dict(flat(translations["zh"]["nodeDefs"]))
    for path, text in flat(english(schemas)["nodeDefs.json"]):
        translated = chinese.get(path, text)
        assert set(FACTS.findall(translated)) == set(FACTS.findall(text)), f"{path}: {text} / {translated}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_what_the_page_would_take_for_a_placeholder(translations, language):
    for path, text in flat(translations[language]):
        assert not set(text) & set("{}|@"), f"{path}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_inputs_of_a_node_share_a_name(translations, language):
    for node_id, texts in translations[language]["nodeDefs"].items():
        names = [slot["name"] for slot in texts["inputs"].values()]
        assert len(set(names)) == len(names), f"{node_id}: {names}"


def test_every_node_has_a_page_in_both_languages_and_there_is_no_other(schemas):
    nodes = {schema.node_id for schema in schemas}
    assert {page.stem for page in DOCS.glob("*.md")} == nodes
    assert {page.parent.name for page in DOCS.glob("*/zh.md")} == nodes


def test_the_chinese_page_explains_every_input_by_its_name_on_screen(translations):
    for node_id, texts in translations["zh"]["nodeDefs"].items():
        page = (DOCS / node_id / "zh.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {texts['display_name']}\n")
        explained = dict(named_inputs(page, list(texts["inputs"])))
        assert explained == {key: slot["name"] for key, slot in texts["inputs"].items()}, node_id


def named_inputs(page: str, inputs: list[str]) -> list[tuple[str, str]]:
    """Return id and name of each input in the page's list. "first ... last" stands for an input of every level."""
    slots = []
    for line in re.findall(r"(?m)^- (\*\*.*)", page):
        for name, key in re.findall(r"\*\*([^*]+)\*\* `([^`]+)`", line.partition("：")[0]):
            names, keys = name.split(" ... "), key.split(" ... ")
            slots += list(zip(keys, names, strict=True))
            if len(keys) == 2:
                levels = inputs[inputs.index(keys[0]) + 1 : inputs.index(keys[1])]
                setting = names[0].split(" ")[-1]
                slots += [(level, level_name(level, setting)) for level in levels]
    return slots


def level_name(level: str, setting: str) -> str:
    direction, number, *_ = level.split("_")
    names = {"down": f"下采样 {number}", "mid": "中间层", "up": f"上采样 {number}"}
    return f"{names[direction]} {setting}"


def test_both_pages_of_a_node_tell_the_same_numbers_and_show_the_same_pictures(schemas):
    for schema in schemas:
        pages = [DOCS / f"{schema.node_id}.md", DOCS / schema.node_id / "zh.md"]
        first, second = (page.read_text(encoding="utf-8") for page in pages)
        assert pictures(first) == pictures(second)
        assert numbers(first) == numbers(second), schema.node_id


def pictures(page: str) -> list[str]:
    return re.findall(r"!\[.+\]\((.+)\)", page)


def numbers(page: str) -> set[str]:
    """Return the numbers in the page's sentences, without those in the names of levels."""
    levels = r"(?:down|up|下采样|上采样)[ _]\d"
    return set(re.findall(r"\d+(?:\.\d+)?", re.sub(levels, "", page)))


def test_pages_show_every_picture_from_where_the_editor_looks_for_it():
    """The editor looks beside the English pages, whatever the language."""
    shown = {picture for page in DOCS.rglob("*.md") for picture in pictures(page.read_text(encoding="utf-8"))}
    assert shown == {file.relative_to(DOCS).as_posix() for file in (DOCS / "pictures").iterdir()}
