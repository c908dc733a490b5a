"""The right to change a run or store, and its replacement as a whole."""

from __future__ import annotations

import errno
import os
import platform
import random
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from pyg_hash.utils.files import sync_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_MOST = 999  # letters of a lock that are looked at
_WRITTEN = re.compile("process [0-9]+( on .*)?|" + "|".join("process "[:n] for n in range(9)))
_DRAW = random.SystemRandom()  # no draw of a seeded program is taken


class BusyError(OSError):
    """Another process, or another object of this one, is changing the same thing."""


def _no_link(path: str, flags: int) -> int:
    """Open a lock, not what a link of that name in somebody's folder leads to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


class Lock:
    """The right to change something, until :meth:`release` or the end of the process.

    It is a lock of the system's on the file ``path``, which holds the process' number and is
    removed by the release; without such locks, or where nothing can be written, it is none.
    ``BusyError``: somebody else has the right, and keeps it for ``wait_s`` seconds; ``OSError``:
    ``path`` is a link, or holds something else.
    """

    def __init__(self, path: Path, what: str, wait_s: float = 0.0) -> None:
        self._file: TextIO | None = None
        until = time.monotonic() + wait_s
        self._path, self.owner = path, os.getpid()
        while fcntl is not None and self._file is None:
            try:
                file = open(path, "a+", encoding="utf-8", errors="replace", opener=_no_link)  # noqa: SIM115
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise OSError(f"{path}: is a link, which no lock is; remove it") from error
                if error.errno in (errno.EROFS, errno.EACCES, errno.ENOENT, errno.EPERM):
                    return
                raise
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                file.close()
                if time.monotonic() < until:
                    time.sleep(_DRAW.uniform(0, 0.004))  # to hit what a busy owner leaves free
                    continue
                told = f"is being changed by {owner}; wait until that is done, or choose another"
                raise BusyError(f"{what}: {told}") from None
            except OSError:  # a file system without locks
                file.close()
                return
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                    self._file = file
                    continue
            file.close()  # its owner removed it meanwhile
        if self._file is not None:
            self._file.seek(0)
            # a crash or full disk leaves the beginning of what is written, or zeros
            if not _WRITTEN.fullmatch(self._file.read(_MOST).strip("\0\n")):
                self._file.close()
                self._file = None
                raise OSError(f"{path}: holds something else than a lock; move it elsewhere")
            with suppress(OSError):  # a full disk has no room for who it is
                self._file.truncate(0)
                self._file.write(f"process {os.getpid()} on {platform.node()}")
                self._file.flush()

    @property
    def is_held(self) -> bool:
        """Whether it keeps others out: False without locks of the system."""
        return self._file is not None

    def release(self) -> None:
        """Let others change it."""
        if self._file is not None:
            if self.owner == os.getpid():  # a fork has the file too, not the right
                self._path.unlink(missing_ok=True)
            with suppress(OSError):  # what it holds may not be on a full disk
                self._file.close()
            self._file = None

    __del__ = release

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def set_aside(target: Path) -> Path:
    """Where a folder is while another takes its place: ``NAME.old`` may be a person's."""
    return target.with_name(f".{target.name}.old")


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in another's place; a kill leaves that under :func:`set_aside`."""
    old = set_aside(target)
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.rename(old)
    new.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)
