"""``pyg-hash evaluate``: mAP of a stored run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from pyg_hash.cli.build import DataCommand, build_dataset, load_model
from pyg_hash.cli.options import option
from pyg_hash.runs import Run


@dataclass(frozen=True, kw_only=True)
class Evaluate(DataCommand):
    """Evaluate a run again; the result is kept in ``metrics.json`` under its definition."""

    split: str = option("query", "query or val")
    topk: int | None = option(None, "rank cut (default: all)")
    ties: str = option("expected", "expected, index, optimistic or pessimistic")
    denominator: str = option("hits", "hits, min_k_R, R or dcmh")
    device: Literal["cpu", "cuda"] = option("cpu", "where to encode: cpu or cuda")
    json: bool = option(False, "print JSON instead of a table")

    def execute(self) -> int:
        """Evaluate, print and keep."""
        from pyg_hash.metrics import evaluate
        from pyg_hash.training.ranks import process_group

        run = Run.open(self.run, need=("config", "model"))
        config = self.settings(run)
        definition = {"topk": self.topk, "ties": self.ties, "denominator": self.denominator}
        with process_group(self.device) as device:
            model = load_model(run, config).to(device)
            data = build_dataset(config)[0].to(device)
            result = evaluate(model, data, split=self.split, **definition)
        name = self.split
        if definition != {"topk": None, "ties": "expected", "denominator": "hits"}:
            name += "".join(f" {key}={value}" for key, value in definition.items())
        print(json.dumps(result.to_dict(), indent=2) if self.json else result)
        run.add_metrics(name, result.to_dict())
        return 0
