"""The codes of a model beside labels and splits: all that figures and gallery are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.metrics import Evaluation, LookupCurve, evaluate, pr_curve, precision_at_n
from pyg_hash.models import HashModel
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality

DIRECTIONS: tuple[tuple[Modality, Modality], ...] = (
    *((IMAGE, TEXT), (TEXT, IMAGE), (IMAGE, IMAGE), (TEXT, TEXT)),
)
"""What asks and what is searched, in the order of :class:`~pyg_hash.metrics.Evaluation`."""

_TOPN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def direction_name(source: Modality, target: Modality) -> str:
    """``'image to text'``."""
    return f"{source} to {target}"


@dataclass(frozen=True)
class Results:
    """What a model gave for a data set.

    Attributes:
        codes: int8 ±1 ``[N, num_bits]`` on the CPU, by modality.
        labels: class index ``[N]`` or multi-hot ``[N, C]`` by modality; None for data without.
        query: row numbers of the queries, int64.
        database: row numbers of the database, int64.
        num_bits: bits of a code.
        evaluation: mAP in the four directions; None for data without labels.
    """

    codes: Mapping[Modality, Tensor]
    labels: Mapping[Modality, Tensor] | None
    query: Tensor
    database: Tensor
    num_bits: int
    evaluation: Evaluation | None

    @classmethod
    def of(cls, model: HashModel, data: HeteroData) -> Results:
        """Encode all nodes of ``data`` once, and evaluate if there are labels.

        Raises:
            ValueError: masks are missing or select nothing; see :func:`pyg_hash.metrics.evaluate`.
        """
        rows = {}
        for name in ("query_mask", "database_mask"):
            if name not in data[IMAGE] or not bool(data[IMAGE][name].any()):
                raise ValueError(f"data['image'].{name}: missing or empty; mark some items")
            rows[name] = data[IMAGE][name].nonzero().flatten().cpu()
        codes = {m: model.encode(data, m) for m in MODALITIES}
        labeled = all("y" in data[m] for m in MODALITIES)
        return cls(
            codes={m: values.cpu() for m, values in codes.items()},
            labels={m: data[m].y.cpu() for m in MODALITIES} if labeled else None,
            query=rows["query_mask"],
            database=rows["database_mask"],
            num_bits=model.num_bits,
            evaluation=evaluate(_Encoded(model, codes), data) if labeled else None,
        )

    def __len__(self) -> int:
        """Number of instances."""
        return self.codes[IMAGE].size(0)

    def split(
        self, source: Modality, target: Modality
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """``(query, database, query_y, database_y)``, as metrics take them."""
        codes = self.codes[source][self.query], self.codes[target][self.database]
        if self.labels is None:
            return *codes, None, None
        return *codes, self.labels[source][self.query], self.labels[target][self.database]

    def curves(self) -> dict[str, LookupCurve]:
        """Precision and recall within each radius, by direction.

        Raises:
            ValueError: there are no labels.
        """
        return {direction_name(*pair): pr_curve(*self._labeled(*pair)) for pair in DIRECTIONS}

    def precisions(self) -> tuple[dict[str, Tensor], list[int]]:
        """Precision at n by direction, and the values of n.

        Raises:
            ValueError: there are no labels.
        """
        topn = [n for n in _TOPN if n <= self.database.numel()]
        parts = {direction_name(*pair): self._labeled(*pair) for pair in DIRECTIONS}
        return {name: precision_at_n(*part, topn=topn) for name, part in parts.items()}, topn

    def relevant(self, source: Modality, query: int, target: Modality, rows: Tensor) -> list[bool]:
        """Whether items share a label with one of another row.

        Raises:
            ValueError: there are no labels.
        """
        if self.labels is None:
            raise ValueError("labels: the data have none, so nothing is right or wrong")
        own, others = self.labels[source][query], self.labels[target][rows]
        shared = others == own if others.dim() == 1 else (others * own).sum(1) > 0
        return [bool(value) for value in shared]

    def sample(self, size: int, *, seed: int = 0) -> Tensor:
        """At most ``size`` row numbers, drawn without replacement, ascending."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self), generator=generator)[:size].sort().values

    def _labeled(self, source: Modality, target: Modality) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        query, database, query_y, database_y = self.split(source, target)
        if query_y is None or database_y is None:
            raise ValueError("labels: the data have none, so there is nothing to measure by")
        return query, database, query_y, database_y


class _Encoded:
    """Codes that are there already, for :func:`evaluate`."""

    def __init__(self, model: HashModel, codes: Mapping[Modality, Tensor]) -> None:
        self.num_bits = model.num_bits
        self.protocol = model.protocol
        self._codes = codes

    def encode(self, data: HeteroData, modality: Modality) -> Tensor:
        """The codes of one modality."""
        return self._codes[modality]
