"""The published splits of the data sets, as counts and rules, and the drawing of one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pyg_hash.utils.files import load_json

Array = np.ndarray[Any, Any]
MANIFESTS = Path(__file__).parent / "manifests"


@dataclass(frozen=True)
class Protocol:
    """How a paper splits a data set.

    Most papers publish counts and the word "random", not the rows. Such a split is drawn here by a
    rule of this library: always the same rows for the same seed, but not the paper's.
    """

    source: str  #: the paper, and where the numbers stand
    #: ``'first'`` (queries are the first rows, then train) and ``'last'`` (they are the last rows)
    #: take rows in the order of the files; ``'random'`` draws them; ``'per_label'`` draws equally
    #: many for each label, rarest label first, and what a label lacks from all rows
    rule: Literal["first", "last", "random", "per_label"]
    query: int  #: number of queries
    train: int | None = None  #: training rows, taken from the database; None: the whole database
    items: int | None = None  #: rows that are drawn before all else; None: all of them
    held_out: int = 0  #: rows (a paper's validation set) that are left out of everything
    own_parts: bool = False  #: whether parts that a feature file names itself are used
    pictures: str | None = None  #: which of several picture folders belong to it; None: all
    unlabeled: bool = False  #: whether rows without any label stay
    layout: str | None = None  #: the only layout whose row order the rule is meant for; None: any
    note: str = ""  #: what the paper leaves open


def load_manifest(name: str) -> dict[str, Any]:
    """What is published of a data set: counts, archives, files of each layout, protocols.

    ``-21`` is a variant; what a manifest lacks is in that of the set which it is ``like``.
    """
    name, _, variant = name.partition("-")
    manifest: dict[str, Any] = load_json(MANIFESTS / f"{name}.json")
    manifest = (load_manifest(manifest["like"]) if "like" in manifest else {}) | manifest
    return manifest | manifest["variants"][variant] if variant else manifest


def published_protocols(name: str) -> dict[str, Protocol]:
    """The protocols of a published data set by name.

    The sets are ``'mirflickr25k'``, ``'mscoco'``, ``'nuswide10k'``, ``'nuswide-21'`` and
    ``'nuswide-10'``.
    """
    return {key: Protocol(**values) for key, values in load_manifest(name)["protocols"].items()}


def draw_split(protocol: Protocol, y: Array, seed: int) -> tuple[Array, dict[str, Array]]:
    """Ascending rows ``[n]``, and masks of them, by multi-hot labels; ``ValueError``: too few."""
    rows, num_rows = list(range(len(y))), len(y)
    if protocol.rule in ("random", "per_label"):
        random.Random(seed).shuffle(rows)
    needed = protocol.query + protocol.held_out + (protocol.train or 1)
    available = num_rows if protocol.items is None else protocol.items
    if max(needed, available) > num_rows or needed > available:
        both = f"{max(needed, available)} rows, the data have {num_rows}"
        raise ValueError(f"protocol: needs {both}; are the files complete?")
    order = np.array(rows[:available])
    free = np.zeros(num_rows, dtype=bool)
    free[order] = True
    balanced = y if protocol.rule == "per_label" else None
    asking = order[::-1] if protocol.rule == "last" else order
    query = _take(asking, protocol.query, free, balanced)
    _take(order, protocol.held_out, free, balanced)
    database = free.copy()
    train = database if protocol.train is None else _take(order, protocol.train, free, balanced)
    kept = np.flatnonzero(query | database)
    return kept, {"train": train[kept], "query": query[kept], "database": database[kept]}


def _take(order: Array, count: int, free: Array, y: Array | None) -> Array:
    """A mask of ``count`` free rows, the first ones in ``order``; they are free no longer."""
    taken = np.zeros(len(free), dtype=bool)
    if y is not None and count:
        labels = np.argsort(y.sum(axis=0), kind="stable")
        each, more = divmod(count, len(labels))
        for rank, label in enumerate(labels):
            quota = each + (rank >= len(labels) - more)
            rows = order[(free[order]) & (y[order, label] > 0)][:quota]
            taken[rows], free[rows] = True, False
    rows = order[free[order]][: count - int(taken.sum())]
    taken[rows], free[rows] = True, False
    return taken
