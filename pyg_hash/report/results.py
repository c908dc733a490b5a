"""The codes of a model beside labels and splits: all that figures and gallery are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

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
        encoded: Any = SimpleNamespace(
            num_bits=model.num_bits, protocol=model.protocol, encode=lambda _, m: codes[m]
        )
        return cls(
            codes={m: values.cpu() for m, values in codes.items()},
            labels={m: data[m].y.cpu() for m in MODALITIES} if labeled else None,
            query=rows["query_mask"],
            database=rows["database_mask"],
            num_bits=model.num_bits,
            evaluation=evaluate(encoded, data) if labeled else None,
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
        return {name: pr_curve(*split) for name, split in self._labeled().items()}

    def precisions(self) -> tuple[dict[str, Tensor], list[int]]:
        """Precision at n by direction, and the values of n.

        Raises:
            ValueError: there are no labels.
        """
        topn = [n for n in _TOPN if n <= self.database.numel()]
        splits = self._labeled().items()
        return {name: precision_at_n(*split, topn=topn) for name, split in splits}, topn

    def relevant(self, source: Modality, query: int, target: Modality, rows: Tensor) -> list[bool]:
        """Whether items share a label with one of another row.

        Raises:
            ValueError: there are no labels.
        """
        labels = self._known_labels()
        own, others = labels[source][query], labels[target][rows]
        shared: Tensor = others == own if others.dim() == 1 else (others * own).sum(1) > 0
        return shared.tolist()

    def sample(self, size: int, *, seed: int = 0) -> Tensor:
        """At most ``size`` row numbers, drawn without replacement, ascending."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self), generator=generator)[:size].sort().values

    def _known_labels(self) -> Mapping[Modality, Tensor]:
        if self.labels is None:
            raise ValueError("labels: the data have none, so nothing is right or wrong")
        return self.labels

    def _labeled(self) -> dict[str, Any]:
        """:meth:`split` of each direction, by its name."""
        self._known_labels()
        return {
            f"{source} to {target}": self.split(source, target) for source, target in DIRECTIONS
        }
