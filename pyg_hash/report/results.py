"""The codes of a model beside labels and splits, and what queries find among them."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyg_hash.features import UnreadableImageError
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import Evaluation, LookupCurve, evaluate, pr_curve, precision_at_n
from pyg_hash.metrics.mean_ap import average_precision
from pyg_hash.metrics.scored import pair_places
from pyg_hash.models import HashModel
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, binarize
from pyg_hash.utils.modes import eval_mode
from pyg_hash.utils.oddities import judged_rows
from pyg_hash.utils.pictures import square_jpeg

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

# what asks and what is searched, in the order of Evaluation
_PAIRS = ((IMAGE, TEXT), (TEXT, IMAGE), (IMAGE, IMAGE), (TEXT, TEXT))
_PIXELS, _QUALITY = 96, 80  # of a picture on a card
_TOPN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class Results:
    """What a model gave for a data set."""

    codes: Mapping[Modality, Tensor]  #: int8 ±1 ``[N, num_bits]`` on the CPU
    relaxed: Mapping[Modality, Tensor]  #: what they are the signs of, float32 ``[N, num_bits]``
    #: class index ``[N]`` or multi-hot ``[N, C]``; None for data without
    labels: Mapping[Modality, Tensor] | None
    query: Tensor  #: row numbers of the queries, int64
    database: Tensor  #: row numbers of the database, int64
    num_bits: int  # of a code
    evaluation: Evaluation  #: mAP, if there are labels, pair recall, and what the codes are like

    @classmethod
    def of(cls, model: HashModel, data: HeteroData) -> Results:
        """Encode all nodes of ``data`` once, and evaluate.

        Raises:
            ValueError: masks are missing or select nothing; see :func:`pyg_hash.metrics.evaluate`.
        """
        rows = {}
        for name in ("query_mask", "database_mask"):
            if name not in data[IMAGE] or not bool(data[IMAGE][name].any()):
                raise ValueError(f"data['image'].{name}: missing or empty; mark some items")
            rows[name] = data[IMAGE][name].nonzero().flatten().cpu()
        with torch.no_grad(), eval_mode(model):
            out = model(data)
        codes = {m: binarize(out[m]) for m in MODALITIES}
        labeled = all("y" in data[m] for m in MODALITIES)
        known = {"protocol": model.protocol} if hasattr(model, "protocol") else {}
        encoded: Any = SimpleNamespace(
            num_bits=model.num_bits, encode=lambda _, m: codes[m], **known
        )
        return cls(
            codes={m: values.cpu() for m, values in codes.items()},
            relaxed={m: out[m].float().cpu() for m in MODALITIES},
            labels={m: data[m].y.cpu() for m in MODALITIES} if labeled else None,
            query=rows["query_mask"],
            database=rows["database_mask"],
            num_bits=model.num_bits,
            evaluation=evaluate(encoded, data),
        )

    def __len__(self) -> int:
        """Number of instances."""
        return self.codes[IMAGE].size(0)

    def asked(self, source: Modality) -> Tensor:
        """Row numbers of the queries that count: as in ``evaluate``, those with a label."""
        if self.labels is None:
            return self.query
        return self.query[judged_rows(self.labels[source][self.query])]

    def split(
        self, source: Modality, target: Modality
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """``(query, database, query_y, database_y)``, as metrics take them."""
        asked = self.asked(source)
        codes = self.codes[source][asked], self.codes[target][self.database]
        if self.labels is None:
            return *codes, None, None
        return *codes, self.labels[source][asked], self.labels[target][self.database]

    def curves(self) -> dict[str, LookupCurve]:
        """Precision and recall within each radius, by direction; ``ValueError`` without labels."""
        return {name: pr_curve(*split) for name, split in self._labeled().items()}

    def precisions(self) -> tuple[dict[str, Tensor], list[int]]:
        """Precision at n by direction, and the values of n; ``ValueError`` without labels."""
        topn = [n for n in _TOPN if n <= self.database.numel()]
        splits = self._labeled().items()
        return {name: precision_at_n(*split, topn=topn) for name, split in splits}, topn

    def relevant(self, source: Modality, query: int, target: Modality, rows: Tensor) -> list[bool]:
        """Whether items share a label with another; ``ValueError`` without labels."""
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
        return {f"{source} to {target}": self.split(source, target) for source, target in _PAIRS}


class Answer(NamedTuple):
    """An item that was found: its row number, Hamming distance, score, and what it is to the query.

    ``kind``: ``'own'``, the other side of the same instance; ``'same'``, it shares a label with the
    query; ``'other'``, it shares none; None for data without labels.
    """

    row: int
    distance: int
    score: float
    kind: str | None


class Asked(NamedTuple):
    """A query: its row number, what is said of it, and what it finds, best first."""

    row: int
    note: str
    answers: list[Answer]


class Case(NamedTuple):
    """Queries of one modality and what they find in another."""

    title: str
    source: Modality
    target: Modality
    asked: list[Asked]


def gallery(
    results: Results,
    source: Modality,
    target: Modality,
    queries: Tensor,
    notes: Sequence[str] | None = None,
    *,
    k: int = 8,
) -> list[Asked]:
    """What some queries (row numbers) find: the ``k`` best, rescored as a search does by default.

    Equal scores come by distance, equal distances by row number. Where there are fewer items than
    ``k``, all are taken.
    """
    index = HammingIndex(results.num_bits)
    database = results.database
    relaxed = results.relaxed[target][database]
    index.add(results.codes[target][database], ids=database, relaxed=relaxed)
    own = results.relaxed[source][queries]
    found = index.search(results.codes[source][queries], min(k, len(index)), rescore=own)
    rows = []
    for place, (query, ids) in enumerate(zip(queries.tolist(), found.ids, strict=True)):
        kinds: list[str | None] = [None] * len(ids)
        if results.labels is not None:
            right = results.relevant(source, query, target, ids)
            kinds = ["same" if same else "other" for same in right]
        names = ids.tolist()
        kinds = ["own" if row == query else kind for row, kind in zip(names, kinds, strict=True)]
        columns = names, found.distances[place].tolist(), found.scores[place].tolist(), kinds
        answers = [Answer(*values) for values in zip(*columns, strict=True)]
        rows.append(Asked(query, notes[place] if notes else "", answers))
    return rows


def drawn(results: Results, count: int, seed: int) -> Tensor:
    """Row numbers of queries, drawn at random rather than for their looks; all if there are few."""
    generator = torch.Generator().manual_seed(seed)
    return results.query[torch.randperm(results.query.numel(), generator=generator)[:count]]


def cases(results: Results, count: int, seed: int) -> list[Case]:
    """Queries of both ways across the modalities: at random, and those that fare worst.

    Worst are those of the lowest average precision, where there are labels, and those whose own
    other side is farthest.
    """
    ways, found = ((TEXT, IMAGE), (IMAGE, TEXT)), []
    for way in ways:
        title = "{} to {}".format(*way).capitalize()
        found.append(Case(title, *way, gallery(results, *way, drawn(results, count, seed))))
    for source, target in ways if results.labels is not None else ():
        split: Any = results.split(source, target)
        scores = average_precision(*split)
        low = scores.argsort(stable=True)[:count]
        notes = [f"average precision {scores[place]:.3f}" for place in low]
        asked = gallery(results, source, target, results.asked(source)[low], notes, k=4)
        found.append(Case(f"Lowest average precision, {source} to {target}", source, target, asked))
    for source, target in ways if results.evaluation.pair_recall else ():
        own, others = (results.codes[m][results.query] for m in (source, target))
        nearer, tied = pair_places(own, others)
        far = (own != others).sum(dim=1)
        worst = far.argsort(descending=True, stable=True)[:count]
        notes = [
            f"its own {target}: distance {far[place]}, {nearer[place]:,} of the other "
            f"{len(far) - 1:,} queries' {target}s are nearer, {tied[place] - 1:,} as near"
            for place in worst
        ]
        asked = gallery(results, source, target, results.query[worst], notes, k=4)
        found.append(Case(f"Farthest from its own {target}", source, target, asked))
    return found


def thumbnail(path: str | os.PathLike[str]) -> str | None:
    """A small square JPEG of a picture as a ``data:`` address, or None if it cannot be read."""
    try:
        content = square_jpeg(path, _PIXELS, _QUALITY)
    except UnreadableImageError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
