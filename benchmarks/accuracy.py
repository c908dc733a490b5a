"""MCGCN against the class-code baseline, on the same features, in one run.

    python benchmarks/accuracy.py                     # Emoji
    python benchmarks/accuracy.py --wikipedia DIR     # and Wikipedia, with its files in DIR/raw

mAP@all with expected ties, mean over the seeds; a seed draws the labelled nodes, the weights and
the baseline's class codes. Rows:

* ``class codes``: logistic regression a modality, see ``baselines.py``; no graph.
* ``MCGCN``: the library's defaults (cosine edge weights, labelled nodes also trained as new items).
* ``MCGCN, paper's graph and losses``: the same, but 0/1 edge weights as in Eq. 1 and no ``view``
  term. Terms are averaged, not summed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch_geometric.transforms as T
from baselines import ClassCodeBaseline
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_hash import __version__
from pyg_hash.datasets import Emoji, Wikipedia
from pyg_hash.io import atomic_path, save_json
from pyg_hash.metrics import evaluate
from pyg_hash.models import MCGCN
from pyg_hash.training import fit
from pyg_hash.transforms import InterKNN, IntraKNN, LabelHub, LabelRate, ScaleFeatures
from pyg_hash.transforms.protocol import PROTOCOLS

NUM_BITS, EPOCHS, LR, K = 32, 80, 2e-3, 20
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "MCGCN": ("similarity", {}),
    "MCGCN, paper's graph and losses": ("binary", {"view_weight": 0.0}),
}
TASKS = ("i2t", "t2i", "i2i", "t2t")


def graph(raw: HeteroData, rate: float, seed: int, protocol: str, weight: str) -> HeteroData:
    """The graph of one run."""
    intra, inter = PROTOCOLS[protocol]
    transform = T.Compose(
        [
            LabelRate(rate, seed),
            ScaleFeatures(),
            IntraKNN(K, anchors=intra, weight=weight),
            InterKNN(anchors=inter),
            LabelHub(),
        ]
    )
    return transform(raw)


def methods(raw: HeteroData, rate: float, seed: int) -> Iterator[tuple[str, str, Any, HeteroData]]:
    """Name, protocol, encoder and data of each method, trained."""
    data = graph(raw, rate, seed, "inductive", "binary")
    yield "class codes", "inductive", ClassCodeBaseline(NUM_BITS, seed), data
    for name, (weight, options) in SETTINGS.items():
        for protocol in PROTOCOLS:
            data = graph(raw, rate, seed, protocol, weight)
            seed_everything(seed)
            model = MCGCN(data.num_features, raw.num_classes, NUM_BITS, **options)
            optimizer = torch.optim.Adam(model.parameters(), lr=LR)
            fit(model, data, optimizer, epochs=EPOCHS, progress=False)
            yield name, protocol, model, data


def measure(name: str, raw: HeteroData, rate: float, seeds: list[int]) -> list[dict[str, Any]]:
    """The rows of one data set at one label rate."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = {}
    for seed in seeds:
        for method, protocol, encoder, data in methods(raw, rate, seed):
            result = evaluate(encoder, data)
            row = scores.setdefault((method, protocol), {task: [] for task in TASKS})
            for task in TASKS:
                row[task].append(getattr(result, task))
            values = "  ".join(f"{task} {row[task][-1]:.3f}" for task in TASKS)
            print(f"{name} {rate:.0%} seed {seed}  {method} ({protocol})  {values}", flush=True)
    return [
        {"data": name, "labels": rate, "method": method, "protocol": protocol, "scores": row}
        for (method, protocol), row in scores.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The results as a Markdown table: mean and, behind it, the standard deviation."""
    lines = [
        "| data | labels | method | protocol | " + " | ".join(TASKS) + " |",
        "|---|---|---|---|" + "---|" * len(TASKS),
    ]
    for row in rows:
        cells = []
        for task in TASKS:
            values = row["scores"][task]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        start = f"| {row['data']} | {row['labels']:.0%} | {row['method']} | {row['protocol']} | "
        lines.append(start + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all, print the table, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emoji", default="data/emoji", help="root of the Emoji data set")
    parser.add_argument("--wikipedia", help="root of the Wikipedia data set; left out without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    jobs = [("Emoji", Emoji(args.emoji)[0], 0.3)]
    if args.wikipedia:
        wikipedia = Wikipedia(args.wikipedia, image="image128", text="lsa200")[0]
        jobs += [("Wikipedia", wikipedia, rate) for rate in (0.3, 1.0)]
    rows = [row for name, raw, rate in jobs for row in measure(name, raw, rate, args.seeds)]
    about = {
        "command": "python benchmarks/accuracy.py --wikipedia DIR",
        "metric": "mAP@all, expected ties, denominator=hits",
        "bits": NUM_BITS,
        "epochs": EPOCHS,
        "optimizer": f"Adam, lr {LR}",
        "k": K,
        "seeds": args.seeds,
        "versions": {
            "pyg_hash": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    save_json(args.out / "accuracy.json", {"about": about, "rows": rows})
    text = "\n".join(f"- {key}: {value}" for key, value in about.items())
    with atomic_path(args.out / "accuracy.md") as temporary:
        temporary.write_text(f"# Accuracy of MCGCN\n\n{text}\n\n{table(rows)}\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
