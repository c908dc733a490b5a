"""What is measured of the codes of one cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from benchmarks.accuracy.table import CROSS
from pyg_hash.metrics import mean_average_precision, pr_curve, precision_at_n
from pyg_hash.metrics.mean_ap import DENOMINATORS
from pyg_hash.typing import IMAGE, TEXT, Modality

CUTS = (50, 500)
DEFINITION = (
    "mAP, expected ties. 'all': no cut; 'R D': the first R ranks, the sum of precisions divided by "
    "D; 'R dcmh': the first min(R, number of relevant) relevant items, at whatever rank "
    "(denominators of pyg_hash.metrics.mean_average_precision); 'all, T': ties T; "
    "'all, index by class': the database's rows in the order of their classes; "
    "'all, among queries': the queries' other side as database, their own pair in it"
)
TIES = ("index", "optimistic", "pessimistic")
RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 700, 1000)
CLASSES = 5  # of a t-SNE, as in MCGCN's Fig. 4
_SIDES: dict[str, tuple[Modality, Modality]] = {
    "i2t": (IMAGE, TEXT),
    "t2i": (TEXT, IMAGE),
    "i2i": (IMAGE, IMAGE),
    "t2t": (TEXT, TEXT),
}
Codes = Mapping[Modality, Tensor]


def search(codes: Codes, data: HeteroData, task: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query codes, database codes and the labels of both, in one direction."""
    source, target = _SIDES[task]
    query, database = data[source].query_mask, data[target].database_mask
    if bool((data[IMAGE].query_mask & data[IMAGE].database_mask).any()):
        raise ValueError("query_mask: queries are in the database and would find themselves")
    y = data[source].y[query], data[target].y[database]
    return codes[source][query], codes[target][database], *y


def among_queries(codes: Codes, data: HeteroData, task: str) -> tuple[Tensor, ...]:
    """The queries as queries and as database, so that each finds its own pair."""
    source, target = _SIDES[task]
    rows = data[source].query_mask
    y = data[source].y[rows], data[target].y[rows]
    return codes[source][rows], codes[target][rows], *y


def scores(codes: Codes, data: HeteroData, *, ties: bool = False) -> dict[str, dict[str, float]]:
    """Every metric in every direction; see :data:`DEFINITION`."""
    found: dict[str, dict[str, float]] = {}
    for task in _SIDES:
        asked = search(codes, data, task)
        for name, value in _metrics(asked, ties):
            found.setdefault(name, {})[task] = round(value, 6)
        if ties:
            value = mean_average_precision(*among_queries(codes, data, task))
            found.setdefault("all, among queries", {})[task] = round(value, 6)
    return found


def _metrics(asked: tuple[Tensor, ...], ties: bool) -> list[tuple[str, float]]:
    listed = [("all", mean_average_precision(*asked))]
    for cut in CUTS:
        for denominator in DENOMINATORS:
            value = mean_average_precision(*asked, topk=cut, denominator=denominator)
            listed.append((f"{cut} {denominator}", value))
    if ties:
        listed += [(f"all, {t}", mean_average_precision(*asked, ties=t)) for t in TIES]
        query, database, query_y, database_y = asked
        order = _by_class(database_y)
        sorted_file = (query, database[order], query_y, database_y[order])
        value = mean_average_precision(*sorted_file, ties="index")
        listed.append(("all, index by class", value))
    return listed


def _by_class(y: Tensor) -> Tensor:
    """Rows sorted by class, or by first class."""
    first = y if y.dim() == 1 else y.argmax(dim=1)
    return first.argsort(stable=True)


def curves(codes: Codes, data: HeteroData) -> dict[str, Any]:
    """Precision and recall within every Hamming radius, and precision at some ranks.

    Precision is that of the queries that find something, None where none does.
    """
    found: dict[str, Any] = {}
    for task in CROSS:
        asked = search(codes, data, task)
        curve = pr_curve(*asked)
        ranks = [n for n in RANKS if n <= len(asked[1])]
        found[task] = {
            "precision": [
                round(precision / answered, 5) if answered > 0 else None
                for precision, answered in zip(
                    curve.precision.tolist(), curve.answered.tolist(), strict=True
                )
            ],
            "recall": _rounded(curve.recall),
            "ranks": ranks,
            "at": _rounded(precision_at_n(*asked, topn=ranks)),
        }
    return found


def embeddings(codes: Codes, data: HeteroData, seed: int) -> dict[str, Any]:
    """t-SNE of the training items of the first classes: features of each modality, and codes."""
    from sklearn.manifold import TSNE

    store = data[IMAGE]
    y = store.y if store.y.dim() == 1 else store.y.argmax(dim=1)
    rows = (store.train_mask & (y < CLASSES)).nonzero().flatten()
    parts = {"image features": data[IMAGE].x[rows], "text features": data[TEXT].x[rows]}
    parts["codes"] = torch.cat([codes[IMAGE][rows], codes[TEXT][rows]]).float()
    found: dict[str, Any] = {"classes": y[rows].tolist()}
    for name, x in parts.items():
        perplexity = min(30.0, (len(x) - 1) / 3)
        tsne = TSNE(random_state=seed, perplexity=perplexity, init="pca")
        found[name] = [
            [round(float(v), 2) for v in point] for point in tsne.fit_transform(x.numpy())
        ]
    return found


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
