"""Planted clusters of any size, for tests and scale measurements."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_hash.datasets.base import CrossModalDataset, Items, Transform
from pyg_hash.datasets.build import build_hetero, row_chunks
from pyg_hash.utils.checks import check_flags, check_positive_ints, check_weight
from pyg_hash.utils.settings import check_two

_MOST = 1e18  # whose squares float32 holds


class SyntheticCrossModal(CrossModalDataset):
    """Gaussian clusters, one a class, planted in both modalities; kept in memory.

    Class ``c`` has a centre of unit expected entries, ``N(0, 1)^d``, in each modality. Row i is
    ``centre[y_i] + noise * N(0, 1)^d``; with ``multi_label`` it has one to three classes and the
    mean of their centres. Classes have equal shares of rows (of first classes, if multi-label)
    in every split. The same arguments give the same data on every machine with the same torch.

    Args:
        n: number of instances.
        num_classes: C.
        num_features: widths ``(image, text)``.
        noise: standard deviation around the centres.
        num_queries: rows that ask; default ``n // 10``, at least 1 and at most 1,000. All other
            rows are train and database.
        multi_label: ``y`` is multi-hot float32 ``[n, C]`` instead of a class index.
        seed: seed of everything drawn.

    ``TypeError`` or ``ValueError``: such numbers cannot be, or ``num_queries`` leaves no row.
    """

    def __init__(
        self,
        n: int,
        num_classes: int = 10,
        num_features: tuple[int, int] = (128, 64),
        noise: float = 1.0,
        num_queries: int | None = None,
        *,
        multi_label: bool = False,
        seed: int = 0,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
    ) -> None:
        check_positive_ints(n=n, num_classes=num_classes)
        check_two(num_features, "num_features")
        check_weight(noise, "noise")
        check_flags(multi_label=multi_label)
        if noise > _MOST:
            raise ValueError(f"noise: {noise!r} is too large; use at most {_MOST:g}")
        if isinstance(seed, bool) or not isinstance(seed, Integral) or abs(seed) >= 1 << 63:
            raise TypeError(f"seed: expected an integer of 64 bits, got {seed!r}")
        num_queries = min(1000, max(1, n // 10)) if num_queries is None else num_queries
        check_positive_ints(num_queries=num_queries)
        if num_queries >= n:
            raise ValueError(f"num_queries: {num_queries} of n={n} rows leave none to train on")
        given = dict(locals(), num_features=list(num_features), seed=int(seed))
        names = ("n", "num_classes", "num_features", "noise", "num_queries", "multi_label", "seed")
        self.config: dict[str, Any] = {name: given[name] for name in names}
        super().__init__(None, transform, pre_transform)

    def settings(self) -> dict[str, Any]:
        """The arguments."""
        return self.config

    def build(self) -> HeteroData:
        """Draw labels, splits and features."""
        config, n, num_classes = self.config, self.config["n"], self.config["num_classes"]
        with torch.device("cpu"):  # whatever the default is
            generator = torch.Generator().manual_seed(config["seed"])
            order = torch.randperm(n, generator=generator)
            first = torch.empty(n, dtype=torch.long)
            first[order] = torch.arange(n) % num_classes  # equal shares in any prefix of order
            y = first
            if config["multi_label"]:  # zero to two further classes a row, drawn with replacement
                y = torch.nn.functional.one_hot(first, num_classes).float()
                extra = torch.randint(num_classes, (n, 2), generator=generator)
                count = torch.randint(3, (n, 1), generator=generator)
                y.scatter_(1, torch.where(count > torch.arange(2), extra, first[:, None]), 1.0)
            query = torch.zeros(n, dtype=torch.bool)
            query[order[: config["num_queries"]]] = True
            image, text = (self._features(y, d, generator) for d in config["num_features"])
        return build_hetero(image, text, y=y, num_classes=num_classes, train=~query, query=query)

    def _features(self, y: Tensor, width: int, generator: torch.Generator) -> Tensor:
        """Drawn block by block into the result, so nothing of its size exists twice."""
        size = self.config["num_classes"], width
        centres = torch.randn(size, generator=generator, dtype=torch.float32)
        x = torch.empty(len(y), width, dtype=torch.float32)
        for start, stop in row_chunks(len(y), width):
            part = y[start:stop]
            mean = centres[part] if y.dim() == 1 else (part / part.sum(1, keepdim=True)) @ centres
            x[start:stop].normal_(generator=generator).mul_(self.config["noise"]).add_(mean)
        return x

    def read_items(self) -> Items:
        """Row numbers as ids, no raw files."""
        names = [f"class {c}" for c in range(self.config["num_classes"])]
        return Items([str(i) for i in range(self.config["n"])], names)
