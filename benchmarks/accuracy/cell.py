"""One cell: a method trained under a seed and a protocol, and all that is measured of it.

A row may leave settings to held-out labels, which choose one for each data set and label rate. No
query is looked at, and no label that the method would not have: a fifth of the labelled items are
the queries, and the rest of the database is searched. The choice is made under the protocol that
lets a code depend on least, and is the same for all protocols, seeds and code lengths.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch_geometric.transforms as T
from torch_geometric.data import HeteroData

from benchmarks.accuracy import measures
from benchmarks.accuracy.data import SOURCES, content, labelled_rows
from benchmarks.accuracy.methods import CHOICE_BITS, CHOICE_SEEDS, HELD_OUT, METHODS, Method
from benchmarks.accuracy.table import Cell
from pyg_hash.metrics import evaluate
from pyg_hash.typing import MODALITIES

Worths = dict[str, float]
"""A candidate of ``Method.candidates`` -> what it is worth."""


def same_choice(cell: Cell) -> Cell:
    """One and the same cell for all that share a choice."""
    protocol = METHODS[cell.method].protocols[0]
    return cell._replace(bits=CHOICE_BITS, seed=CHOICE_SEEDS[0], protocol=protocol)


def best(found: Worths) -> str:
    """The candidate that is worth most; the first of equals."""
    return max(found, key=found.__getitem__)


class Trained(NamedTuple):
    """A trained model, the data with its graph, and the CPU seconds that both took."""

    model: Any
    data: HeteroData
    seconds: dict[str, float]


class Bench:
    """Runs cells one after the other; keeps the data and the last graph between them.

    Args:
        places: name of a data set -> where it lies.
        changes: settings in place of every trained method's own, to see that things run.
    """

    def __init__(self, places: Mapping[str, str], changes: Mapping[str, Any] | None = None) -> None:
        self.places = places
        self.changes = dict(changes or {})
        self._raw: dict[str, HeteroData] = {}
        self._graphs: dict[tuple[str, str], tuple[HeteroData, float]] = {}
        self._worths: dict[Cell, Worths] = {}

    def run(
        self, cell: Cell, extras: tuple[str, ...] = (), worths: Worths | None = None
    ) -> dict[str, Any]:
        """Train and measure.

        Args:
            cell: what.
            extras: ``'ties'``, ``'curves'``, ``'tsne'``: what to measure besides the scores.
            worths: of the row's candidates, where they are known from another seed.

        Returns:
            JSON values: the cell's place, its settings, scores, digests of data, split and
            labelled rows, what was chosen, and CPU seconds.

        Raises:
            ValueError: the method's graph makes another protocol than the cell names.
            FloatingPointError: the training diverged.
        """
        row = METHODS[cell.method]
        start = time.process_time()
        choice = self._choice(cell, worths) if row.choices else None
        choosing = {} if choice is None else {"choose": time.process_time() - start}
        trained = self.trained(cell, row if choice is None else row.candidates()[choice["chosen"]])
        data, model = trained.data, trained.model
        named = model.protocol(data)
        if named != cell.protocol:
            raise ValueError(f"{cell}: the graph is {named}")
        start = time.process_time()
        codes = {m: model.encode(data, m) for m in MODALITIES}
        encoded = time.process_time()
        raw = content(self.raw(cell.data))
        line = {
            **cell._asdict(),
            "settings": row.settings(cell.protocol, **self.changes),
            "scores": measures.scores(codes, data, ties="ties" in extras),
            "data_about": raw.about,
            "data_sha256": raw.data,
            "split_sha256": raw.split,
            "labelled_sha256": labelled_rows(data) if row.labels else None,
            "definition": measures.DEFINITION,
            "extras": list(extras),
        }
        if choice is not None:
            line["choice"] = choice
        if "curves" in extras:
            line["curves"] = measures.curves(codes, data)
        if "tsne" in extras:
            line["tsne"] = measures.embeddings(codes, data, cell.seed)
        seconds = choosing | trained.seconds | {"encode": encoded - start}
        seconds["measure"] = time.process_time() - encoded
        line["seconds"] = {part: round(value, 2) for part, value in seconds.items()}
        return line

    def _choice(self, cell: Cell, known: Worths | None) -> dict[str, Any]:
        """What is chosen for a cell, and why."""
        shared = same_choice(cell)
        if shared not in self._worths:
            self._worths[shared] = self.worths(cell) if known is None else dict(known)
        found = self._worths[shared]
        return {"chosen": best(found), "worths": found}

    def worths(self, cell: Cell) -> Worths:
        """Mean worth of each candidate of a cell's row, over the seeds of the choice."""
        asked = [same_choice(cell)._replace(seed=seed) for seed in CHOICE_SEEDS]
        return {
            name: round(statistics.fmean(self.worth(one, row) for one in asked), 6)
            for name, row in METHODS[cell.method].candidates().items()
        }

    def worth(self, cell: Cell, row: Method) -> float:
        """Mean of i2t and t2i (mAP@all, expected ties) of held-out items of a cell's training.

        Raises:
            FloatingPointError: the training diverged.
        """
        trained = self.trained(cell, row, held_out=HELD_OUT)
        result = evaluate(trained.model, trained.data, split="val")
        return 0.5 * (result.i2t + result.t2i)

    def raw(self, name: str) -> HeteroData:
        """The data before anything is done to them."""
        if name not in self._raw:
            self._raw.clear()  # one at a time: they may be large
            self._raw[name] = SOURCES[name].load(self.places[name])
        return self._raw[name]

    def trained(self, cell: Cell, row: Method, *, held_out: float = 0.0) -> Trained:
        """A model of a row, trained on a cell's data.

        Args:
            cell: data, bits, labels, seed and protocol.
            row: the method; it need not be the one that the cell names.
            held_out: share of the labelled items that become ``val_mask``.
        """
        changes = {"val_rate": held_out} | self.changes
        config = row.train_config(cell.bits, cell.labels, cell.seed, cell.protocol, **changes)
        data, prepared = self._prepared(cell.data, row.transform(config))
        start = time.process_time()
        model = row.train(config, data)
        seconds = {"graph": prepared, "train": time.process_time() - start}
        return Trained(model, data, seconds)

    def _prepared(self, name: str, transform: T.Compose) -> tuple[HeteroData, float]:
        """Scaled data with masks and graph, and the seconds that they took; built once if asked
        for again.
        """
        which = (name, repr(transform))
        if which not in self._graphs:
            raw = copy.copy(self.raw(name))
            self._graphs.clear()
            start = time.process_time()
            data = transform(raw)
            self._graphs[which] = (data, time.process_time() - start)
        return self._graphs[which]


def one_thread() -> None:
    """As many processes as cores work beside each other; threads would get in the way."""
    torch.set_num_threads(1)
