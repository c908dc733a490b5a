"""What a table is, and the cells that it consists of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.accuracy.methods import METHODS, ORDER

CROSS = ("i2t", "t2i")
TASKS = (*CROSS, "i2i", "t2t")


class Cell(NamedTuple):
    """One run: its place in the results. What else decides it are ``Method.settings``."""

    data: str
    method: str
    bits: int
    labels: float | None
    seed: int
    protocol: str

    def __str__(self) -> str:
        share = "no labels" if self.labels is None else f"{self.labels:.0%}"
        where = f"{self.data}, {self.method}, {self.bits} bits, {share}"
        return f"{where}, seed {self.seed}, {self.protocol}"


class Printed(NamedTuple):
    """Where a paper prints what a table measures.

    Attributes:
        recipe: a key of :func:`pyg_hash.recipes.presets`.
        table: number among its tables.
        names: row of ours -> row of the paper, where they are called differently.
        only: the paper's rows that have the features of this data; all if empty.
    """

    recipe: str
    table: int = 0
    names: Mapping[str, str] = {}
    only: tuple[str, ...] = ()


class Claim(NamedTuple):
    """A row against another one, and what is said of their difference.

    Attributes:
        variant: row.
        full: row that it is compared with.
        signs: of variant minus full in i2t and t2i, each ``'+'``, ``'-'`` or ``'?'`` (no claim).
        source: where that is said.
        protocols: pairs of a protocol of the variant and one of the full row.
    """

    variant: str
    full: str
    signs: tuple[str, str]
    source: str
    protocols: tuple[tuple[str, str], ...] = (("inductive", "inductive"),)


@dataclass(frozen=True)
class Table:
    """Methods x bits x label rates x seeds x data x protocols.

    Attributes:
        name: on the command line.
        title: headline.
        about: what the paper shows there and what this is.
        methods: rows, names of ``METHODS``.
        data: keys of ``data.SOURCES``; those that are there are run unless others are asked for.
        bits: code lengths.
        rates: shares of the training items that show their labels.
        seeds: of labels, parameters and training.
        protocols: of the methods that have a choice.
        metric: what the tables show, a key of a cell's scores; all others are stored too.
        tasks: directions that are shown.
        extras: what else a cell measures: ``'ties'``, ``'curves'``, ``'tsne'``.
        champion: a row that is compared with the best other one.
        claims: rows that are compared one by one, beside what their source says of them.
        impossible: data -> rows that cannot be run on them, and why.
        printed: data -> where a paper prints such numbers, for its own data and features.
    """

    name: str
    title: str
    about: str
    methods: tuple[str, ...]
    data: tuple[str, ...]
    bits: tuple[int, ...] = (16, 32, 64)
    rates: tuple[float, ...] = (0.3, 0.7, 1.0)
    seeds: tuple[int, ...] = tuple(range(10))
    protocols: tuple[str, ...] = ORDER
    metric: str = "all"
    tasks: tuple[str, ...] = CROSS
    extras: tuple[str, ...] = ()
    champion: str | None = None
    claims: tuple[Claim, ...] = ()
    impossible: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    printed: Mapping[str, Printed] | None = None

    def cells(self) -> Iterator[Cell]:
        """The cells, such that those with the same graph follow each other."""
        for data in self.data:
            for seed in self.seeds:
                for labels in (*self.rates, None):
                    for protocol in ORDER:
                        for method in self._rows(data, protocol, labels):
                            for bits in self.bits:
                                yield Cell(data, method, bits, labels, seed, protocol)

    def _rows(self, data: str, protocol: str, labels: float | None) -> Iterable[str]:
        impossible, _ = self.impossible.get(data, ((), ""))
        for name in self.methods:
            row = METHODS[name]
            if name in impossible or row.labels == (labels is None):
                continue
            if row.data and data not in row.data:
                continue
            asked = set(row.protocols) & set(self.protocols)
            # a method that has none of the protocols asked for is shown under what it has
            if protocol in (asked or {row.protocols[0]}):
                yield name
