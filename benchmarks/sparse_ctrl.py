"""Measure speed and memory of SparseCtrl beside the bare UNet in the same run: `python tools/dev.py bench sparse_ctrl`.

A SparseCtrl of full size with random weights steers 16 frames with a picture at the first and one at the last. Runs
with and without it take turns. Sizes are pixels; the latent is an eighth of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import animatediff_native

from .benchmark import CFG, FRAMES, full_size_model, machine, operations, peak_gib, randomise, sample


def full_size_control(size: int):
    """Return a scribble SparseCtrl with random weights that went through a file, and has two pictures of that size."""
    import comfy.ops
    import torch
    from safetensors.torch import save_file

    from ..motion_models.motion_model import MotionModelConfig
    from ..motion_models.sparse_ctrl import SparseControlNet, SparseCtrlConfig, own_keys_and_shapes
    from ..sampling.sparse_control import load_sparse_control

    down = tuple((channels,) * 2 for channels in (320, 640, 1280, 1280))
    motion = MotionModelConfig(down=down, mid=(), up=(), attentions=1)
    config = SparseCtrlConfig(motion, text_features=768, takes_latents=False)
    factory = {"dtype": torch.float16, "device": torch.device("cpu"), "operations": comfy.ops.disable_weight_init}
    network = SparseControlNet("random", config, **factory)
    randomise(network)
    weights = network.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        save_file({key: weights[own] for key, own in own_keys_and_shapes(config)[0].items()}, path)
        del network, weights
        control = load_sparse_control(str(path))
    return control.set_cond_hint(torch.rand(2, 3, size, size), strength=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels; default 64 128, on a GPU 256 512")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    import torch

    gpu = torch.cuda.is_available()
    animatediff_native.start_comfyui()
    dtype = torch.float16 if gpu else torch.float32
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}, torch {torch.__version__}, {dtype}, {FRAMES} frames, cfg {CFG}\n")
    sizes = options.sizes or ([256, 512] if gpu else [64, 128])
    with torch.inference_mode():
        bare = full_size_model(dtype)
        sample(bare, 64)
        bare_peak = {size: peak_gib(bare, size) for size in sizes}  # while SparseCtrl's weights are not in memory
        control = full_size_control(sizes[-1])
        weights = control.control_model_wrapped.model_size() / 2**30
        print("| px | bare s/step | with SparseCtrl s/step | time | operations | more GiB | more / weights |")
        print("|--:|--:|--:|--:|--:|--:|--:|")
        for size in sizes:
            sample(bare, size, control=control)
            seconds = [(sample(bare, size), sample(bare, size, control=control)) for _ in range(options.rounds)]
            without, steered = (statistics.median(column) for column in zip(*seconds, strict=True))
            share = statistics.median(pair[1] / pair[0] for pair in seconds) - 1
            more_operations = operations(bare, size, control) / operations(bare, size) - 1
            more = peak_gib(bare, size, control) - bare_peak[size]
            print(
                f"| {size} | {without:.2f} | {steered:.2f} | +{share:.0%} | +{more_operations:.0%} | {more:.2f} "
                f"| {more / weights:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
