"""Touches comfy. What `python -m training` does: errors in a sentence, and Ctrl-C loses nothing."""

from __future__ import annotations

import importlib.util
import logging
import signal
import sys
from pathlib import Path

from .config import read_config
from .processes import Accelerated, OneProcess
from .run import train


def run(file: Path) -> int:
    """The exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stopped = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.append(True))
    try:
        config = read_config(file)
        processes = processes_for(config.name, config.output)
        path = train(config, processes, lambda: bool(stopped))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    if processes.index == 0:
        print(path)
    return 0


def processes_for(name: str, folder: Path) -> OneProcess:
    """Those of `accelerate` where it is installed, with its reports; else this one alone."""
    if importlib.util.find_spec("accelerate") is not None:
        return Accelerated(name, folder)
    from comfy.model_management import get_torch_device

    return OneProcess(get_torch_device())
