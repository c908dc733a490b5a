"""Settings that held-out labels choose: one for each data set and label rate.

No query is looked at, and no label that the method would not have: a fifth of the labelled items
are the queries, and the rest of the database is searched. The choice is made under the protocol
that lets a code depend on least, and is the same for all protocols, seeds and code lengths.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from pyg_hash.metrics import evaluate

from .methods import CHOICE_BITS, CHOICE_SEEDS, HELD_OUT, METHODS, Method
from .table import Cell

if TYPE_CHECKING:
    from .cell import Bench

Worths = dict[str, float]
"""A candidate of ``Method.candidates`` -> what it is worth."""


def worth(bench: Bench, cell: Cell, row: Method) -> float:
    """Mean of i2t and t2i (mAP@all, expected ties) of the held-out items of a cell's training.

    Raises:
        FloatingPointError: the training diverged.
    """
    trained = bench.trained(cell, row, held_out=HELD_OUT)
    result = evaluate(trained.model, trained.data, split="val")
    return 0.5 * (result.i2t + result.t2i)


def same_choice(cell: Cell) -> Cell:
    """One and the same cell for all that share a choice."""
    protocol = METHODS[cell.method].protocols[0]
    return cell._replace(bits=CHOICE_BITS, seed=CHOICE_SEEDS[0], protocol=protocol)


def worths(bench: Bench, cell: Cell) -> Worths:
    """Mean worth of each candidate of a cell's row, over the seeds of the choice."""
    asked = [same_choice(cell)._replace(seed=seed) for seed in CHOICE_SEEDS]
    return {
        name: round(statistics.fmean(worth(bench, one, row) for one in asked), 6)
        for name, row in METHODS[cell.method].candidates().items()
    }


def best(found: Worths) -> str:
    """The candidate that is worth most; the first of equals."""
    return max(found, key=found.__getitem__)
