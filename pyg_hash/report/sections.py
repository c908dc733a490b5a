"""The parts of a report's page that are tables and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyg_hash.codes import CodeDiagnostics, code_diagnostics
from pyg_hash.metrics import LookupCurve
from pyg_hash.report.bits import bit_balance, bit_correlation, distance_histogram
from pyg_hash.report.curves import RADIUS, loss_curves, pr_curve, precision_at_n, radius_precision
from pyg_hash.report.embedding import tsne
from pyg_hash.report.markup import Html, Section, element, joined, table
from pyg_hash.report.results import Results, direction_name
from pyg_hash.report.style import to_svg
from pyg_hash.typing import IMAGE, MODALITIES, TEXT

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_PROTOCOLS = {
    "inductive": "training knows nothing of the queries, and a query is encoded by itself",
    "strict": "queries are nodes of the graph, but a query's code knows nothing of its other "
    "modality",
    "transductive": "queries are nodes of the graph, and a query's code may depend on its own "
    "other modality (as in the papers)",
    "none": "the data carry no graph",
}


def boxed(figure: Figure, name: str, title: str, label: str, caption: str = "") -> Html:
    """A figure with a heading, a description to be read aloud, and a caption."""
    return element(
        "figure",
        element("h3", title),
        Html(to_svg(figure, name=name, label=label)),
        [element("figcaption", caption)] if caption else [],
    )


def figures(*boxes: Html) -> Html:
    """Figures side by side, as many as there is room for."""
    return element("div", boxes, class_="figures")


def accuracy(results: Results, curves: Mapping[str, LookupCurve]) -> Section:
    """Scores of rankings and lookups in the four directions, and what they mean."""
    evaluation = results.evaluation
    assert evaluation is not None
    scores = (evaluation.i2t, evaluation.t2i, evaluation.i2i, evaluation.t2t)
    rows = []
    for (name, curve), score in zip(curves.items(), scores, strict=True):
        lookup = (_at_radius(values) for values in (curve.precision, curve.recall, curve.answered))
        rows.append([name, *(f"{value:.3f}" for value in (score, *lookup))])
    header = ["", "mAP", "precision", "recall", "answered"]
    caption = f"mAP, and lookups within radius {RADIUS}"
    meaning = _PROTOCOLS.get(evaluation.protocol, "as the model names it")
    words = (
        f"{evaluation.definition}. Protocol {evaluation.protocol}: {meaning}. "
        f"{evaluation.num_queries:,} queries, {evaluation.num_database:,} database items. Within "
        f"radius {RADIUS}, a query that finds nothing has precision 0; answered is the share of "
        "queries that find anything."
    )
    content = joined(table(caption, header, rows), element("p", words))
    return Section("accuracy", "Accuracy", content)


def curve_figures(results: Results, curves: Mapping[str, LookupCurve]) -> Section:
    """Precision and recall by radius and by rank."""
    precisions, topn = results.precisions()
    last = f"first {topn[-1]}"
    best = _each(curves, lambda c: f"best precision {float(c.precision.max()):.2f}")
    ends = _each(precisions, lambda p: f"{p[0]:.2f} for the first, {p[-1]:.2f} {last}")
    within = _each(curves, lambda c: f"{_at_radius(c.precision):.2f}")
    boxes = [
        boxed(
            pr_curve(curves),
            "pr",
            "Precision and recall",
            f"Precision against recall over the Hamming radius. {best}",
            f"Each point is a radius; the dots are radius {RADIUS}.",
        ),
        boxed(
            precision_at_n(precisions, topn),
            "pn",
            "Precision of the first n",
            f"Precision of the first n items against n. {ends}",
            "Equal distances are averaged over all their orders.",
        ),
        boxed(
            radius_precision(curves),
            "radius",
            "Precision within a radius",
            f"Precision within each Hamming radius. {within} (at radius {RADIUS})",
            f"A query that finds nothing counts as 0. The vertical line is radius {RADIUS}.",
        ),
    ]
    return Section("curves", "Curves", figures(*boxes))


def training(history: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Section:
    """The losses of every epoch, and the settings that repeat the run."""
    boxes = []
    if history:
        names = [k for k in dict.fromkeys(k for row in history for k in row) if k != "epoch"]
        label = f"Terms of the loss over {len(history)} epochs: {', '.join(names)}."
        boxes.append(boxed(loss_curves(history), "loss", f"{len(history)} epochs", label))
    if settings:
        rows = [
            [name, value if isinstance(value, str) else json.dumps(value, default=str)]
            for name, value in settings.items()
        ]
        inner = table("Settings, as in config.yaml", ["setting", "value"], rows)
        boxes.append(element("div", inner, class_="settings"))
    return Section("training", "Training", figures(*boxes))


def code_section(results: Results) -> Section:
    """How well the codes use their bits."""
    codes = {m: results.codes[m][results.database] for m in MODALITIES}
    judged = {m: code_diagnostics(values) for m, values in codes.items()}
    off = _each(judged, lambda d: f"mean distance from balance {d.imbalance / 2:.2f}")
    boxes = [
        _diagnostics(judged),
        boxed(
            bit_balance(codes),
            "balance",
            "Balance of the bits",
            f"Share of +1 of each bit. {off}",
            "One half is best; squares are pictures, triangles are texts.",
        ),
    ]
    for source, target in ((IMAGE, TEXT), (TEXT, IMAGE)):
        name = direction_name(source, target)
        label = f"Histogram of the Hamming distances of pairs, {name}."
        caption = "" if results.labels is None else "The less the two overlap, the better."
        drawn = distance_histogram(*results.split(source, target))
        boxes.append(boxed(drawn, f"distance-{source}", f"Distances, {name}", label, caption))
    for modality in MODALITIES:
        title = f"Correlation of the bits, {modality}"
        label = f"Matrix of absolute correlations of bits, mean {judged[modality].correlation:.2f}"
        caption = "Off the diagonal, 0 (dark) is best. Constant bits stay empty."
        drawn = bit_correlation(codes[modality])
        boxes.append(boxed(drawn, f"correlation-{modality}", title, label, caption))
    return Section("codes", "Codes", figures(*boxes))


def _diagnostics(judged: Mapping[Any, CodeDiagnostics]) -> Html:
    first = judged[IMAGE]
    rows = {
        "imbalance of a bit (0 is best)": "{0.imbalance:.3f}",
        "entropy of a bit (at most 1)": "{0.bit_entropy:.3f}",
        "correlation of two bits (0 is best)": "{0.correlation:.3f}",
        "constant bits": "{0.constant_bits}",
        "entropy of a code, in bits": "{0.code_entropy:.2f}",
        "different codes": "{0.distinct_codes:,}",
        "items that share their code": "{0.collisions:,}",
        "items with the commonest code": "{0.largest_bucket:,}",
    }
    cells = [[name, *map(value.format, judged.values())] for name, value in rows.items()]
    caption = f"The {first.num_codes:,} database codes of {first.num_bits} bits"
    return table(caption, ["", *judged], cells)


def embeddings(
    results: Results,
    features: Mapping[Any, Tensor],
    class_names: Sequence[str],
    *,
    points: int,
    seed: int,
) -> Section:
    """t-SNE of the features of each modality, and of the codes of both."""
    rows = results.sample(points, seed=seed)
    count = rows.numel()

    def box(values: Mapping[Any, Tensor], name: str, title: str, label: str) -> Html:
        labels = results.labels and {m: results.labels[m][rows] for m in values}
        here = {m: x[rows].cpu() for m, x in values.items()}
        return boxed(tsne(here, labels, class_names, seed=seed), f"tsne-{name}", title, label)

    boxes = []
    for modality in MODALITIES:
        label = f"t-SNE of {count} {modality} features, coloured by class."
        own = {modality: features[modality]}
        boxes.append(box(own, modality, f"Features, {modality}", label))
    label = f"t-SNE of the codes of {count} instances; both modalities in one space."
    boxes.append(box(results.codes, "codes", "Codes of both", label))
    words = (
        f"t-SNE of {count:,} instances drawn at random: features as they came in, each "
        "modality in a space of its own, and the codes, which share one. Squares are pictures, "
        "triangles are texts; only nearness means anything."
    )
    return Section("map", "Maps", joined(element("p", words), figures(*boxes)))


def _at_radius(values: Tensor) -> float:
    return float(values[min(RADIUS, values.numel() - 1)])


def _each(values: Mapping[Any, Any], say: Callable[[Any], str]) -> str:
    return "; ".join(f"{name}: {say(value)}" for name, value in values.items())
