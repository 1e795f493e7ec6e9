"""Draws the README's moving picture: `python -m animatediff_native.demo.showcase`.

Four prompts, animated by the miniature motion module: above with the base model that it was trained on, below with the
personalised one that it never saw. With --video, draws the clip that the video-to-video example starts from.
"""

import argparse
from pathlib import Path

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
    parser.add_argument("--video", action="store_true")
    options = parser.parse_args()
    if options.video:
        write_video(star(), DEMO / "input" / "moving_star.mp4")
        return
    use_cpu()
    with torch.inference_mode():
        miniature = Miniature(MODELS)
        module = MODELS / "animatediff_models" / "miniature_motion.safetensors"
        models = [with_module(model, module) for model in (miniature.base, miniature.personalised)]
        clips = torch.stack([torch.stack([miniature.sample(model, *clip) for clip in CLIPS]) for model in models])
    frames = [sheet(clips[:, :, frame]) for frame in range(FRAMES)]
    frames[0].save(options.output, save_all=True, append_images=frames[1:], duration=125, loop=0, quality=85)
    print(options.output)


def star() -> torch.Tensor:
    """Draw a moving star (FRAMES, 3, h, w). It is blue since the Canny node does not see pale colours on paper."""
    scene = shapes.random_clip(1, FRAMES, torch.Generator().manual_seed(44))
    scene.shape[:] = shapes.SHAPES.index("star")
    scene.colour[:] = list(shapes.COLOURS).index("blue")
    return shapes.draw(scene)


def sheet(pictures: torch.Tensor) -> Image.Image:
    """Return pictures (models, clips, 3, h, w) in [0, 1] as one enlarged picture with a row for each model."""
    models, clips = pictures.shape[:2]
    rows = pictures.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    picture = Image.fromarray(rows.clamp(0, 1).mul(255).round().byte().numpy())
    return picture.resize((ENLARGED * clips, ENLARGED * models), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
