"""The tables and figures of ``tables.yaml``, and the cells that they consist of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, product, starmap
from typing import NamedTuple

from benchmarks.accuracy.methods import CODE, FACTORS, METHODS, ORDER, PAPER, WEIGHTS, varied
from benchmarks.record import stated

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

    def __str__(self):
        share = "no labels" if self.labels is None else f"{self.labels:.0%}"
        where = f"{self.data}, {self.method}, {self.bits} bits, {share}"
        return f"{where}, seed {self.seed}, {self.protocol}"


class Printed(NamedTuple):
    """Where a paper prints what a table measures."""

    recipe: str  # a key of pyg_hash.recipes.presets()
    table: int = 0  # number among its tables
    names: Mapping[str, str] = {}  # row of ours -> row of the paper, where they differ
    only: tuple[str, ...] = ()  # the paper's rows that have the features of this data; all if empty


class Claim(NamedTuple):
    """A row against another one, and what is said of their difference."""

    variant: str
    full: str  # row that it is compared with
    signs: str  # of variant minus full, "i2t / t2i": each "+", "-" or "?" (no claim)
    source: str  # where that is said
    # pairs of a protocol of the variant and one of the full row
    protocols: tuple[tuple[str, str], ...] = (("inductive", "inductive"),)


@dataclass(frozen=True)
class Table:
    name: str  # on the command line
    title: str
    about: str  # what the paper shows there and what this is
    methods: tuple[str, ...]  # rows, names of METHODS; of ablations those of the claims
    data: tuple[str, ...]  # of SOURCES; those that are there are run unless others are asked for
    bits: tuple[int, ...] = (16, 32, 64)
    rates: tuple[float, ...] = (0.3, 0.7, 1.0)  # shares of training items that show their labels
    seeds: tuple[int, ...] = tuple(range(10))  # of labels, parameters and training
    protocols: tuple[str, ...] = ORDER  # of the methods that have a choice
    metric: str = "all"  # what is shown, a key of a cell's scores; all others are stored too
    tasks: tuple[str, ...] = CROSS  # directions that are shown
    extras: tuple[str, ...] = ()  # what else a cell measures: "ties", "curves", "tsne"
    champions: tuple[str, ...] = ()  # rows that are compared with the best other one
    claims: tuple[Claim, ...] = ()  # rows that are compared one by one
    # data -> rows that cannot be run on them, and why
    impossible: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    # data -> where a paper prints such numbers, for its own data and features
    printed: Mapping[str, Printed] = field(default_factory=dict)

    def cells(self):
        """The cells, such that those with the same graph follow each other."""
        shares = (*self.rates, None)
        for data, seed, labels, protocol in product(self.data, self.seeds, shares, ORDER):
            for method, bits in product(self._rows(data, protocol, labels), self.bits):
                yield Cell(data, method, bits, labels, seed, protocol)

    def _rows(self, data, protocol, labels):
        impossible, _ = self.impossible.get(data, ((), ""))
        for name in self.methods:
            row = METHODS[name]
            # a method that has none of the protocols asked for is shown under what it has
            asked = set(row.protocols) & set(self.protocols) or {row.protocols[0]}
            here = name not in impossible and data in (row.data or self.data)
            if here and row.labels == (labels is not None) and protocol in asked:
                yield name


_STATED = stated(__file__)
WORDS = _STATED["words"]


def _read():
    words = {
        **WORDS,
        "weights": ", ".join(f"{name} {value:g}" for name, value in WEIGHTS.items()),
        "varied": "; ".join(starmap(varied, product(WEIGHTS, FACTORS))),
        "stated": "; ".join(n for n in METHODS if f", {PAPER}" in n or f", {CODE}" in n),
    }
    for name, of in _STATED["tables"].items():
        of |= of.pop("cells", {})
        if "claims" in of:  # its rows and protocols are those of the claims
            claims = of["claims"] = [Claim(*claim) for claim in of["claims"]]
            rows = (row for claim in claims for row in (claim.full, claim.variant))
            of["methods"] = "; ".join(dict.fromkeys(rows))
            pairs = chain.from_iterable(claim.protocols for claim in claims)
            of["protocols"] = dict.fromkeys(chain.from_iterable(pairs))
        of["methods"] = of["methods"].format_map(words).split("; ")
        of["data"] = of["data"].format_map(words).split()
        if "seeds" in of:
            of["seeds"] = range(of["seeds"])
        of["about"] = of["about"].format_map(words)
        of["printed"] = {data: Printed(**where) for data, where in of.get("printed", {}).items()}
        texts = ("title", "about", "metric", "impossible", "printed")
        yield Table(name, **{k: v if k in texts else tuple(v) for k, v in of.items()})


TABLES = {table.name: table for table in _read()}


def short(table):
    """The table with one of everything, to see that it runs."""
    one = {name: getattr(table, name)[:1] for name in ("bits", "rates", "seeds")}
    return replace(table, data=("synthetic",), **one)
