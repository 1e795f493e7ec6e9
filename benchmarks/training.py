"""Measure speed and memory of training: `python tools/dev.py bench training`.

A full-size UNet and v3 motion module with random weights, as in benchmark.py. A step of a motion LoRA and of a whole
module, with and without gradient checkpointing, beside a forward and backward pass of the bare UNet on the same clip,
in turn. Then steps on clips from the cache on disk, beside the same step on a clip that is in memory.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import product, repeat
from pathlib import Path

import torch

import animatediff_native

from . import benchmark
from .benchmark import FRAMES, PeakMemory

RANK = 32


class InMemory:
    """One clip, again and again."""

    def __init__(self, item):
        self.item = item

    def stream(self, first: int, process: int = 0, processes: int = 1):
        return repeat(self.item)


def cached_clips(folder: Path, size: int):
    """Return clips of a folder's cache as `prepare` gives them, encoded with plain means: no VAE is measured here."""
    from PIL import Image

    from ..training import data

    for clip in range(8):
        (folder / f"{clip}").mkdir(parents=True)
        (folder / f"{clip}.txt").write_text("a clip")
        for frame in range(FRAMES * 4):
            Image.new("RGB", (size, size), (frame, clip, 0)).save(folder / f"{clip}" / f"{frame:03}.png")
    options = data.DataOptions(folder=folder, size=size)
    prompt = data.Prompt(torch.randn(77, 768, generator=torch.Generator().manual_seed(1)))
    means = torch.nn.AvgPool2d(8)

    def encode(pixels):
        return means(pixels.movedim(-1, 1)).mean(1, keepdim=True).repeat(1, 4, 1, 1)

    return data.prepare(options, data.Encoders(encode, lambda _: prompt, vae="means", text_encoder="noise"))


class Training:
    """The steps of a task."""

    def __init__(self, task, data, device, bf16: bool):
        from ..training import loop, motion, processes

        self.weights = loop.Weights(task.parameters, loop.FitOptions(1000, 1e-4))
        self.processes = processes.OneProcess(device)
        options = motion.MotionOptions(bf16=bf16)
        loss = motion.MotionLoss(task.unet, task.alphas, options)
        self.batches = loss.steps(data, self.processes)(0)

    def step(self) -> float:
        """Return the seconds of a step."""
        start = time.perf_counter()
        loss, _ = self.weights.gradients(next(self.batches), self.processes, lambda: False)
        self.weights.step(loss)
        return time.perf_counter() - start


def bare_step(unet, item, device, bf16: bool) -> float:
    """Return the seconds of a forward and backward pass of the UNet, down to its input."""
    noisy = item.latents.to(device).requires_grad_(True)
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        out = unet(noisy, torch.full((len(noisy),), 500, device=device), [item.prompt])
    out.float().square().mean().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(model, motion, kind: str, *, recompute: bool, data, rounds: int, device, bf16: bool) -> None:
    """Print a row of the table."""
    from ..training import frozen_unet, lora, tasks

    dtype = torch.bfloat16 if bf16 else torch.float32
    options = tasks.TaskOptions(device=device, dtype=dtype, recompute=recompute, lora=lora.LoraOptions(RANK))
    item = next(data.stream(0))
    with tasks.TASKS[kind](model, motion, options) as task:
        bare = frozen_unet.FrozenUNet(task.unet.module)
        training = Training(task, InMemory(item), device, bf16)
        pairs = []
        training.step()
        with PeakMemory() as memory:
            for _ in range(rounds):
                pairs.append((training.step(), bare_step(bare, item, device, bf16)))
        cached = Training(task, data, device, bf16)
        cached.step()
        starved = statistics.median(training.step() / cached.step() for _ in range(rounds))
    seconds = statistics.median(pair[0] for pair in pairs)
    times = statistics.median(pair[0] / pair[1] for pair in pairs)
    print(
        f"| {kind} | {'yes' if recompute else 'no'} | {seconds:.2f} | {1 / seconds:.3f} | {times:.2f} "
        f"| {memory.peak / 2**30:.2f} | {starved:.0%} |"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="pixels; default 64, on a GPU 256")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    animatediff_native.start_comfyui()
    size, device = options.size or (256 if gpu else 64), torch.device("cuda" if gpu else "cpu")
    print(f"{time.strftime('%Y-%m-%d')}, {benchmark.machine()}, torch {torch.__version__}, {size} px, {FRAMES} frames")
    print(f"{'bf16' if gpu else 'fp32'}, LoRA of rank {RANK}\n")
    print("| trains | recompute | s/step | clips/s | of bare forward and backward | peak GiB | speed with the cache |")
    print("|---|---|--:|--:|--:|--:|--:|")
    model, motion = benchmark.full_size_model(torch.float32), benchmark.motion_module(mid=False)
    with tempfile.TemporaryDirectory() as folder:
        data = cached_clips(Path(folder), size)
        for kind, recompute in product(("motion LoRA", "motion module"), (False, True)):
            report(model, motion, kind, recompute=recompute, data=data, rounds=options.rounds, device=device, bf16=gpu)


if __name__ == "__main__":
    main()
