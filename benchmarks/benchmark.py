"""Measure speed and memory of the motion module beside the bare UNet in the same run: `python tools/dev.py bench`.

A UNet of Stable Diffusion 1.5's full size and a v3 motion module, both with random weights, sample 16 frames with
classifier-free guidance. Bare and animated runs take turns, and ratios are taken pair by pair, so that a machine
whose speed drifts still gives a fair comparison. Sizes are pixels; the latent is an eighth of them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import animatediff_native

FRAMES, CFG, STEPS = 16, 7.5, 2
SD15_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}


def full_size_model(dtype):
    """Return a MODEL with random weights that keep the activations in a plausible range."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    config = comfy.supported_models.SD15({k: list(v) if isinstance(v, list) else v for k, v in SD15_UNET.items()})
    config.set_inference_dtype(dtype, None)
    device = comfy.model_management.get_torch_device()
    model = config.get_model({}, device=torch.device("cpu"))
    randomise(model)
    patcher = comfy.model_patcher.CoreModelPatcher
    return patcher(model, load_device=device, offload_device=torch.device("cpu"))


def randomise(module) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if name.endswith("pos_encoder.pe"):
            continue
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.5 / parameter[0].numel() ** 0.5, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)


def motion_module(mid: bool, positions: int = 0):
    """Return a motion module that went through a file and the pack's own loader.

    It holds 32 frames at once, or as many as `positions`.
    """
    from safetensors.torch import save_file

    from ..motion_models import loader, motion_model

    module = motion_model.MotionModel(motion_model.MotionModelConfig.for_unet((320, 640, 1280, 1280), mid=mid))
    randomise(module)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        save_file(module.state_dict(), file)
        del module
        return loader.load_motion_model(str(file), positions)


def with_module(model, mid: bool, positions: int = 0):
    """Return `model` with such a motion module."""
    from ..sampling.animate import animate

    return animate(model, motion_module(mid, positions))


def sample(model, size: int, frames: int = FRAMES, steps: int = STEPS, control=None) -> float:
    """Return the seconds per step of a sampling run, without the first step, which may load weights."""
    import comfy.sample
    import torch

    latent = torch.zeros(frames, 4, size // 8, size // 8)
    noise = comfy.sample.prepare_noise(latent, 0)
    options = {"control": control} if control is not None else {}
    texts = (torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    positive, negative = ([[text, dict(options)]] for text in texts)
    times = []

    def at_step(*_):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    comfy.sample.sample(
        model, noise, steps + 1, CFG, "euler", "normal", positive, negative, latent, callback=at_step,
        disable_pbar=True, seed=0,
    )  # fmt: skip
    return (times[-1] - times[0]) / steps


class PeakMemory:
    """The highest memory use in bytes while the context is open: of the GPU if there is one, else of the process."""

    def __enter__(self):
        import torch

        gc.collect()
        give_back_free_memory()
        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return self
        import psutil

        self.process, self.peak, self.open = psutil.Process(), 0, True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while self.open:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.002)

    def __exit__(self, *_):
        import torch

        if self.cuda:
            self.peak = torch.cuda.max_memory_allocated()
            return
        self.open = False
        self.thread.join()


def give_back_free_memory() -> None:
    """Give back what the C library keeps of an earlier run, which would hide part of what the next one needs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def operations(model, size: int, control=None) -> float:
    """Return the floating-point operations of one step, cond and uncond together."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        sample(model, size, control=control)
    return counter.get_total_flops() / (STEPS + 1)


def import_milliseconds() -> float:
    """Return the milliseconds that the pack adds to ComfyUI's start: its import and node list, in a fresh process."""
    code = (
        "import sys, time, asyncio; sys.argv[1:] = ['--cpu']\n"
        "import comfy.options; comfy.options.enable_args_parsing()\n"
        "import comfy.sd, comfy.sample, comfy.context_windows, comfy_api.latest, folder_paths\n"
        "import animatediff_native\n"
        "start = time.perf_counter()\n"
        "from animatediff_native.__init__ import comfy_entrypoint\n"
        "extension = asyncio.run(comfy_entrypoint())\n"
        "asyncio.run(extension.on_load()); asyncio.run(extension.get_node_list())\n"
        "print((time.perf_counter() - start) * 1000)"
    )
    runs = [
        subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def peak_gib(model, size: int, control=None) -> float:
    with PeakMemory() as memory:
        sample(model, size, control=control)
    return memory.peak / 2**30


def machine() -> str:
    import torch

    gpu = torch.cuda.is_available()
    return torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} CPU cores ({platform.machine()})"


def compare(bare, animated, size: int, rounds: int) -> dict[str, float]:
    """Return the seconds per step of both, and the module's added time and operations as shares of the bare UNet."""
    seconds = [(sample(bare, size), sample(animated, size)) for _ in range(rounds)]
    return {
        "bare": statistics.median(pair[0] for pair in seconds),
        "animated": statistics.median(pair[1] for pair in seconds),
        "time": statistics.median(pair[1] / pair[0] for pair in seconds) - 1,
        "operations": operations(animated, size) / operations(bare, size) - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels; default 64 128 256, on a GPU 256 512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mid", action="store_true", help="v2's layout, with a module in the middle block")
    options = parser.parse_args()

    import torch

    gpu = torch.cuda.is_available()
    animatediff_native.start_comfyui()
    dtype = torch.float16 if gpu else torch.float32
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}, torch {torch.__version__}, {dtype}, {FRAMES} frames, cfg {CFG}")
    print(f"pack import: {import_milliseconds():.0f} ms")

    sizes = options.sizes or ([256, 512] if gpu else [64, 128, 256])
    with torch.inference_mode():
        bare = full_size_model(dtype)
        sample(bare, 64)
        bare_peak = {size: peak_gib(bare, size) for size in sizes}  # while the module's weights are not in memory
        animated = with_module(bare, options.mid)
        weights = sum(model.model_size() for models in animated.additional_models.values() for model in models) / 2**30
        sample(animated, 64)
        print(f"motion module weights: {weights:.2f} GiB\n")
        print("| px | bare s/step | animated s/step | time | operations | bare GiB | more GiB | more / weights |")
        print("|--:|--:|--:|--:|--:|--:|--:|--:|")
        for size in sizes:
            more = peak_gib(animated, size) - bare_peak[size]
            row = compare(bare, animated, size, options.rounds)
            print(
                f"| {size} | {row['bare']:.2f} | {row['animated']:.2f} | +{row['time']:.0%} | +{row['operations']:.0%} "
                f"| {bare_peak[size]:.2f} | {more:.2f} | {more / weights:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
