"""``results/methods.json`` as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from cells import TASKS
from suite import ABLATIONS, METHODS, RATES, SUPERVISED, UNSUPERVISED, Ablation

Scores = dict[tuple[str, float | None, str], "Row"]
CROSS = ("i2t", "t2i")


class Row:
    """The cells of one method on one data set at one label rate, over the seeds."""

    def __init__(self, cells: list[Mapping[str, Any]]) -> None:
        self.cells = sorted(cells, key=lambda cell: cell["seed"])

    def values(self, task: str) -> list[float]:
        """Scores by seed."""
        return [cell[task] for cell in self.cells]

    def mean(self, task: str) -> float:
        """Mean over the seeds."""
        return statistics.mean(self.values(task))

    def spread(self, task: str) -> float:
        """Standard deviation over the seeds; 0 for one."""
        values = self.values(task)
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def score(self, task: str) -> str:
        """Mean ± standard deviation."""
        return f"{self.mean(task):.3f} ± {self.spread(task):.3f}"

    @property
    def seconds(self) -> float:
        """Mean seconds of graph, training and encoding together."""
        return statistics.mean(sum(cell["seconds"].values()) for cell in self.cells)


def rows(cells: Iterable[Mapping[str, Any]]) -> Scores:
    """Cells by data set, label rate and method; those under other settings are left out."""
    grouped: dict[tuple[str, float | None, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        method = METHODS.get(cell["method"])
        if method is not None and cell["described"] == method.described():
            grouped.setdefault((cell["data"], cell["labels"], cell["method"]), []).append(cell)
    return {which: Row(members) for which, members in grouped.items()}


def sign(variant: Row, full: Row, task: str) -> str:
    """``+`` or ``-`` if the means differ by more than one pooled standard deviation, else ``0``.

    ``?`` where a deviation is unknown: fewer than two seeds.
    """
    if min(len(variant.cells), len(full.cells)) < 2:
        return "?"
    pooled = ((variant.spread(task) ** 2 + full.spread(task) ** 2) / 2) ** 0.5
    difference = variant.mean(task) - full.mean(task)
    if abs(difference) <= pooled:
        return "0"
    return "+" if difference > 0 else "-"


def verdict(ours: tuple[str, ...], claimed: tuple[str, ...]) -> str:
    """How the signs of i2t and t2i stand to the claim."""
    pairs = [(o, c) for o, c in zip(ours, claimed, strict=True) if "?" not in (o, c)]
    if not pairs:
        return "no claim" if "?" in claimed else "open"
    agreeing = [o == c for o, c in pairs]
    if all(agreeing):
        return "agrees"
    if any(o not in (c, "0") for o, c in pairs):
        return "contradicts"
    return "agrees in part" if any(agreeing) else "no effect seen"


def _table(header: list[str], lines: list[list[str]]) -> str:
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def comparison(scores: Scores, data: str, labels: float | None, names: list[str]) -> str:
    """Methods against the strongest baseline of the table, direction by direction."""
    found = {name: scores[data, labels, name] for name in names if (data, labels, name) in scores}
    baselines = [row for name, row in found.items() if _is_bar(name)]
    best = {task: max((row.mean(task) for row in baselines), default=None) for task in CROSS}
    lines = []
    for name, row in found.items():
        margins = [
            "–" if best[task] is None or _is_bar(name) else f"{row.mean(task) - best[task]:+.3f}"
            for task in CROSS
        ]
        about = [name, row.cells[0]["protocol"], str(len(row.cells))]
        lines.append([*about, *(row.score(task) for task in TASKS), *margins, f"{row.seconds:.0f}"])
    header = ["method", "protocol", "seeds", *TASKS, "i2t − best", "t2i − best", "seconds"]
    return _table(header, lines)


def _is_bar(name: str) -> bool:
    """Rows that a method has to beat: the baselines, and SGEH-2 for SGEH."""
    return METHODS[name].is_baseline or name == "SGEH-2 (DJSRH-style)"


def ablation_table(scores: Scores, labels: float | None, ablations: list[Ablation]) -> str:
    """Differences to the full method on every data set, beside the claims."""
    lines = []
    for data in sorted({which[0] for which in scores}):
        listed = []
        for ablation in ablations:
            full = scores.get((data, labels, ablation.full))
            variant = scores.get((data, labels, ablation.variant))
            if full is None or variant is None:
                continue
            if ablation.full not in listed:
                listed.append(ablation.full)
                lines.append(
                    [
                        data,
                        ablation.full,
                        full.cells[0]["protocol"],
                        *(full.score(task) for task in CROSS),
                        "",
                        "",
                        "",
                        "",
                        "",
                    ]
                )
            ours = tuple(sign(variant, full, task) for task in CROSS)
            moved = [f"{variant.mean(task) - full.mean(task):+.3f}" for task in CROSS]
            lines.append(
                [
                    data,
                    ablation.variant,
                    variant.cells[0]["protocol"],
                    *(variant.score(task) for task in CROSS),
                    f"{moved[0]} / {moved[1]}",
                    " / ".join(ours),
                    " / ".join(ablation.claimed),
                    verdict(ours, ablation.claimed),
                    ablation.source,
                ]
            )
    header = [
        "data",
        "variant",
        "protocol",
        "i2t",
        "t2i",
        "difference i2t / t2i",
        "sign",
        "claimed",
        "verdict",
        "source of the claim",
    ]
    return _table(header, lines)


def markdown(content: Mapping[str, Any]) -> str:
    """The whole page."""
    scores = rows(content["cells"].values())
    names = sorted({which[0] for which in scores})
    parts = ["# The methods on the same features", _about(content, scores)]
    parts.append("## With labels\n\n" + _SUPERVISED)
    for data in names:
        for rate in RATES:
            if any((data, rate, name) in scores for name in SUPERVISED):
                parts.append(f"### {data}, {rate:.0%} of the labels")
                parts.append(comparison(scores, data, rate, SUPERVISED))
    parts.append("## Without labels\n\n" + _UNSUPERVISED)
    for data in names:
        if any((data, None, name) in scores for name in UNSUPERVISED):
            parts += [f"### {data}", comparison(scores, data, None, UNSUPERVISED)]
    parts.append("## Ablations\n\n" + _ABLATIONS)
    for family, (labels, ablations) in ABLATIONS.items():
        share = "no labels" if labels is None else f"{labels:.0%} of the labels"
        parts += [f"### {family}, {share}", ablation_table(scores, labels, ablations)]
    return "\n\n".join(parts) + "\n"


_SUPERVISED = """`class codes`: logistic regression a modality, posteriors through random class
codes (multi-label: one against the rest); `centred` subtracts the label frequencies first.
`− best` is the mean difference to the better of the two, in each direction by itself. SGCH joins
neighbours with `neighbor_weight=0.1`; `weight chosen` takes 0.1 or 0.2, one for a data set and a
label rate, by the mean of i2t and t2i of held-out labels (a fifth of them, three draws), the same
for all seeds; no query is looked at."""
_UNSUPERVISED = """CCA is linear, fitted on train, its ridge the best on validation splits;
ITQ is 50 turns on both modalities; `weighted` multiplies the variates by their correlations. SGEH-2
is SGEH's own trainer and mini-batches on a dense cosine target, a loss as DJSRH's. No label is
read; SGEH's graph is told the number of classes. `− best` is the mean difference to the best of all
rows but SGEH."""
_ABLATIONS = """Difference of means, variant minus full. Sign: `0` if it is within one pooled
standard deviation of the seeds, else `+` or `-`; `?`: no claim. Three seeds are few: a sign is a
hint, no proof. The papers' features and splits are others."""


def _about(content: Mapping[str, Any], scores: Scores) -> str:
    """What every number is, and how it was made."""
    cells = [cell for row in scores.values() for cell in row.cells]
    definitions = sorted({cell["definition"] for cell in cells})
    lines = [f"- metric: {', '.join(definitions)}; mean ± standard deviation over the seeds"]
    lines.append(
        f"- seeds: {sorted({cell['seed'] for cell in cells})} (labelled rows, parameters, training)"
    )
    for name, value in content["about"].items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        lines.append(f"- {name}: {text}")
    lines.append(
        "- splits: Wikipedia's official one; committed ones for Emoji (in the package) and COCO "
        "(`manifests/coco15k_split.json`, without `person`)"
    )
    lines.append("- features: those, then `ScaleFeatures()`, fitted on train, for all methods")
    lines.append(
        "- protocol: *inductive*: only training items are anybody's neighbours; *strict*: all "
        "items are, but no code of a query depends on its other modality; *transductive*: it may"
    )
    lines.append("- seconds: graph, training and encoding, mean over the seeds")
    trained: dict[str, str] = {}
    for cell in cells:
        training = cell["described"]["training"]
        if training:
            text = ", ".join(f"{name} {value}" for name, value in training.items())
            trained.setdefault(cell["described"]["family"], text)
    lines += [f"- {family}: {text} (Adam unless said)" for family, text in sorted(trained.items())]
    return "\n".join(lines)
