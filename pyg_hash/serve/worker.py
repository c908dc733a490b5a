"""What one visitor may ask, and where the work is done: the event loop waits for none of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from pyg_hash.utils.checks import check_number, check_positive_int
from pyg_hash.utils.guarded import Guarded
from pyg_hash.utils.pictures import MAX_PIXELS, MAX_SCANS, UnreadableImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""Formats from outside. Pillow knows dozens; each is code that a stranger's file would run."""

_MOST = 64  # questions in a call
_ENOUGH = 8  # questions that share a call well
_TURN, _TURNS = 0.01, 20  # how often, in seconds, and how many times it is looked for more

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Limits:
    """Limits of the search page; times are in seconds."""

    upload_bytes: int = 10_000_000  #: of a picture
    upload_total: int = 100_000_000  #: bytes of all that is being uploaded; beyond it, 503
    upload_timeout: float = 20.0  #: in which a body must have come (408)
    json_bytes: int = 4_000_000  #: of a body in JSON
    decode_timeout: float = 5.0  #: of a picture, in a process of its own that is then ended
    decode_memory: int = 1 << 30  #: bytes of address space of such a process
    pixels: int = MAX_PIXELS  #: of a picture
    side: int = 16_384  #: its longer side, in pixels
    scans: int = MAX_SCANS  #: of a JPEG
    letters: int = 1000  #: of a text
    k: int = 24  #: answers, if nothing is said
    max_k: int = 200  #: answers at most, on a page of them
    depth: int = 5000  #: answers at most, on all pages
    batch: int = 100  #: queries, or items to add, in one request
    threads: int = 2  #: in which models run, and processes that decode pictures
    waiting: int = 512  #: requests that may run and wait for these threads; one more is 503
    timeout: float = 60.0  #: after which a request that still waits is given up (503)
    pictures: int = 2000  #: small pictures kept in memory, of some 10 kB each
    #: that are open; one more takes the place of that whose request is waited for the longest
    connections: int = 1000
    #: in which the head of a request must have come, else the connection ends
    header_timeout: float = 10.0
    idle_timeout: float = 5.0  #: between two requests of a connection
    rate: float = 0.0  #: requests a second of one client, in the long run (429); 0 for any number
    burst: int = 200  #: requests that a client may send at once
    drain: float = 10.0  #: that requests under way get when the server is told to stop

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                check_positive_int(value, field.name)
            elif not 0 < check_number(value, field.name) < 1e9 and (field.name, value) != (
                "rate",
                0,
            ):
                raise ValueError(f"{field.name}: expected more than 0, got {value!r}")
        if self.k > self.max_k:
            raise ValueError(f"k: {self.k} is more than max_k = {self.max_k}")


class BusyError(RuntimeError):
    """Too much is waiting, or it took too long."""

    status = 503


class Worker:
    """Calls in threads, for a bounded number of callers, who give up after a time.

    Of what a caller gave up, what has not begun never does.
    """

    def __init__(self, limits: Limits, threads: int | None = None) -> None:
        self.threads, self.limits = threads or limits.threads, limits
        self.pool = ThreadPoolExecutor(self.threads, thread_name_prefix="pyg_hash-search")
        self.pending = 0

    def close(self) -> None:
        """Drop what waits; what runs goes on to its end."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    @property
    def full(self) -> bool:
        """Whether one more call would be refused."""
        return self.pending >= self.limits.waiting

    @property
    def crowded(self) -> bool:
        """Whether calls wait for a thread."""
        return self.pending > self.threads

    async def run(self, call: Callable[[], R]) -> R:
        """The result of ``call``, or what it raises; ``BusyError`` if that would take too long."""
        return await self.wait(lambda loop: loop.run_in_executor(self.pool, call))

    async def wait(self, begin: Callable[[asyncio.AbstractEventLoop], Awaitable[R]]) -> R:
        """What is begun, in time; ``BusyError``: it is not, or too many wait."""
        if self.full:
            raise BusyError(f"busy: {self.pending} requests are waiting; try again in a moment")
        self.pending += 1
        try:
            answer = begin(asyncio.get_running_loop())
            return await asyncio.wait_for(answer, self.limits.timeout)
        except asyncio.TimeoutError as error:
            seconds = self.limits.timeout
            raise BusyError(f"busy: no answer within {seconds:g} seconds; try again") from error
        finally:
            self.pending -= 1


class Pictures(Worker):
    """Decodes pictures of strangers in processes of limited time and memory, each in its turn.

    What it writes lies in one folder, which :meth:`close` removes.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._folder = tempfile.TemporaryDirectory(prefix="pyg_hash-serve-")
        code = f"from pyg_hash.utils.pictures import watch; watch({limits.decode_memory})"
        self.helpers = [Guarded(code, "image: decoding it") for _ in range(limits.threads)]
        self._free: SimpleQueue[Guarded] = SimpleQueue()
        for helper in self.helpers:
            self._free.put(helper)
        self._how = [FORMATS, {name: getattr(limits, name) for name in ("pixels", "side", "scans")}]

    def close(self) -> None:
        """End the processes and remove what they wrote."""
        super().close()
        for helper in self.helpers:
            helper.stop()
        self._folder.cleanup()

    @contextmanager
    def folder(self) -> Any:
        """A folder for one request, which ends with it."""
        path = Path(tempfile.mkdtemp(dir=self._folder.name))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    async def decode(self, content: bytes, folder: Path) -> Path:
        """A picture as a file of plain pixels; ``UnreadableImageError``, ``BusyError``."""

        def call() -> Path:
            (folder / "upload").write_bytes(content)
            return self._ask(folder / "upload", folder / "query.ppm", *self._how)

        return await self.run(call)

    async def small(self, path: str, size: int) -> bytes:
        """A picture of the database as a small JPEG; ``UnreadableImageError``, ``BusyError``."""

        def call() -> bytes:
            with self.folder() as folder:
                return self._ask(Path(path).absolute(), folder / "small.jpg", size).read_bytes()

        return await self.run(call)

    def _ask(self, source: Path, target: Path, *how: Any) -> Path:
        helper = self._free.get()
        try:
            helper.ask([str(source), str(target), *how], self.limits.decode_timeout)
        except ChildProcessError as error:
            raise UnreadableImageError(f"{error}; save it anew, smaller") from error
        except ValueError as error:
            raise UnreadableImageError(str(error)) from error
        finally:
            self._free.put(helper)
        return target


class Batches(Worker, Generic[T, R]):
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
        super().__init__(limits, 1)
        self._call, self._most, self._more = call, most, more
        self._asked: dict[asyncio.Future[R], T] = {}  # in order
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: T) -> R:
        """The answer to a question, or its exception; ``BusyError`` if that would take too long."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()

        def begin(loop: asyncio.AbstractEventLoop) -> Awaitable[R]:
            self._asked[answer] = question
            if self._task is None:
                self._task = loop.create_task(self._work())
            return answer

        try:
            return await self.wait(begin)
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
                    answers = await loop.run_in_executor(self.pool, self._call, questions)
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
