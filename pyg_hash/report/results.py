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
from pyg_hash.features.images import square_jpeg
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import Evaluation, LookupCurve, evaluate, pr_curve, precision_at_n
from pyg_hash.models import HashModel
from pyg_hash.runs import RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

# what asks and what is searched, in the order of Evaluation
_PAIRS = ((IMAGE, TEXT), (TEXT, IMAGE), (IMAGE, IMAGE), (TEXT, TEXT))
_PIXELS, _QUALITY = 96, 80  # of a picture on a card
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
        evaluation: mAP, if there are labels, pair recall, and what the codes are like.
    """

    codes: Mapping[Modality, Tensor]
    labels: Mapping[Modality, Tensor] | None
    query: Tensor
    database: Tensor
    num_bits: int
    evaluation: Evaluation

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
        codes = {m: model.encode(data, m) for m in MODALITIES}
        labeled = all("y" in data[m] for m in MODALITIES)
        known = {"protocol": model.protocol} if hasattr(model, "protocol") else {}
        encoded: Any = SimpleNamespace(
            num_bits=model.num_bits, encode=lambda _, m: codes[m], **known
        )
        return cls(
            codes={m: values.cpu() for m, values in codes.items()},
            labels={m: data[m].y.cpu() for m in MODALITIES} if labeled else None,
            query=rows["query_mask"],
            database=rows["database_mask"],
            num_bits=model.num_bits,
            evaluation=evaluate(encoded, data),
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
    """Row number and Hamming distance of an item that was found.

    ``right``: whether it shares a label with the query; None for data without labels.
    """

    row: int
    distance: int
    right: bool | None


def gallery(
    results: Results,
    source: Modality,
    target: Modality,
    *,
    num_queries: int = 6,
    k: int = 8,
    seed: int = 0,
) -> list[tuple[int, list[Answer]]]:
    """Row numbers of some queries, drawn at random rather than for their looks, and their answers.

    Answers are nearest first, equal distances by row number. Where there are fewer queries than
    ``num_queries``, or fewer items than ``k``, all are taken.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(results.query.numel(), generator=generator)[:num_queries]
    queries = results.query[drawn]
    index = HammingIndex(results.num_bits)
    index.add(results.codes[target][results.database], ids=results.database)
    distances, ids = index.search(results.codes[source][queries], min(k, len(index)))
    rows = []
    for query, found, far in zip(queries.tolist(), ids, distances.tolist(), strict=True):
        right: Sequence[bool | None] = [None] * found.numel()
        if results.labels is not None:
            right = results.relevant(source, query, target, found)
        rows.append((query, list(map(Answer, found.tolist(), far, right))))
    return rows


def thumbnail(path: str | os.PathLike[str]) -> str | None:
    """A small square JPEG of a picture as a ``data:`` address, or None if it cannot be read."""
    try:
        content = square_jpeg(path, _PIXELS, _QUALITY)
    except UnreadableImageError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def lacks(items: RunItems) -> list[str]:
    """What a run has not kept of its items, for people."""
    kinds = {"picture files": items.image_paths, "raw texts": items.texts}
    words = "This run came without {}: cards show names instead."
    return [words.format(kind) for kind, values in kinds.items() if not any(values)]


def gallery_section(
    results: Results, items: RunItems, *, num_queries: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """The gallery of both directions across modalities, and notes on what it lacks."""
    parts = [
        (*pair, gallery(results, *pair, num_queries=num_queries, seed=seed))
        for pair in ((TEXT, IMAGE), (IMAGE, TEXT))
    ]
    shown = [a.row for _, _, found in parts for _, answers in found for a in answers]
    shown += [query for query, _ in parts[1][2]]
    paths = dict.fromkeys(filter(None, (items.image_paths[row] for row in shown)))
    pictures = {path: thumbnail(path) for path in paths}
    words = (
        f"{len(parts[0][2])} queries of each modality, drawn at random (seed {seed}), with the "
        "nearest items of the database in the other modality. A card shows the Hamming distance; "
        "items at equal distance come in the order of their rows."
    )
    if results.labels is not None:
        words += " ✓ right: shares a label with the query. ✗ wrong: does not."
    notes = lacks(items)
    unreadable = [path for path, picture in pictures.items() if picture is None]
    if unreadable:
        notes.append(f"Pictures that cannot be read: {len(unreadable)} (first: {unreadable[0]}).")
    section = {"name": "gallery", "title": "What queries find", "words": words}
    return {**section, "gallery": parts, "pictures": pictures}, notes
