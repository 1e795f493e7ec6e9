"""Draws the README's moving picture: `python tools/dev.py run -- python -m demo.showcase`.

Four prompts, animated by the miniature motion module.
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
        model = with_module(miniature.base, module)
        clips = torch.stack([miniature.sample(model, *clip) for clip in CLIPS])
    frames = [sheet(clips[:, frame]) for frame in range(FRAMES)]
    frames[0].save(options.output, save_all=True, append_images=frames[1:], duration=125, loop=0, quality=85)
    print(options.output)


def sheet(pictures: torch.Tensor) -> Image.Image:
    """(clips, 3, h, w) pictures in [0, 1], side by side and enlarged."""
    row = torch.cat(list(pictures), dim=2).clamp(0, 1).mul(255).round().byte().movedim(0, -1)
    return Image.fromarray(row.numpy()).resize((ENLARGED * len(pictures), ENLARGED), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
