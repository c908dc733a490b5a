"""What one visitor may ask, and the threads that models run in: the event loop waits for none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from typing import Generic, TypeVar

from pyg_hash.utils.checks import check_number, check_positive_int

_MOST = 64  # questions in a call
_ENOUGH = 8  # questions that share a call well
_TURN, _TURNS = 0.01, 20  # how often, in seconds, and how many times it is looked for more

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Limits:
    """Limits of the search page.

    Attributes:
        upload_bytes: of a picture.
        upload_timeout: seconds in which it must have come.
        letters: of a text.
        k: answers, if nothing is said.
        max_k: answers at most.
        threads: in which models run.
        waiting: requests that may run and wait for these threads; one more is refused (503).
        timeout: seconds after which a request that still waits is given up (503).
        pictures: small pictures kept in memory, of some 10 kB each.
    """

    upload_bytes: int = 10_000_000
    upload_timeout: float = 20.0
    letters: int = 1000
    k: int = 24
    max_k: int = 200
    threads: int = 2
    waiting: int = 512
    timeout: float = 60.0
    pictures: int = 2000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                check_positive_int(value, field.name)
            elif check_number(value, field.name) <= 0:
                raise ValueError(f"{field.name}: expected more than 0 seconds, got {value!r}")
        if self.k > self.max_k:
            raise ValueError(f"k: {self.k} is more than max_k = {self.max_k}")


class BusyError(RuntimeError):
    """Too much is waiting, or it took too long."""

    status = 503


class _Pool:
    """Threads, a bounded number of callers, and a time after which they give up."""

    def __init__(self, threads: int, limits: Limits) -> None:
        self.threads, self.waiting, self.timeout = threads, limits.waiting, limits.timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pyg_hash-search")

    def close(self) -> None:
        """Drop what waits, and end the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _admit(self, pending: int) -> None:
        if pending >= self.waiting:
            raise BusyError(f"busy: {pending} requests are waiting; try again in a moment")

    async def _in_time(self, answer: Awaitable[R]) -> R:
        try:
            return await asyncio.wait_for(answer, self.timeout)
        except asyncio.TimeoutError as error:
            message = f"busy: no answer within {self.timeout:g} seconds; try again"
            raise BusyError(message) from error


class Worker(_Pool):
    """Calls in threads. Of those that a caller gave up, what has not begun never does."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits.threads, limits)
        self._pending = 0

    @property
    def crowded(self) -> bool:
        """Whether calls wait for a thread."""
        return self._pending > self.threads

    async def run(self, call: Callable[[], R]) -> R:
        """The result of ``call``, or what it raises; ``BusyError`` if that would take too long."""
        self._admit(self._pending)
        self._pending += 1
        try:
            return await self._in_time(asyncio.get_running_loop().run_in_executor(self._pool, call))
        finally:
            self._pending -= 1


class Batches(_Pool, Generic[T, R]):
    """Collects what is asked while a call runs, and makes one call of it, in one thread of its own.

    ``call`` answers at most ``most`` questions in order, with exceptions for those without answer.
    A lone question waits for others, not for long, only where ``more`` says that they are coming.
    """

    def __init__(
        self,
        call: Callable[[list[T]], list[R | Exception]],
        limits: Limits,
        *,
        most: int = _MOST,
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(1, limits)
        self._call, self._most, self._more = call, most, more
        self._asked: dict[asyncio.Future[R], T] = {}  # in order
        self._task: asyncio.Task[None] | None = None

    async def run(self, question: T) -> R:
        """The answer to a question, or its exception; ``BusyError`` if that would take too long."""
        self._admit(len(self._asked))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._asked[answer] = question
        if self._task is None:
            self._task = loop.create_task(self._work())
        try:
            return await self._in_time(answer)
        finally:  # who gave up makes room at once
            self._asked.pop(answer, None)

    async def _work(self) -> None:
        """Calls until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._asked:
                for _ in range(_TURNS):
                    if len(self._asked) >= _ENOUGH or not self._more():
                        break
                    await asyncio.sleep(_TURN)
                futures = list(islice(self._asked, self._most))
                questions = [self._asked.pop(future) for future in futures]
                answers: list[R | Exception]
                try:
                    answers = await loop.run_in_executor(self._pool, self._call, questions)
                except Exception as error:
                    answers = [error] * len(questions)
                for future, answer in zip(futures, answers, strict=True):
                    if future.done():  # its caller gave up
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._task = None
