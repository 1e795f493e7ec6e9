"""The texts of the nodes in other languages: `python -m animatediff_native.tools.build.locales`.

Writes locales/en from the nodes' schemas, and says what the others lack. ComfyUI's page reads them by these names.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from animatediff_native import start_comfyui

REPO = Path(__file__).resolve().parents[2]
LOCALES = REPO / "locales"


def main() -> int:
    start_comfyui(cpu=True)
    wanted = english(visible_schemas())
    for name, texts in wanted.items():
        text = json.dumps(texts, ensure_ascii=False, indent=2) + "\n"
        (LOCALES / "en" / name).write_text(text, encoding="utf-8", newline="\n")
    others = sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir() and folder.name != "en")
    found = [problem for language in others for problem in differences(wanted, language)]
    print("\n".join(found) or "Every language has every text.")
    return bool(found)


def english(schemas: list[Any]) -> dict[str, dict[str, Any]]:
    """File name -> what it holds."""
    categories = dict.fromkeys(part for schema in schemas for part in schema.category.split("/"))
    return {
        "main.json": {"nodeCategories": {name: name for name in categories}},
        "nodeDefs.json": {schema.node_id: node_texts(schema) for schema in schemas},
    }


def node_texts(schema: Any) -> dict[str, Any]:
    """In the shape of ComfyUI's nodeDefs.json. An output without a name of its own has that of its type, which ComfyUI
    translates; entries of a list are not translated."""
    outputs = [(("name", slot.display_name), ("tooltip", slot.tooltip)) for slot in schema.outputs]
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {slot.id: {"name": slot.display_name or slot.id, "tooltip": slot.tooltip} for slot in schema.inputs},
        "outputs": {str(index): {key: text for key, text in texts if text} for index, texts in enumerate(outputs)},
    }


def differences(wanted: dict[str, dict[str, Any]], language: str) -> Iterator[str]:
    """What a language lacks or has too much, a sentence for each."""
    for name, english_texts in wanted.items():
        file = LOCALES / language / name
        needed, found = dict(flat(english_texts)), dict(flat(json.loads(file.read_text(encoding="utf-8"))))
        yield from (f"{language}/{name} lacks {path}: {text}" for path, text in needed.items() if path not in found)
        yield from (f"{language}/{name} has {path}, which no node has." for path in found if path not in needed)


def flat(texts: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """("ADN_LoadMotionModule.inputs.stretch_to.tooltip", its text), and so on."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def visible_schemas() -> list[Any]:
    """Of all nodes but those that only stand in for older ones."""

    from ...__init__ import comfy_entrypoint  # a submodule, so that its parts keep their one name

    async def nodes() -> list[Any]:
        extension = await comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    schemas = [node.GET_SCHEMA() for node in asyncio.run(nodes())]
    return [schema for schema in schemas if not schema.is_deprecated]


if __name__ == "__main__":
    sys.exit(main())
