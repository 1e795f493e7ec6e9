"""Measure time and memory of loading a motion module: `python tools/dev.py bench loading [FILE ...]`.

Without a file, on a full-size v2 module with random weights, as .safetensors and as .ckpt. Linux only, where a process
can read how much anonymous memory it has; pages of a mapped file are not counted, since they are the operating system's
cache and are given back when needed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path

import animatediff_native

STATUS = Path("/proc/self/status")


def measure(*paths: Path) -> list[tuple[float, float]]:
    """Return for each file the seconds, and the peak of the additional memory as a multiple of the file's size."""
    answer = subprocess.run(
        [sys.executable, "-m", "animatediff_native.benchmarks.loading", "--fresh", *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    numbers = [float(word) for word in answer.stdout.split()[-2 * len(paths) :]]
    sizes = [path.stat().st_size for path in paths]
    return [(seconds, extra / size) for seconds, extra, size in zip(numbers[::2], numbers[1::2], sizes, strict=True)]


def load_each(paths: list[str]) -> None:
    """Load each file in a process of its own, which has ComfyUI imported and nothing loaded."""
    animatediff_native.start_comfyui(cpu=True)
    import_module("animatediff_native.motion_models.loader")
    for path in paths:
        process = os.fork()
        if not process:
            load(path)
            sys.stdout.flush()
            os._exit(0)
        if os.waitpid(process, 0)[1]:
            sys.exit(f"{path} was not loaded.")


def load(path: str) -> None:
    """Load a file as ComfyUI does on the CPU, and print the seconds and the additional bytes."""
    from ..motion_models.loader import load_motion_model

    before = peak = anonymous_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    motion = load_motion_model(path)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(seconds, max(peak, anonymous_bytes()) - before)
    del motion


def anonymous_bytes() -> int:
    match = re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text())
    assert match
    return int(match[1]) * 1024


def random_files(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    from ..motion_models.motion_model import MotionModel, MotionModelConfig

    weights = MotionModel(MotionModelConfig.for_unet((320, 640, 1280, 1280), mid=True)).state_dict()
    files = [folder / "v2.safetensors", folder / "v2.ckpt"]
    save_file(weights, files[0])
    torch.save({"state_dict": weights}, files[1])
    return files


def main() -> None:
    if sys.argv[1:2] == ["--fresh"]:
        return load_each(sys.argv[2:])
    with tempfile.TemporaryDirectory() as folder:
        print("| file | GB | seconds | memory / file |")
        print("|---|--:|--:|--:|")
        files = [Path(name) for name in sys.argv[1:]] or random_files(Path(folder))
        for file, (seconds, memory) in zip(files, measure(*files), strict=True):
            print(f"| {file.name} | {file.stat().st_size / 1e9:.2f} | {seconds:.1f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
