"""Fits the colours of the miniature's live preview: `python -m animatediff_native.demo.preview_colours`.

ComfyUI's quick preview maps each latent pixel to a colour linearly. The miniature's latents are not Stable Diffusion's,
so its companion pack has factors of its own in preview_colours.json. The encoder is closed-form, hence nothing is
trained here, and the fit gives the same file every time.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F

import animatediff_native

from . import shapes

FILE = Path(__file__).parent / "comfyui-miniature" / "preview_colours.json"
SCENES = 512  # drawn in each look


def fit() -> dict[str, list]:
    """Return the least-squares map from latents to colours in [-1, 1]: `factors` (4, 3) and `bias` (3,)."""
    from . import autoencoder

    scene = shapes.random_scene(SCENES, torch.Generator().manual_seed(3))
    pictures = torch.cat([shapes.draw(scene, look) for look in shapes.LOOKS])
    latents = autoencoder.encode(pictures, *autoencoder.projection()).movedim(1, -1).flatten(0, 2)
    colours = F.avg_pool2d(pictures * 2 - 1, autoencoder.PATCH).movedim(1, -1).flatten(0, 2)
    inputs = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs.double(), colours.double()).solution
    *factors, bias = [[round(value, 3) + 0.0 for value in row] for row in solution.tolist()]  # no -0.0
    return {"factors": factors, "bias": bias}


def write(file: Path) -> None:
    """Fit the colours and write them where the companion pack reads them."""
    file.write_text(json.dumps(fit()) + "\n", encoding="utf-8")
    print(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FILE)
    options = parser.parse_args()
    animatediff_native.start_comfyui(cpu=True)
    write(options.output)


if __name__ == "__main__":
    main()
