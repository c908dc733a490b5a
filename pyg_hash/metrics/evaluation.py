"""Cross-modal evaluation of a model on a graph."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.graph import protocol
from pyg_hash.metrics.mean_ap import (
    Denominator,
    Ties,
    check_definition,
    mean_average_precision,
)
from pyg_hash.typing import IMAGE, MODALITIES, Modality
from pyg_hash.utils.checks import check_choice

Split = Literal["query", "val"]


@dataclass(frozen=True)
class Evaluation:
    """mAP in four directions (``i2t``: queries are images, database texts), and what it means."""

    i2t: float
    t2i: float
    i2i: float
    t2t: float
    protocol: str  #: ``'transductive'``, ``'strict'``, ``'inductive'`` or ``'none'`` (no graph)
    definition: str  #: the metric, e.g. ``'mAP@all, expected ties, denominator=hits'``
    num_queries: int  #: of one modality, as ``num_database``
    num_database: int
    num_bits: int
    split: str = "query"  #: or ``'val'``

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """The table with its definition; numbers without it cannot be compared."""
        return (
            f"{self.definition}, {self.num_bits} bits\n"
            f"protocol {self.protocol}, split {self.split}, "
            f"{self.num_queries} queries, {self.num_database} database items\n"
            "   i2t     t2i     i2i     t2t\n"
            f"{self.i2t:6.4f}  {self.t2i:6.4f}  {self.i2i:6.4f}  {self.t2t:6.4f}"
        )


def evaluate(
    model: Any,
    data: HeteroData,
    *,
    split: Split = "query",
    topk: int | None = None,
    ties: Ties = "expected",
    denominator: Denominator = "hits",
) -> Evaluation:
    """Encode all nodes and measure mAP image to text, text to image, and within a modality.

    Queries are the nodes of ``query_mask`` (or ``val_mask``), the database those of
    ``database_mask``; for ``split='val'`` without the validation nodes themselves. An item is
    relevant if it shares a label with the query.

    Args:
        model: anything with ``num_bits``, and ``encode(data, modality)`` for codes of all nodes;
            its ``protocol(data)``, if it has one, names the protocol in place of the graph's.
        data: both modalities with ``y``, ``query_mask`` and ``database_mask``.
        split: ``'query'``, or ``'val'`` for a choice of settings that leaves the queries alone.
        topk: see :func:`mean_average_precision`, as ``ties`` and ``denominator``.
        ties: what order items at equal distance come in.
        denominator: what the sum of precisions is divided by.

    Raises:
        TypeError, ValueError: no queries, no database, a query inside the database; codes, masks
            or labels that are missing or do not fit; unknown options.
    """
    check_choice(split, ("query", "val"), "split")
    check_definition(topk, ties, denominator)  # before the encoding, which may take long
    parts = {m: _rows(data, m, split) for m in MODALITIES}
    codes = {m: model.encode(data, m) for m in MODALITIES}
    for m, given in codes.items():
        shape = list(getattr(given, "shape", [type(given).__name__]))
        expected = [data[m].y.size(0), model.num_bits]
        if shape != expected:
            raise ValueError(f"model.encode(data, {m!r}): gave {shape}, not {expected}")
    labels = {m: data[m].y.to(codes[m].device) for m in MODALITIES}
    measure = partial(mean_average_precision, topk=topk, ties=ties, denominator=denominator)
    scores = {}
    for source, target in product(MODALITIES, repeat=2):
        query, database = parts[source][0], parts[target][1]
        ranked = codes[source][query], codes[target][database]
        told = labels[source][query], labels[target][database]
        scores[f"{source[0]}2{target[0]}"] = measure(*ranked, *told)
    query, database = parts[IMAGE]
    return Evaluation(
        **scores,
        protocol=named(data) if (named := getattr(model, "protocol", None)) else protocol(data),
        definition=f"mAP@{topk or 'all'}, {ties} ties, denominator={denominator}",
        num_queries=query.numel(),
        num_database=database.numel(),
        num_bits=model.num_bits,
        split=split,
    )


def _rows(data: HeteroData, modality: Modality, split: str) -> tuple[Tensor, Tensor]:
    """Row numbers of the queries and of the database of one modality."""
    store = data[modality]
    name = f"{split}_mask"
    for key in ("y", name, "database_mask"):
        if key not in store:
            hint = "; apply ValidationSplit" if key == "val_mask" else ""
            raise ValueError(f"data[{modality!r}]: has no {key}{hint}")
    query, database = store[name], store.database_mask
    if split == "val":
        database = database & ~query
    for mask, key in ((query, name), (database, "database_mask")):
        if not bool(mask.any()):
            raise ValueError(f"data[{modality!r}].{key}: selects no node; choose at least one")
    both = query & database
    if bool(both.any()):
        raise ValueError(
            f"data[{modality!r}]: {int(both.sum())} queries are also in the database (first: row "
            f"{int(both.nonzero()[0])}) and would find themselves; make query_mask and "
            "database_mask disjoint"
        )
    return query.nonzero().squeeze(1), database.nonzero().squeeze(1)
