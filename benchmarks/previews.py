"""Measure the cost of previewing a whole clip: `python tools/dev.py bench previews`.

The miniature, whose steps are so quick that a preview weighs more than with any other model, sampled in turn without
previews, with ComfyUI's own of the first frame, and with all frames moving. GPU memory is not measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import animatediff_native

from . import benchmark

STEPS = 20


def seconds(model: Any, clip: Any, size: int, frames: int, method: Any) -> float:
    """Return the seconds of one run of the sampler."""
    import comfy.sample
    import latent_preview
    import torch
    from comfy.cli_args import args

    args.preview_method = method
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red star", ""))
    latent = torch.zeros(frames, 4, size // 8, size // 8)
    noise = comfy.sample.prepare_noise(latent, 0)
    callback = latent_preview.prepare_callback(model, STEPS)
    prompts: Any = {"positive": positive, "negative": negative, "latent_image": latent}
    start = time.perf_counter()
    settings: Any = (noise, STEPS, 2.5, "euler_ancestral", "normal")
    comfy.sample.sample(model, *settings, **prompts, callback=callback, disable_pbar=True, seed=0)
    return time.perf_counter() - start


def hear(_value: float, _of: float, preview: Any, **_: Any) -> None:
    """Encode a preview as ComfyUI's server does, to include that cost."""
    import io

    if preview is not None:
        kind, picture, _largest = preview
        picture.save(io.BytesIO(), format=kind, quality=95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    animatediff_native.start_comfyui(cpu=True)
    import comfy.utils
    import torch
    from comfy.cli_args import LatentPreviewMethod

    from ..demo.evaluate import Miniature, with_module
    from ..demo.train import MODELS

    models = MODELS
    comfy.utils.set_progress_bar_global_hook(hear)
    with torch.inference_mode():
        miniature = Miniature(models)
        animated = with_module(miniature.base, models / "animatediff_models" / "miniature_motion.safetensors")
        bare = animated.clone()
        bare.remove_wrappers_with_key("outer_sample", "animatediff_native.clips")
        print(f"{time.strftime('%Y-%m-%d')}, {benchmark.machine()}, torch {torch.__version__}, {STEPS} steps\n")
        print("| pixels | frames | seconds without | with ComfyUI's preview | with all frames moving |")
        print("|--:|--:|--:|--:|--:|")
        for size, frames in ((96, 16), (128, 16)):
            compare(miniature.clip, bare, animated, size, frames, options.rounds, LatentPreviewMethod)


def compare(clip: Any, bare: Any, animated: Any, size: int, frames: int, rounds: int, method: Any) -> None:
    runs: list[tuple[float, float, float]] = []
    kinds = ((animated, method.NoPreviews), (bare, method.Latent2RGB), (animated, method.Latent2RGB))
    for model, chosen in kinds:
        seconds(model, clip, size, frames, chosen)
    for _ in range(rounds):
        runs.append(tuple(seconds(model, clip, size, frames, chosen) for model, chosen in kinds))  # type: ignore[arg-type]
    without = statistics.median(run[0] for run in runs)
    times = [statistics.median(run[kind] / run[0] for run in runs) for kind in (1, 2)]
    cells = [f"{(ratio - 1):+.1%}" for ratio in times]
    print(f"| {size} | {frames} | {without:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
