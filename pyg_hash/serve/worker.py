"""The threads that models run in, so that the event loop never waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class BusyError(RuntimeError):
    """Too much is waiting, or it took too long."""


class Worker:
    """A pool of threads with a bounded queue.

    Args:
        threads: how many calls run at a time.
        waiting: how many may run and wait; one more is refused at once.
        timeout: seconds after which a caller gives up. What runs by then runs to its end, and what
            has not begun never does.
    """

    def __init__(self, *, threads: int, waiting: int, timeout: float) -> None:
        self.waiting = waiting
        self.timeout = timeout
        self._threads = threads
        self._pending = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pyg_hash-search")

    @property
    def crowded(self) -> bool:
        """Whether calls wait for a thread."""
        return self._pending > self._threads

    async def run(self, call: Callable[[], T]) -> T:
        """The result of ``call``, made in a thread.

        Raises:
            BusyError: the queue is full, or the time is over.
            Exception: whatever ``call`` raises.
        """
        if self._pending >= self.waiting:
            raise BusyError(f"busy: {self._pending} requests are waiting; try again in a moment")
        self._pending += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, call)
            return await asyncio.wait_for(future, self.timeout)
        except asyncio.TimeoutError as error:
            raise BusyError(
                f"busy: no answer within {self.timeout:g} seconds; try again"
            ) from error
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Drop what waits, and end the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
