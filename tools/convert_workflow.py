#!/usr/bin/env python3
"""Rewrite a workflow that was made for ComfyUI-AnimateDiff-Evolved, VideoHelperSuite, FizzNodes or similar packs.

    python tools/convert_workflow.py old.json new.json

Takes a workflow saved by ComfyUI's page, a prompt for its API, or a picture (.png, .webp) that holds one of them. The
new workflow needs only ComfyUI and this pack. What could not be carried over is printed, one line each. The old file is
not changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

from animatediff_native.old_workflows.convert import convert  # pyright: ignore[reportMissingImports]


def read(path: Path) -> dict[str, Any]:
    """Return the workflow in a file. ValueError, in one sentence, if there is none."""
    try:
        text = embedded(path) if path.suffix.lower() in (".png", ".webp") else path.read_text(encoding="utf-8-sig")
        return json.loads(text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or 'it is not a picture'}.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a workflow: it is not JSON, but ComfyUI's page saves JSON.") from error


def embedded(path: Path) -> str:
    """Return the workflow that ComfyUI wrote into a picture, or the prompt where there is only that."""
    from PIL import Image  # ComfyUI brings it; JSON files go without

    with Image.open(path) as picture:
        saved = [*map(str, picture.getexif().values()), *(f"{key}:{text}" for key, text in picture.info.items())]
    for prefix in ("workflow:{", "prompt:{"):
        for text in saved:
            if text.startswith(prefix):
                return text.partition(":")[2]
    raise SystemExit(f"{path} holds no workflow: ComfyUI writes it into the pictures that it saves.")


def write(path: Path, workflow: dict[str, Any]) -> None:
    """Write the whole file or nothing. ValueError, in one sentence, if the disk does not take it."""
    beside = path.with_name(f"{path.name}.part")
    try:
        beside.write_text(json.dumps(workflow, ensure_ascii=False), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ValueError(f"{path} cannot be written: {error.strerror}.") from error


def main(arguments: list[str] | None = None) -> int:
    description, _, details = (__doc__ or "").partition("\n\n")
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, epilog=details, formatter_class=formatter)
    parser.add_argument("old", type=Path, help="the old workflow; it is not changed")
    parser.add_argument("new", type=Path, help="file for the new workflow")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    options = parser.parse_args(arguments)
    if options.new.resolve() == options.old.resolve():
        return refuse(f"{options.new} is the old workflow, which is never changed: give the new one another name.")
    if options.new.exists() and not options.force:
        return refuse(f"{options.new} is already there: choose another name, or add --force to replace it.")
    try:
        workflow, lost = convert(read(options.old))
        write(options.new, workflow)
    except ValueError as error:
        return refuse(str(error))
    for line in lost:
        print(line)
    print(f"{options.new} is written; {summary(len(lost))}.")
    return 0


def summary(lost: int) -> str:
    if not lost:
        return "everything was carried over"
    return f"the {lost} lines above say what is different" if lost > 1 else "the line above says what is different"


def refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
