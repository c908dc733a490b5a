"""Cells in worker processes: each is a process of one thread, and losing one loses one cell."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from benchmarks.accuracy.cell import Bench, Worths, one_thread
from benchmarks.accuracy.table import Cell

_SPAWN = multiprocessing.get_context("spawn")


class Done(NamedTuple):
    """What became of a cell.

    Attributes:
        cell: which.
        line: its result; None if there is none.
        problem: why there is none.
    """

    cell: Cell
    line: dict[str, Any] | None
    problem: str = ""


class _Worker:
    def __init__(self, places: Mapping[str, str], changes: Mapping[str, Any]) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=serve, args=(theirs, places, changes), daemon=True)
        self.process.start()
        theirs.close()  # so that a worker's end is noticed
        self.cell: Cell | None = None

    def start(self, cell: Cell, *how: Any) -> None:
        self.cell = cell
        self.pipe.send((cell, *how))

    def stop(self) -> None:
        if self.cell is None:
            self.pipe.send(None)
        else:  # it writes nothing: there is nothing to lose but its cell
            self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe: Connection, places: Mapping[str, str], changes: Mapping[str, Any]) -> None:
    """Run cells that come through ``pipe`` until None comes; answer with their lines."""
    one_thread()
    bench = Bench(places, changes)
    while True:
        try:
            asked = pipe.recv()
        except EOFError:  # the one who asked is gone
            return
        if asked is None:
            return
        try:
            answer = (bench.run(*asked), "")
        except Exception as error:  # a cell that fails must not end the others
            answer = (None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


def run_all(
    cells: Iterable[Cell],
    extras: tuple[str, ...],
    places: Mapping[str, str],
    *,
    jobs: int = 1,
    changes: Mapping[str, Any] | None = None,
    wanted: Callable[[Cell], bool] = lambda cell: True,
    worths: Callable[[Cell], Worths | None] = lambda cell: None,
) -> Iterator[Done]:
    """Run cells in ``jobs`` processes, and yield each as it is finished.

    Args:
        cells: in the order in which they start.
        extras: what to measure besides the scores.
        places: name of a data set -> where it lies.
        jobs: number of processes.
        changes: see :class:`~.cell.Bench`.
        wanted: asked right before a cell starts; one that is not wanted any more is left out.
        worths: asked then too: what is known of the choice that the cell has, if it has any.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # FAISS reads it when it is loaded
    waiting = iter(cells)
    workers: list[_Worker] = []

    def give(worker: _Worker) -> None:
        for cell in waiting:
            if wanted(cell):
                worker.start(cell, extras, worths(cell))
                return
        worker.cell = None

    try:
        for _ in range(jobs):
            worker = _Worker(places, changes or {})
            workers.append(worker)
            give(worker)
        while busy := {worker.pipe: worker for worker in workers if worker.cell is not None}:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy[pipe]
                assert worker.cell is not None
                cell = worker.cell
                try:
                    line, problem = worker.pipe.recv()
                except EOFError:
                    worker.process.join()
                    line, problem = None, f"its process ended ({worker.process.exitcode})"
                    worker.pipe.close()
                    workers.remove(worker)
                    worker = _Worker(places, changes or {})
                    workers.append(worker)
                give(worker)
                yield Done(cell, line, problem)
    finally:
        for worker in workers:
            worker.stop()
