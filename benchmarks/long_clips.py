"""Measure time and memory of long clips: `python tools/dev.py bench long_clips`.

A full-size UNet and motion module with random weights, as in benchmark.py. A clip in windows is compared with the
ideal: the time of a 16-frame clip times the number of windows. Each is measured between two clips of 16 frames, so that
a machine whose speed drifts still gives a fair comparison. Then, windows inside the motion module against none.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import animatediff_native

from . import benchmark
from .benchmark import FRAMES, PeakMemory, sample

INSIDE_FRAMES = 128


def windowed(model, **options):
    from ..sampling.clips import apply_sliding_context
    from ..sampling.context_windows import ContextOptions

    return apply_sliding_context(model, ContextOptions(**options))


def count_windows(frames: int) -> int:
    from ..sampling.context_windows import ContextOptions

    return len(ContextOptions().windows(frames, 0, 1)[0])


def ratio(measured, reference, rounds: int) -> tuple[float, float]:
    """Return the seconds of `measured`, and their ratio to those of `reference`, which runs before and after it."""
    before, seconds, ratios = reference(), [], []
    for _ in range(rounds):
        seconds.append(measured())
        after = reference()
        ratios.append(seconds[-1] / ((before + after) / 2))
        before = after
    return statistics.median(seconds), statistics.median(ratios)


def report(model, size: int, lengths: list[int], rounds: int) -> None:
    """Print the table of windows over the whole UNet."""
    print("| frames | windows | s/step | s/step and frame | over the ideal | peak GiB |\n|--:|--:|--:|--:|--:|--:|")
    for frames in lengths:
        peaks = []

        def measured(frames: int = frames, peaks: list[int] = peaks) -> float:
            with PeakMemory() as memory:
                seconds = sample(model, size, frames, 1)
            peaks.append(memory.peak)
            return seconds

        count = count_windows(frames)
        seconds, times = ratio(measured, lambda: sample(model, size, FRAMES, 2), rounds)
        over, peak = times / count - 1, max(peaks) / 2**30
        print(f"| {frames} | {count} | {seconds:.2f} | {seconds / frames:.3f} | {over:+.1%} | {peak:.2f} |")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    import torch

    gpu, size = torch.cuda.is_available(), options.size
    animatediff_native.start_comfyui()
    dtype = torch.float16 if gpu else torch.float32
    print(f"{time.strftime('%Y-%m-%d')}, {benchmark.machine()}, torch {torch.__version__}, {dtype}, {size} px\n")
    with torch.inference_mode():
        model = benchmark.with_module(benchmark.full_size_model(dtype), mid=False, positions=INSIDE_FRAMES)
        sample(model, size)
        report(windowed(model), size, options.frames, options.rounds)
        inside = windowed(model, within="motion module")
        seconds, times = ratio(
            lambda: sample(inside, size, INSIDE_FRAMES, 1),
            lambda: sample(model, size, INSIDE_FRAMES, 1),
            options.rounds,
        )
        print(f"\n{INSIDE_FRAMES} frames, windows inside the motion module: {seconds:.2f} s/step, {times:.2f} times")
        print("that of no windows")


if __name__ == "__main__":
    main()
