"""Write locales/en from the nodes' schemas, and report what the other languages lack.

    python tools/dev.py run -- python -m animatediff_native.tools.build.locales

ComfyUI's page reads the texts under these names.
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
    english_files = english(visible_schemas())
    for name, texts in english_files.items():
        text = json.dumps(texts, ensure_ascii=False, indent=2) + "\n"
        (LOCALES / "en" / name).write_text(text, encoding="utf-8", newline="\n")
    languages = sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir() and folder.name != "en")
    problems = [problem for language in languages for problem in differences(english_files, language)]
    print("\n".join(problems) or "Every language has every text.")
    return bool(problems)


def english(schemas: list[Any]) -> dict[str, dict[str, Any]]:
    """Return the English files, by name."""
    categories = dict.fromkeys(part for schema in schemas for part in schema.category.split("/"))
    return {
        "main.json": {"nodeCategories": {name: name for name in categories}},
        "nodeDefs.json": {schema.node_id: node_texts(schema) for schema in schemas},
    }


def node_texts(schema: Any) -> dict[str, Any]:
    """Return the texts of a node as ComfyUI's nodeDefs.json holds them. ComfyUI itself translates the name of an output
    that is named after its type. Entries of a list are not translated."""
    outputs = [(("name", slot.display_name), ("tooltip", slot.tooltip)) for slot in schema.outputs]
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {slot.id: {"name": slot.display_name or slot.id, "tooltip": slot.tooltip} for slot in schema.inputs},
        "outputs": {str(index): {key: text for key, text in texts if text} for index, texts in enumerate(outputs)},
    }


def differences(english_files: dict[str, dict[str, Any]], language: str) -> Iterator[str]:
    """Yield a sentence for each text that a language lacks, and for each that no node has."""
    for name, texts in english_files.items():
        file = LOCALES / language / name
        expected, actual = dict(flat(texts)), dict(flat(json.loads(file.read_text(encoding="utf-8"))))
        yield from (f"{language}/{name} lacks {path}: {text}" for path, text in expected.items() if path not in actual)
        yield from (f"{language}/{name} has {path}, which no node has." for path in actual if path not in expected)


def flat(texts: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text with its path, such as "ADN_LoadMotionModule.inputs.stretch_to.tooltip"."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def visible_schemas() -> list[Any]:
    """Return the schemas of all nodes but the stand-ins for other packs' old nodes."""

    from ...__init__ import comfy_entrypoint  # a submodule, so that its parts keep their one name

    async def nodes() -> list[Any]:
        extension = await comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    schemas = [node.GET_SCHEMA() for node in asyncio.run(nodes())]
    return [schema for schema in schemas if not schema.is_deprecated]


if __name__ == "__main__":
    sys.exit(main())
