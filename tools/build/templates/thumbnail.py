"""Make the thumbnail of an example workflow from the clips that it renders.

    python tools/dev.py demo --workflow workflows/sdxl.json --output output
    python -m animatediff_native.tools.build.templates.thumbnail output/sdxl_00001_.webp workflows/sdxl.jpg

It shows four frames of one clip, or two frames of each of two clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageSequence

SIDE = 192  # pixels of each of the four


def frames_of(clip: Path, count: int) -> list[Image.Image]:
    """Return `count` frames of a clip, evenly spread from the first to the last."""
    with Image.open(clip) as animation:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    chosen = (frames[round(i * (len(frames) - 1) / (count - 1))] for i in range(count))
    return [frame.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for frame in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="one or two .webp")
    parser.add_argument("thumbnail", type=Path)
    options = parser.parse_args()
    thumbnail = Image.new("RGB", (2 * SIDE, 2 * SIDE))
    frames = [frame for clip in options.clips for frame in frames_of(clip, 4 // len(options.clips))]
    for place, frame in enumerate(frames):
        thumbnail.paste(frame, (place % 2 * SIDE, place // 2 * SIDE))
    thumbnail.save(options.thumbnail, quality=88)


if __name__ == "__main__":
    main()
