"""Touches comfy. What `python -m training` does: errors in a sentence, and Ctrl-C loses nothing."""

from __future__ import annotations

import importlib.util
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from .config import read_config
from .processes import Accelerated, OneProcess
from .run import train


def run(file: Path) -> int:
    """The exit status."""
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
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    if processes.index == 0:
        print(path)
    return 0


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Gives what says, in each step, whether to stop. Within the context Ctrl-C raises KeyboardInterrupt before the
    first time that this is asked, and when it comes twice; else it is answered after the step. So is the SIGTERM that
    a launcher of several processes sends after a Ctrl-C."""
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
    """Those of `accelerate` where it is installed, with its reports; else this one alone."""
    if importlib.util.find_spec("accelerate") is not None:
        return Accelerated(name, folder)
    from comfy.model_management import get_torch_device

    return OneProcess(get_torch_device())
