"""Draws the README's moving picture: `python tools/dev.py run -- python -m demo.showcase`.

One motion module, above in the base model and below in the personalised one, with the same prompts and seeds.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from .evaluate import FRAMES, Miniature, with_module
from .train import DEMO, MODELS, use_cpu

CLIPS = (("a red star", 1), ("a blue circle", 2), ("a green square", 7), ("a purple triangle", 4))
ENLARGED = 192  # pixels of each clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DEMO / "animation.webp")
    options = parser.parse_args()
    use_cpu()
    with torch.inference_mode():
        miniature = Miniature(MODELS)
        module = MODELS / "animatediff_models" / "miniature_motion.safetensors"
        models = [with_module(model, module) for model in (miniature.base, miniature.personalised)]
        rows = [torch.stack([miniature.sample(model, *clip) for clip in CLIPS]) for model in models]
    frames = [sheet([row[:, frame] for row in rows]) for frame in range(FRAMES)]
    frames[0].save(options.output, save_all=True, append_images=frames[1:], duration=125, loop=0, quality=85)
    print(options.output)


def sheet(rows: list[torch.Tensor]) -> Image.Image:
    """One frame of all clips: rows of (clips, 3, h, w) pictures in [0, 1]."""
    lines = [torch.cat(list(row), dim=2) for row in rows]
    picture = torch.cat(lines, dim=1).clamp(0, 1).mul(255).round().byte().movedim(0, -1)
    image = Image.fromarray(picture.numpy())
    return image.resize((ENLARGED * len(rows[0]), ENLARGED * len(rows)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
