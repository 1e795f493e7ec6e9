"""Measures how clips follow paths: `python -m animatediff_native.demo.paths`.

The paths are those along which demo/drag.py drags cut-outs; here the sampler gets no picture. Writes the table of
docs/measurements/paths.md.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import drag, metrics, shapes
from .evaluate import FRAMES, Miniature, centred_stills, with_module
from .keyframes import LOOKS, mean
from .train import DEMO, MODELS, use_cpu

RESULTS = DEMO.parent / "docs" / "measurements" / "paths.md"
OTHER_SEEDS = 10_000  # of the stills with which looks are compared
ROWS = {"none": None, "no words": False, "words": True}
HEAD = """# Clips that follow paths

{date}, {machine}: the miniature, {seeds} seeds of each row. This measures them:

    python tools/dev.py run -- python -m animatediff_native.demo.paths --seeds {seeds}

Motion Path gives a bent path and Follow Paths, with its defaults, lets the shape of the prompt move along it. *none* is
a clip of the same prompt and seed that follows nothing; *words* says whether Motion Path was given the shape's words.

- *place*: mean distance between the shape and the place on the path, in pixels and in sizes of the shape.
- *correlation*: of the shape's path with the one that was asked for.
- *shape*, *colour*: frames that show what the prompt asks for.
- *step*, *jerk*: how far the shape moves from frame to frame, and the third difference of its path.
- *look*: likeness to pictures of the same prompt that were sampled without a motion module.

The miniature draws one shape in each clip, so this does not show how several subjects keep apart.

"""


def clips(
    miniature: Miniature, name: str, tasks: Sequence[drag.Task], words: bool | None, module: Path
) -> Iterator[Tensor]:
    """Yield the clip of each task, with or without words of its shape, or without a path at None."""
    from ..nodes.follow_paths import FollowPathsNode
    from ..nodes.motion_path import MotionPathNode

    model = with_module(getattr(miniature, name), module)
    for seed, task in enumerate(tasks):
        prompt, size = shapes.captions(task.scene)[0], 2 * float(task.scene.radius[0]) / shapes.SIZE
        followed = model
        if words is not None:
            subject = {"words": prompt.removeprefix("a "), "clip": miniature.clip} if words else {}
            paths = MotionPathNode.execute(task.path, size, size, frames=FRAMES, **subject).args[0]
            (followed,) = FollowPathsNode.execute(model, paths).args
        yield miniature.sample(followed, prompt, seed)


def look(clip: Tensor, stills: Tensor) -> float:
    return mean([100 * metrics.look(picture, stills) for picture in clip])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--seeds", type=int, default=32, help="clips of each row; default 32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    use_cpu()
    module = options.models / "animatediff_models" / "miniature_motion.safetensors"
    machine = f"{os.cpu_count()} CPU cores, torch {torch.__version__}"
    text = HEAD.format(date=time.strftime("%d %B %Y"), machine=machine, seeds=options.seeds)
    columns = (*drag.COLUMNS, "look %")
    text += "| model | words | " + " | ".join(columns) + " |\n|---|---|" + "--:|" * len(columns) + "\n"
    with torch.inference_mode():
        miniature = Miniature(options.models)
        for name, picture_look in LOOKS.items():
            tasks = [drag.task(seed, picture_look) for seed in range(options.seeds)]
            stills = [
                centred_stills(miniature.sample(getattr(miniature, name), shapes.captions(task.scene)[0], seed))
                for seed, task in enumerate(tasks, OTHER_SEEDS)
            ]
            for row, words in ROWS.items():
                measured, looks = drag.Measured(), []
                for clip, task, still in zip(
                    clips(miniature, name, tasks, words=words, module=module), tasks, stills, strict=True
                ):
                    measured.add(clip, task)
                    looks.append(look(clip, still))
                text += f"| {name} | {row} | {measured.row()} | {mean(looks):.1f} |\n"
                options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
