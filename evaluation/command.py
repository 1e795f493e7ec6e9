"""Score the clips of a folder: `python -m evaluation FOLDER --out scores.json`.

Clips are videos, animated pictures, and subfolders of pictures. The JSON has a row for each clip, the means, and the
files that could not be read. CLIP and RAFT need files with their weights, and ComfyUI. It is found if the pack is in
its custom_nodes; otherwise give --comfyui.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import animatediff_native

from ..motion_models.files import whole_file
from .clips import find_clips, left_out, read_references, stream_clip
from .optical_flow import LucasKanade, OpticalFlow, Raft
from .score import NUMBERS, Embeddings, score

MOST_FRAMES = 1_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = parser().parse_args(arguments)
    try:
        report = evaluate(options)
        text = json.dumps(report, indent=2) + "\n"
        if options.out:
            with whole_file(options.out) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
        else:
            print(text, end="")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(summary(report), file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the clips")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: standard output")
    parser.add_argument("--frames", type=int, default=256, help="score at most the first n frames; default 256")
    parser.add_argument("--context-length", type=int, default=0, help="frames per context window, if any")
    parser.add_argument("--context-overlap", type=int, default=4, help="frames that windows share")
    parser.add_argument("--clip-vision", type=Path, help="weights of a CLIP vision model, for smoothness and look")
    parser.add_argument("--references", type=Path, help="folder of stills from the image model alone, for look")
    parser.add_argument("--clip", type=Path, help="clip_l.safetensors, for text agreement with a clip's .txt")
    parser.add_argument("--optical-flow", type=Path, help="weights of torchvision's raft_large; default: Lucas-Kanade")
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; default: the one that the pack is in")
    return parser


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Return rows, means and skipped files. ValueError if options contradict each other, or no clip can be scored."""
    if not 1 <= options.frames <= MOST_FRAMES:
        raise ValueError(f"--frames is {options.frames}, but goes from 1 to {MOST_FRAMES}.")
    if (options.references or options.clip) and not options.clip_vision:
        raise ValueError("Look and text agreement compare CLIP embeddings: give --clip-vision too.")
    paths = find_clips(options.folder)
    models = Models(options)
    rows, skipped = [], left_out(options.folder, paths)
    with torch.inference_mode():
        for number, path in enumerate(paths, 1):
            print(f"{number} of {len(paths)}: {path.name}", file=sys.stderr)
            try:
                clip_score = score(
                    stream_clip(path, options.frames),
                    models.flow,
                    models.embeddings(path, options.frames),
                    context_length=options.context_length,
                    context_overlap=options.context_overlap,
                )
                rows.append({"clip": path.name} | clip_score.rounded())
            except ValueError as error:
                skipped[path.name] = str(error)
    if not rows:
        raise ValueError("No clip could be scored. " + " ".join(skipped.values()))
    return {"clips": rows, "means": means(rows), "better": NUMBERS, "skipped": skipped}


class Models:
    """The models that the options name, for which ComfyUI is started if there are any."""

    def __init__(self, options: argparse.Namespace):
        if options.clip_vision or options.optical_flow:
            animatediff_native.start_comfyui(options.comfyui)
        self.references = read_references(options.references) if options.references else []
        self.flow = load_raft(options.optical_flow) if options.optical_flow else LucasKanade()
        self.clip_vision = load_clip_vision(options.clip_vision) if options.clip_vision else None
        self.clip = load_clip(options.clip) if options.clip else None

    def embeddings(self, path: Path, most: int) -> Embeddings | None:
        """Return the embeddings of a clip's first frames and of the text beside it, None without a vision model."""
        if self.clip_vision is None:
            return None
        from .embeddings import embed

        text = read_caption(path.with_suffix(".txt")) if self.clip is not None else ""
        images = (frame[None] for frame in stream_clip(path, most))
        return embed(self.clip_vision, images, references=self.references, clip=self.clip, text=text)


def read_caption(file: Path) -> str:
    """Return the text of a file, none if it is missing. ValueError if it is not a text."""
    try:
        return file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is not UTF-8 text: save it as UTF-8.") from error


def load_clip_vision(file: Path) -> Any:
    """Return a CLIP vision model. ValueError if the file cannot be read, or if ComfyUI does not know it."""
    import comfy.clip_vision

    load_weights(file)
    model = comfy.clip_vision.load(str(file))
    if model is None:
        raise ValueError(f"{file} is not a CLIP vision model that ComfyUI knows: choose another for --clip-vision.")
    return model


def load_clip(file: Path) -> Any:
    """Return a CLIP text encoder. ValueError if the file cannot be read."""
    import comfy.sd

    load_weights(file)
    return comfy.sd.load_clip([str(file)])


def load_raft(file: Path) -> OpticalFlow:
    """Return RAFT on ComfyUI's device. ValueError if the file holds other weights."""
    import comfy.model_management
    from torchvision.models.optical_flow import raft_large

    model, device = raft_large(weights=None, progress=False), comfy.model_management.get_torch_device()
    weights = load_weights(file)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{file} does not hold the weights of torchvision's raft_large: choose another for --optical-flow."
        ) from error
    return Raft(model.eval().to(device), device)


def load_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file. ValueError if it cannot be read."""
    from ..motion_models.loader import load_weights  # imported late, since it needs ComfyUI

    return load_weights(str(file))[0]


def means(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each number over the clips on which it was measured."""
    measured = {name: [row[name] for row in rows if row[name] is not None] for name in NUMBERS}
    return {name: round(sum(values) / len(values), 4) if values else None for name, values in measured.items()}


def summary(report: dict[str, Any]) -> str:
    """Return the report for people, in lines."""
    still = sum(row["still"] for row in report["clips"])
    lines = [f"{len(report['clips'])} clips scored, {still} of them still, {len(report['skipped'])} skipped."]
    lines += [f"  skipped: {reason}" for reason in report["skipped"].values()]
    lines += [
        f"  {name.replace('_', ' ')}: {value} (better: {NUMBERS[name]})"
        for name, value in report["means"].items()
        if value is not None
    ]
    return "\n".join(lines)
