"""One cell: a method trained under a seed and a protocol, and all that is measured of it.

A row may leave settings to held-out labels, which choose one for each data set and label rate. No
query is looked at, and no label that the method would not have: a fifth of the labelled items are
the queries, and the rest of the database is searched. The choice is made under the protocol that
lets a code depend on least, and is the same for all protocols, seeds and code lengths.
"""

import copy
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from statistics import fmean
from typing import Any, NamedTuple

import torch

from benchmarks.accuracy import measures
from benchmarks.accuracy.data import SOURCES, content, digest
from benchmarks.accuracy.methods import CHOICE_BITS, CHOICE_SEEDS, HELD_OUT, METHODS
from benchmarks.accuracy.tables import Cell
from benchmarks.measure import forks, one_thread
from pyg_hash.cli import build
from pyg_hash.codes import binarize
from pyg_hash.metrics import evaluate
from pyg_hash.transforms import ValidationSplit
from pyg_hash.typing import MODALITIES


def same_choice(cell):
    """One and the same cell for all that share a choice."""
    protocol = METHODS[cell.method].protocols[0]
    return cell._replace(bits=CHOICE_BITS, seed=CHOICE_SEEDS[0], protocol=protocol)


def choice(worths):
    """The candidate that is worth most, the first of equals, and what each is worth."""
    return {"chosen": max(worths, key=worths.__getitem__), "worths": worths}


class Bench:
    """Runs cells one after the other; keeps the data and the last graph between them.

    ``places`` says where each data set lies; ``changes`` are settings in place of every trained
    method's own, to see that things run.
    """

    def __init__(self, places, changes=None):
        self.places = places
        self.changes = dict(changes or {})
        self._raw, self._graphs, self._worths = {}, {}, {}

    def run(self, cell, extras=(), worths=None):
        """Train and measure; the line, JSON values.

        ``extras`` is what to measure besides the scores (``'ties'``, ``'curves'``, ``'tsne'``),
        ``worths`` that of the row's candidates, where it is known from another seed. A graph of
        another protocol is a ``ValueError``, a training that diverged a ``FloatingPointError``.
        """
        row, seconds, more = METHODS[cell.method], {}, {}
        start = time.process_time()
        if row.choices:
            shared = same_choice(cell)
            if shared not in self._worths:
                self._worths[shared] = self.worths(cell) if worths is None else dict(worths)
            more["choice"] = choice(self._worths[shared])
            seconds["choose"] = time.process_time() - start
        model, data, spent = self.trained(cell, row.under(more.get("choice")))
        named = model.protocol(data)
        if named != cell.protocol:
            raise ValueError(f"{cell}: the graph is {named}")
        start = time.process_time()
        with torch.no_grad():
            out = model.eval()(data)
        relaxed = {m: out[m] for m in MODALITIES}
        codes = {m: binarize(x) for m, x in relaxed.items()}
        encoded = time.process_time()
        raw = content(self.raw(cell.data))
        scores = measures.scores(codes, data, ties="ties" in extras)
        line = {
            **cell._asdict(),
            "settings": row.settings(cell.protocol, **self.changes),
            "scores": scores | measures.rescored(relaxed, data),
            "data_about": raw.about,
            "data_sha256": raw.data,
            "split_sha256": raw.split,
            "labelled_sha256": digest(data["image"].labeled_mask) if row.labels else None,
            "definition": measures.DEFINITION,
            "extras": list(extras),
            **more,
        }
        if "curves" in extras:
            line["curves"] = measures.curves(codes, data)
        if "tsne" in extras:
            line["tsne"] = measures.embeddings(codes, data, cell.seed)
        seconds |= spent | {"encode": encoded - start, "measure": time.process_time() - encoded}
        return line | {"seconds": {part: round(value, 2) for part, value in seconds.items()}}

    def worths(self, cell):
        """Mean worth of each candidate of a cell's row, over the seeds of the choice."""
        asked = [same_choice(cell)._replace(seed=seed) for seed in CHOICE_SEEDS]
        rows = METHODS[cell.method].candidates().items()
        return {n: round(fmean(self.worth(c, row) for c in asked), 6) for n, row in rows}

    def worth(self, cell, row):
        """Mean of i2t and t2i (mAP@all, expected ties) of held-out items of a cell's training."""
        model, data, _ = self.trained(cell, row, held_out=HELD_OUT)
        return evaluate(model, data, split="val").cross_modal

    def raw(self, name):
        """The data before anything is done to them; one at a time, for they may be large."""
        if name not in self._raw:
            self._raw = {name: SOURCES[name].load(self.places[name])}
        return self._raw[name]

    def trained(self, cell, row, *, held_out=0.0, of_all=False):
        """A model of a row, which need not be the cell's, its data with graph, and CPU seconds.

        A share ``held_out`` of the labelled items becomes ``val_mask``; of all training items where
        asked, or if the row may read no label. The last graph is built once.
        """
        apart = held_out if of_all or row.config.get("label_rate") == 0 else 0.0
        changes = {"val_rate": held_out - apart} | self.changes
        config = row.train_config(cell.bits, cell.labels, cell.seed, cell.protocol, **changes)
        recipe = build.recipe_of(config)
        split = ValidationSplit(apart, seed=cell.seed) if apart else None
        which = (cell.data, repr(split), repr(recipe.transforms))
        if which not in self._graphs:
            raw = copy.copy(self.raw(cell.data))
            raw = split(raw) if split else raw
            self._graphs.clear()
            start = time.process_time()
            self._graphs[which] = recipe.transforms(raw), time.process_time() - start
        data, prepared = self._graphs[which]
        start = time.process_time()
        model = recipe.model(data)
        recipe.fit(model, data, patience=config.patience, progress=False)
        return model, data, {"graph": prepared, "train": time.process_time() - start}


_bench = None  # of this process


class Done(NamedTuple):
    cell: Cell
    line: dict[str, Any] | None
    problem: str = ""


def _prepare(places, changes):
    global _bench
    one_thread()
    _bench = Bench(places, changes)


def _run(*asked):
    return _bench.run(*asked)


def run_all(cells, extras, places, *, jobs=1, changes=None, wanted=bool, worths={}.get):
    """Run cells in ``jobs`` processes, and yield each as it is finished; losing one loses one cell.

    Right before a cell starts, ``wanted`` is asked whether it still is (each is), and ``worths``
    what is known of the choice that the cell has (nothing). All else is as in :class:`Bench`.
    """
    waiting = iter(cells)
    busy = {}

    def worker():
        return ProcessPoolExecutor(1, forks(), _prepare, (places, changes))

    def give(free):
        for cell in waiting:
            if wanted(cell):
                busy[free.submit(_run, cell, extras, worths(cell))] = cell, free
                return
        free.shutdown()

    try:
        for _ in range(jobs):
            give(worker())
        while busy:
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                cell, own = busy.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    own.shutdown()
                    own, problem = worker(), f"its process ended: {error}"
                else:  # a cell that fails does not end the others; the cause has the traceback
                    problem = f"{type(error).__name__}: {error}\n{error and error.__cause__}"
                give(own)
                yield Done(cell, None, problem) if error else Done(cell, future.result())
    finally:
        for _, own in busy.values():
            own.shutdown(cancel_futures=True)
