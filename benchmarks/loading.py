"""Measure time and memory of loading a motion module: `python tools/dev.py bench loading [FILE ...]`.

Without a file, on a full-size v2 module with random weights, as .safetensors and as .ckpt. Linux only, where a process
can read how much anonymous memory it has; pages of a mapped file are not counted, since they are the operating system's
cache and are given back when needed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import animatediff_native

STATUS = Path("/proc/self/status")


def measure(path: Path) -> tuple[float, float]:
    """Return the seconds, and the peak of the additional memory as a multiple of the file's size."""
    answer = subprocess.run(
        [sys.executable, "-m", "animatediff_native.benchmarks.loading", "--one", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, extra = answer.stdout.split()[-2:]
    return float(seconds), float(extra) / path.stat().st_size


def load(path: str) -> None:
    """Load a file in a fresh process, as ComfyUI on the CPU, and print the seconds and the additional bytes."""
    animatediff_native.start_comfyui(cpu=True)
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
    if sys.argv[1:2] == ["--one"]:
        return load(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        print("| file | GB | seconds | memory / file |")
        print("|---|--:|--:|--:|")
        for file in [Path(name) for name in sys.argv[1:]] or random_files(Path(folder)):
            seconds, memory = measure(file)
            print(f"| {file.name} | {file.stat().st_size / 1e9:.2f} | {seconds:.1f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
