"""HDF5 files that may be somebody else's: opened only if all their content is in them.

libhdf5 follows links and storage into other files of the machine, and a damaged file can keep it
in a loop for ever. So a file without a valid checksum of ours is first gone through by a second
process (this module alone, without torch), which is stopped if it takes too long.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import h5py

from pyg_hash.utils.checksums import CorruptFileError
from pyg_hash.utils.guarded import Guarded

LIMIT_S = 60.0  # seconds that the second process may take to go through the structure of a file


class _Unfailing(io.FileIO):
    """A file that keeps its first error of writing: libhdf5 crashes where it cannot close one."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of it, to the disk or not."""
        whole = rest = memoryview(data).cast("B")
        end = self.tell() + len(whole)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        self.seek(end)
        return len(whole)

    def readinto(self, buffer: Any) -> int:
        """All of it: what could not be written is zeros, not what lay in the memory."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view)
        view[count:] = bytes(len(view) - count)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """As far as there is room."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A new file to write; ``OSError`` at its end if it could not be, as on a full disk."""
    with _Unfailing(path, "w+") as raw:
        try:
            with h5py.File(raw, "w") as file:
                yield file
        finally:
            if raw.error is not None:
                raise raw.error


def foreign(file: Any, *, thorough: bool = False) -> str:
    """What leads out of an open file, or ""; ``thorough`` reads too what damage can hang in."""
    if thorough:
        _read_attributes(file)
    for name, kind in _links(file):
        shown = name.decode(errors="replace")
        if kind == h5py.h5l.TYPE_SOFT:
            continue
        if kind != h5py.h5l.TYPE_HARD:
            return f"{shown} is a link into another file"
        node = h5py.h5o.open(file.id, name)
        if thorough:
            _read_attributes(file[name])
        if not isinstance(node, h5py.h5d.DatasetID):
            continue
        layout = node.get_create_plist()
        if layout.get_external_count():
            return f"{shown} keeps its values in another file"
        if layout.get_layout() == h5py.h5d.VIRTUAL:
            return f"{shown} is a virtual data set, of other files"
        if thorough:
            if layout.get_layout() == h5py.h5d.CHUNKED:
                node.get_num_chunks()
            if _on_heap(node):
                h5py.Dataset(node)[()]
    return ""


def _links(file: Any) -> list[tuple[bytes, int]]:
    """Name and kind of all links in an open file."""
    links = list[tuple[bytes, int]]()
    file.id.links.visit(lambda name, info: links.append((name, info.type)), info=True)
    return links


def _leads(file: Any, link: bytes) -> bool:
    """Whether a link in an open file leads to something."""
    try:
        h5py.h5o.open(file.id, link)
    except (KeyError, OSError, RuntimeError):
        return False
    return True


def _on_heap(node: Any) -> bool:
    """Whether the values may lie in a heap, whose pieces libhdf5 walks by their sizes."""
    kind = node.get_type()
    return bool(kind.detect_class(h5py.h5t.STRING) or kind.detect_class(h5py.h5t.VLEN))


def _read_attributes(holder: Any) -> None:
    for name in holder.attrs:
        if _on_heap(holder.attrs.get_id(name)):
            _ = holder.attrs[name]


@contextmanager
def open_hdf5(path: str | os.PathLike[str], *, sealed: bool = False) -> Iterator[Any]:
    """The open file; ``sealed``: it has a checksum of ours, which was compared.

    ``BlockingIOError``: another process has it open for writing; ``CorruptFileError``: it is no
    HDF5 file, or truncated or damaged, found now or while reading, or leads out of itself.
    """
    path = os.path.abspath(path)
    with open(path, "rb") as raw:  # says by itself what keeps it from being read
        state = os.fstat(raw.fileno())
        try:
            raw.read(1)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
    if not h5py.is_hdf5(path):
        raise CorruptFileError(f"{path}: not an HDF5 file; write or copy it again")
    lost = list[str]()
    try:
        now = (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if not sealed and (problem := _watched(path, *now)):
            raise OSError(problem)
        with h5py.File(path, "r") as file:
            if problem := foreign(file):
                raise CorruptFileError(
                    f"{path}: {problem}; only files that hold all their values are read, so write "
                    "them into this one"
                )
            soft = [name for name, kind in _links(file) if kind == h5py.h5l.TYPE_SOFT]
            lost = [name.decode(errors="replace") for name in soft if not _leads(file, name)]
            yield file
    except BlockingIOError:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        told = " ".join(str(error).split())  # libhdf5's may have several lines
        what = f"truncated or damaged ({told}); copy or write it again"
        if lost and "component not found" in told:
            what = f"a link to nothing: {', '.join(lost)}; write what it should lead to"
        elif "allocate memory" in told:
            raise MemoryError(f"{path}: {error}") from error
        raise CorruptFileError(f"{path}: {what}") from error


# the second process --------------------------------------------------------------------------


def watch(path: Any) -> None:
    """Go through the file of this path."""
    with suppress(BlockingIOError), h5py.File(path, "r") as file:  # else who asks will see it
        foreign(file, thorough=True)


_WATCHER = Guarded("from pyg_hash.utils.hdf5 import watch; answer_all(watch)", "going through it")


@lru_cache(maxsize=64)
def _watched(path: str, *now: int) -> str:
    """What the second process says, once for each state of a file; empty if nothing is wrong."""
    try:
        _WATCHER.ask(path, LIMIT_S)
    except (ChildProcessError, ValueError) as error:
        return str(error)
    return ""
