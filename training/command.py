"""Train motion: `python -m training --config my_run.toml`, or on several GPUs `accelerate launch -m training ...`.

Run it in the pack's folder. ComfyUI is found if the pack is in its custom_nodes; otherwise give --comfyui.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import animatediff_native

if TYPE_CHECKING:
    from .processes import OneProcess


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file, such as those in training/examples")
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; default: the one that the pack is in")
    options = parser.parse_args()
    animatediff_native.start_comfyui(options.comfyui)
    sys.exit(run(options.config))


def run(file: Path) -> int:
    """Train from a configuration file and return the exit status."""
    from .config import read_config  # here, since they import ComfyUI
    from .run import train

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with stoppable() as stop:
            config = read_config(file)
            processes = processes_for(config.name, config.output)
            path = train(config, processes, stop)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; run the same command to resume.", file=sys.stderr)
        return 130
    if processes.index == 0:
        print(path)
    return 0


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Yield a function that says, after each step, whether to stop: after Ctrl-C or SIGTERM.

    SIGTERM is what a launcher of several processes sends after a Ctrl-C. Before the first step, and when Ctrl-C comes
    twice, KeyboardInterrupt is raised at once.
    """
    asked, steps = Event(), Event()

    def stop() -> bool:
        steps.set()
        return asked.is_set()

    def on_signal(number: int, _: object) -> None:
        twice = asked.is_set() and number == signal.SIGINT
        if twice or not steps.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {name: signal.signal(name, on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def processes_for(name: str, folder: Path) -> OneProcess:
    """Return the processes of `accelerate`, with its reports, if it is installed; otherwise this one."""
    from .processes import Accelerated, OneProcess

    if importlib.util.find_spec("accelerate") is not None:
        return Accelerated(name, folder)
    from comfy.model_management import get_torch_device

    return OneProcess(get_torch_device())
