"""Scores the clips of a folder: `python -m evaluation FOLDER --out scores.json`.

Clips are videos, animated pictures, and subfolders of pictures. The JSON has a row for each, the means over clips, and
what could not be read. CLIP and RAFT need files of their weights, and ComfyUI, which is found if the pack is installed
in its custom_nodes, or by --comfyui.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import animatediff_native

from .clips import find_clips, read_clip, read_references
from .optical_flow import LucasKanade, OpticalFlow, Raft
from .score import NUMBERS, Embeddings, score

EMBEDDED = {"smoothness", "look", "text"}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    try:
        report = evaluate(options)
        text = json.dumps(report, indent=2) + "\n"
        if options.out:
            write_whole(options.out, text)
        else:
            print(text, end="")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(summary(report), file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the clips are")
    parser.add_argument("--out", type=Path, help="the JSON file to write; default: printed")
    parser.add_argument("--frames", type=int, default=256, help="of each clip at most so many; default 256")
    parser.add_argument("--context-length", type=int, default=0, help="frames in a window, if there were windows")
    parser.add_argument("--context-overlap", type=int, default=4, help="frames that a window shares with the next")
    parser.add_argument("--clip-vision", type=Path, help="weights of a CLIP vision model, for smoothness and look")
    parser.add_argument("--references", type=Path, help="folder of the image model's own stills, for the look")
    parser.add_argument("--clip", type=Path, help="clip_l.safetensors, for text agreement with a clip's .txt")
    parser.add_argument("--optical-flow", type=Path, help="weights of torchvision's raft_large; default: Lucas-Kanade")
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder")
    return parser


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Rows, means and skipped files. ValueError if options do not fit each other, or no clip can be scored."""
    if (options.references or options.clip) and not options.clip_vision:
        raise ValueError("Look and text agreement compare CLIP embeddings: give --clip-vision too.")
    paths = find_clips(options.folder)
    references = read_references(options.references) if options.references else []
    flow, embed = load(options, references)
    windows = (options.context_length, options.context_overlap)
    rows, skipped = [], {}
    with torch.inference_mode():
        for number, path in enumerate(paths, 1):
            print(f"{number} of {len(paths)}: {path.name}", file=sys.stderr)
            try:
                images = read_clip(path, options.frames)
                rows.append({"clip": path.name} | score(images, flow, embed(path, images), *windows).rounded())
            except ValueError as error:
                skipped[path.name] = str(error)
    if not rows:
        raise ValueError("No clip could be scored. " + " ".join(skipped.values()))
    return {"clips": rows, "means": means(rows), "skipped": skipped}


def load(options: argparse.Namespace, references: list[Tensor]) -> tuple[OpticalFlow, Any]:
    """The optical flow, and a function from a clip's path and pictures to its embeddings, if any."""
    if not (options.clip_vision or options.optical_flow):
        return LucasKanade(), lambda path, images: None
    animatediff_native.start_comfyui(options.comfyui)
    from . import models

    flow = Raft(*models.load_raft(options.optical_flow)) if options.optical_flow else LucasKanade()
    if not options.clip_vision:
        return flow, lambda path, images: None
    clip = models.load_clip(options.clip) if options.clip else None
    return flow, partial(embed_clip, models.load_clip_vision(options.clip_vision), references, clip)


def embed_clip(clip_vision: Any, references: list[Tensor], clip: Any, path: Path, images: Tensor) -> Embeddings:
    from .embeddings import embed

    caption = path.with_suffix(".txt")
    text = caption.read_text(encoding="utf-8") if clip is not None and caption.is_file() else ""
    return embed(clip_vision, images, references, clip, text)


def means(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Over the clips of which a number was measured."""
    measured = {name: [row[name] for row in rows if row[name] is not None] for name in NUMBERS}
    return {name: round(sum(values) / len(values), 4) if values else None for name, values in measured.items()}


def write_whole(file: Path, text: str) -> None:
    """All of it or nothing, also where the disk is full."""
    unfinished = file.with_name(file.name + ".tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def summary(report: dict[str, Any]) -> str:
    still = sum(row["still"] for row in report["clips"])
    lines = [f"{len(report['clips'])} clips scored, {still} of them still, {len(report['skipped'])} skipped."]
    lines += [f"  skipped: {reason}" for reason in report["skipped"].values()]
    lines += [f"  {name.replace('_', ' ')}: {value}" for name, value in report["means"].items() if value is not None]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
