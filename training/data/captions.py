"""Finds the captions of clips: text files beside them, or one table for all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLES = ("captions.csv", "captions.jsonl", "metadata.jsonl")
FILE_KEYS, TEXT_KEYS = ("file", "file_name"), ("caption", "text")


def find_captions(
    folder: Path, names: list[str], table: Path | None = None, default: str | None = None
) -> dict[str, str]:
    """Return the captions of the clips `names`, files or subfolders relative to `folder`.

    A clip's own text file (`walk.txt` for `walk.mp4` or the subfolder `walk`) comes before the table, and both come
    before `default`. ValueError if a clip has no caption, or if a table cannot be read.
    """
    rows = _read_table(folder, table)
    own = {name: _text_file(folder / name) for name in names}
    captions = {name: text if text is not None else rows.get(name, default) for name, text in own.items()}
    missing = [name for name, caption in captions.items() if caption is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} clips have no caption, such as {', '.join(missing[:3])}: write "
            f"{Path(missing[0]).with_suffix('.txt')} and so on, a captions.csv with the columns file and caption, "
            'or caption = "..." for all of them.'
        )
    return {name: caption for name, caption in captions.items() if caption is not None}


def _text_file(clip: Path) -> str | None:
    file = clip.with_suffix(".txt") if clip.is_file() else clip.with_name(f"{clip.name}.txt")
    return _read(file).strip() if file.is_file() else None


def _read_table(folder: Path, table: Path | None) -> dict[str, str]:
    tables = [table] if table else [folder / name for name in TABLES if (folder / name).is_file()]
    if not tables:
        return {}
    file, captions = tables[0], {}
    for place, row in _csv_rows(file) if file.suffix.lower() == ".csv" else _json_rows(file):
        clip, text = _first(row, FILE_KEYS), _first(row, TEXT_KEYS)
        if not isinstance(clip, str) or not isinstance(text, str):
            raise ValueError(f"{place} has no file and caption, but {', '.join(map(str, row)) or 'nothing'}.")
        captions[Path(clip.replace("\\", "/")).as_posix()] = text.strip()
    return captions


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _csv_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(csv.DictReader(io.StringIO(_read(file), newline="")), 1):
        yield f"Row {number} of {file}", row


def _json_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Not splitlines: a string in JSON may hold U+2028 and other line breaks.
    for number, line in enumerate(_read(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"Line {number} of {file} is not JSON ({error}).") from error
        yield f"Line {number} of {file}", row if isinstance(row, dict) else {}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"There is no file {file}: correct 'captions'.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is unreadable: save it as UTF-8 text ({error}).") from error
