"""What stops a program from outside (Ctrl-C, ``kill``, a terminal that closes), in good order."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = "SIGTERM", "SIGHUP", "SIGBREAK", "SIGINT"
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """The process was told to stop, by the signal of this ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals raise :class:`Stopped`, at the end if the code made something else of it."""
    told: list[int] = []

    def stop(number: int, frame: Any) -> None:
        told.append(number)
        raise Stopped(number)

    try:
        with handled(stop):
            yield
    except Exception as error:
        if told:
            raise Stopped(told[-1]) from error
        raise
    if told:
        raise Stopped(told[-1])


@contextmanager
def stop_after(what: str) -> Iterator[Callable[[], None]]:
    """Let the first signal wait until the yielded function is called; a second one does not."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if noted:
            raise Stopped(number)
        noted.append(number)
        print(f"stopping after this {what}; once more stops at once", file=sys.stderr)

    def check() -> None:
        if noted:
            raise Stopped(noted[0])

    with handled(note):
        yield check
    check()


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Have a handler for signals, unless they are ignored (nohup) or this is no main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() != owner:  # a worker, which has nothing to put in order
            os._exit(128 + number)
        handler(number, frame)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
