"""``pyg-hash evaluate``: mAP of a stored run."""

from __future__ import annotations

import json
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli import build
from pyg_hash.cli.options import add_run
from pyg_hash.runs import Run


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash evaluate``."""
    add_run(parser, data=True)
    parser.add_argument("--split", type=str, default="query", help="query or val")
    parser.add_argument("--topk", type=int | None, default=None, help="rank cut (default: all)")
    parser.add_argument(
        "--ties", type=str, default="expected", help="expected, index, optimistic or pessimistic"
    )
    parser.add_argument("--denominator", type=str, default="hits", help="hits, min_k_R, R or dcmh")
    parser.add_argument(
        "--device", type=Literal["cpu", "cuda"], default="cpu", help="where to encode: cpu or cuda"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """Evaluate and print; the result is kept in ``metrics.json`` under its definition."""
    from pyg_hash.metrics import evaluate
    from pyg_hash.training.ranks import process_group

    folder = Run.open(args.run, need=("config", "model"))
    config = build.trained_with(folder, args.data, args.model)
    with process_group(args.device) as device:
        result = evaluate(
            build.model_class(config).load(folder.path / "model").to(device),
            build.build_dataset(config)[0].to(device),
            split=args.split,
            topk=args.topk,
            ties=args.ties,
            denominator=args.denominator,
        )
    name = args.split
    if (args.topk, args.ties, args.denominator) != (None, "expected", "hits"):
        name += f" topk={args.topk} ties={args.ties} denominator={args.denominator}"
    print(json.dumps(result.to_dict(), indent=2) if args.json else result)
    folder.add_metrics(name, result.to_dict())
    return 0
