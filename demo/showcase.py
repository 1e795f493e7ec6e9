"""Draws the README's moving picture: `python -m animatediff_native.demo.showcase`.

Four prompts, animated by the miniature motion module: above with the base model that it was trained on, below with the
personalised one that it never saw. With --inputs, draws the video, pictures and sketches that the examples start from.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import shapes
from .clips import write_video
from .evaluate import FRAMES, Miniature, with_module
from .train import DEMO, MODELS, use_cpu

CLIPS = (("a red star", 1), ("a blue circle", 2), ("a green square", 7), ("a purple triangle", 4))
ENLARGED = 192  # pixels of each clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DEMO / "animation.webp")
    parser.add_argument("--inputs", action="store_true")
    options = parser.parse_args()
    use_cpu()
    if options.inputs:
        draw_inputs(DEMO / "input")
        return
    with torch.inference_mode():
        miniature = Miniature(MODELS)
        module = MODELS / "animatediff_models" / "miniature_motion.safetensors"
        models = [with_module(model, module) for model in (miniature.base, miniature.personalised)]
        clips = torch.stack([torch.stack([miniature.sample(model, *clip) for clip in CLIPS]) for model in models])
    frames = [sheet(clips[:, :, frame]) for frame in range(FRAMES)]
    frames[0].save(options.output, save_all=True, append_images=frames[1:], duration=125, loop=0, quality=85)
    print(options.output)


def draw_inputs(folder: Path) -> None:
    """Draw the files that the examples start from."""
    from .control import outlines  # needs ComfyUI's modules

    # Blue since the Canny node does not see pale colours on paper.
    blue, red = star("blue", seed=44), star("red", seed=1)
    write_video(blue, folder / "moving_star.mp4")
    pictures = {"first_picture": red[0], "last_picture": red[-1]}
    sketches = outlines(blue[[0, 8, -1]])
    pictures |= {f"sketch_{number}": sketch for number, sketch in enumerate(sketches, start=1)}
    for name, picture in pictures.items():
        Image.fromarray(to_bytes(picture.movedim(0, -1))).save(folder / f"{name}.png")


def star(colour: str, seed: int) -> torch.Tensor:
    """Draw a moving star (FRAMES, 3, h, w)."""
    scene = shapes.random_clip(1, FRAMES, torch.Generator().manual_seed(seed))
    scene.shape[:] = shapes.SHAPES.index("star")
    scene.colour[:] = list(shapes.COLOURS).index(colour)
    return shapes.draw(scene)


def to_bytes(pictures: torch.Tensor) -> np.ndarray:
    return pictures.clamp(0, 1).mul(255).round().byte().numpy()


def sheet(pictures: torch.Tensor) -> Image.Image:
    """Return pictures (models, clips, 3, h, w) in [0, 1] as one enlarged picture with a row for each model."""
    models, clips = pictures.shape[:2]
    rows = pictures.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    picture = Image.fromarray(to_bytes(rows))
    return picture.resize((ENLARGED * clips, ENLARGED * models), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
