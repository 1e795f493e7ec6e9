"""Choose PyTorch's build: the default one brings gigabytes of CUDA, which a machine without a GPU does not need."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
from collections.abc import Callable

from .cache import say

TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
GPUS = ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd", "/dev/dri/renderD*")  # NVIDIA, Windows' in WSL, AMD, any other
PATIENCE = 30  # seconds that the index of builds without CUDA has to answer
QUICKLY = {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"}


def torch_backend(uv: str, is_installed: Callable[[str], bool]) -> str:
    """Return uv's name of the PyTorch build to use: the user's choice, `cpu`, or "" for the default build.

    is_installed(backend) says whether there is an environment with that build already: it is used as it is, and
    nobody is asked over the network.
    """
    if "UV_TORCH_BACKEND" in os.environ:
        return os.environ["UV_TORCH_BACKEND"]
    if platform.system() != "Linux" or has_gpu():
        return ""
    for backend in ("cpu", ""):
        if is_installed(backend):
            return backend
    if cpu_build_is_reachable(uv):
        say("There is no GPU here: PyTorch is installed without CUDA. UV_TORCH_BACKEND chooses another build.")
        return "cpu"
    say("There is no GPU here, but PyTorch's builds without CUDA cannot be reached: the default one is installed.")
    return ""


def has_gpu() -> bool:
    """Return whether this Linux machine has a GPU or its driver's tools."""
    return shutil.which("nvidia-smi") is not None or any(glob.glob(pattern) for pattern in GPUS)


def cpu_build_is_reachable(uv: str) -> bool:
    """Return whether uv can resolve PyTorch's builds without CUDA, which are on an index of their own."""
    resolve = [uv, "pip", "compile", "-", "--quiet", "--no-deps", "--python-version", "3.12", "--torch-backend", "cpu"]
    pins = "\n".join(TORCH)
    try:
        answer = subprocess.run(
            resolve, input=pins, env=os.environ | QUICKLY, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0
