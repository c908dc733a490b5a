"""A second process for what a stranger's file can make slow, large or fatal."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Queue
from typing import Any

_START = "import sys; sys.path[:] = {!r}; from pyg_hash.utils.guarded import answer_all; {}"
_START_S = 60.0


class Guarded:
    """A process, started when first needed, that answers questions; both are JSON.

    ``code``, without torch to start fast, calls :func:`answer_all`; messages name ``what`` it does.
    """

    def __init__(self, code: str, what: str) -> None:
        self.code, self.what = code, what
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._answers: Queue[str] = Queue()
        self._owner = 0
        atexit.register(self.stop)

    def ask(self, question: Any, limit_s: float) -> Any:
        """Its answer; ``ValueError``: what kept it from one.

        ``ChildProcessError``: none in so many seconds, or it ended; it is gone.
        """
        with self._lock:
            is_new = self._process is None or self._owner != os.getpid()  # or this one was forked
            if is_new:
                self._start()
            assert self._process is not None and self._process.stdin is not None
            answer = ""
            try:
                # how long a start takes is no fault of the file's
                if not is_new or self._answers.get(timeout=_START_S):
                    self._process.stdin.write(json.dumps(question) + "\n")
                    self._process.stdin.flush()
                    answer = self._answers.get(timeout=limit_s)
            except Empty:
                told = f"{self.what} takes more than {limit_s:g} seconds"
                raise ChildProcessError(told) from None
            except OSError:  # it ended: killed, or out of memory
                pass
            finally:
                if not answer:  # one that comes later, as after an interrupt, is another's
                    self.stop()
            if not answer:
                raise ChildProcessError(f"{self.what}: the process for it ended without an answer")
            found, problem = json.loads(answer)
            if problem:
                raise ValueError(problem)
            return found

    def _start(self) -> None:
        paths = [os.path.abspath(path) for path in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START.format(paths, self.code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # an interrupt is for the one who asked
        )
        self._answers, self._owner = Queue(), os.getpid()
        ends = self._process.stdout, self._answers
        threading.Thread(target=_hand_on, args=ends, daemon=True).start()

    def stop(self) -> None:
        """End the process, if it is ours."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):  # what it was not there to read
                    process.stdin.close()


def answer_all(answer: Callable[[Any], Any]) -> None:
    """What a second process does until its end; it says what ``answer`` raises."""
    print("ready", flush=True)
    for line in sys.stdin:
        found, problem = None, ""
        try:
            found = answer(json.loads(line))
        except MemoryError:
            problem = "it asks for more memory than there is"
        except Exception as error:  # whatever a library makes of damage
            problem = " ".join(str(error).split()) or type(error).__name__
        print(json.dumps([found, problem]), flush=True)


def _hand_on(lines: Any, answers: Queue[str]) -> None:
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")
