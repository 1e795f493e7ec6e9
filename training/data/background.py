"""Work that is done ahead by a thread, so that a training need not wait for it."""

from __future__ import annotations

from collections.abc import Generator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")


def in_background(items: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """The same items and errors; a thread keeps `ahead` of them ready until this iterator is closed."""
    ready, stop = Queue[Any](ahead), Event()
    thread = Thread(target=_work, args=(items, ready, stop), daemon=True)
    thread.start()
    try:
        while (entry := ready.get())[0] == "item":
            yield entry[1]
        if entry[0] == "error":
            raise entry[1]
    finally:
        stop.set()
        thread.join()


def _work(items: Generator[Any, None, None], ready: Queue[Any], stop: Event) -> None:
    try:
        for item in items:
            _hand_over(("item", item), ready, stop)
            if stop.is_set():
                break
        _hand_over(("end", None), ready, stop)
    except BaseException as error:  # for the thread that asks
        _hand_over(("error", error), ready, stop)
    finally:
        items.close()


def _hand_over(entry: tuple[str, Any], ready: Queue[Any], stop: Event) -> None:
    """Waits for a free place, but no longer than there is someone who asks."""
    while not stop.is_set():
        try:
            return ready.put(entry, timeout=0.1)
        except Full:
            continue
