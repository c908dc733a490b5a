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
from pyg_hash.report.results import DIRECTIONS, Results, direction_name
from pyg_hash.report.svg import to_svg
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
    for pair, score in zip(DIRECTIONS, scores, strict=True):
        curve = curves[direction_name(*pair)]
        radius = min(RADIUS, curve.precision.numel() - 1)
        lookup = (float(x[radius]) for x in (curve.precision, curve.recall, curve.answered))
        rows.append([direction_name(*pair), *(f"{value:.3f}" for value in (score, *lookup))])
    header = ["", "mAP", "precision", "recall", "answered"]
    caption = f"mAP, and lookups within radius {RADIUS}"
    meaning = _PROTOCOLS.get(evaluation.protocol, "as the model names it")
    words = (
        f"{evaluation.definition}. Protocol {evaluation.protocol}: {meaning}. "
        f"{evaluation.num_queries:,} queries, "
        f"{evaluation.num_database:,} database items. Within radius {RADIUS}, a query that finds "
        "nothing has precision 0; answered is the share of queries that find anything."
    )
    return Section(
        "accuracy", "Accuracy", joined(table(caption, header, rows), element("p", words))
    )


def curve_figures(results: Results, curves: Mapping[str, LookupCurve]) -> Section:
    """Precision and recall by radius and by rank."""
    precisions, topn = results.precisions()
    last = f"first {topn[-1]}"
    boxes = [
        boxed(
            pr_curve(curves),
            "pr",
            "Precision and recall",
            "Precision against recall over the Hamming radius. "
            + _each(curves, lambda c: f"best precision {float(c.precision.max()):.2f}"),
            f"Each point is a radius; the dots are radius {RADIUS}.",
        ),
        boxed(
            precision_at_n(precisions, topn),
            "pn",
            "Precision of the first n",
            "Precision of the first n items against n. "
            + _each(
                precisions, lambda p: f"{float(p[0]):.2f} for the first, {float(p[-1]):.2f} {last}"
            ),
            "Equal distances are averaged over all their orders.",
        ),
        boxed(
            radius_precision(curves),
            "radius",
            "Precision within a radius",
            "Precision within each Hamming radius. "
            + _each(
                curves, lambda c: f"{float(c.precision[min(RADIUS, len(c.precision) - 1)]):.2f}"
            )
            + f" (at radius {RADIUS})",
            f"A query that finds nothing counts as 0. The vertical line is radius {RADIUS}.",
        ),
    ]
    return Section("curves", "Curves", joined(figures(*boxes)))


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
    boxes = [
        boxed(
            bit_balance(codes),
            "balance",
            "Balance of the bits",
            "Share of +1 of each bit. "
            + _each(judged, lambda d: f"mean distance from balance {d.imbalance / 2:.2f}"),
            "One half is best; squares are pictures, triangles are texts.",
        )
    ]
    for source, target in ((IMAGE, TEXT), (TEXT, IMAGE)):
        name = direction_name(source, target)
        query, database, query_y, database_y = results.split(source, target)
        boxes.append(
            boxed(
                distance_histogram(query, database, query_y, database_y),
                f"distance-{source}",
                f"Distances, {name}",
                f"Histogram of the Hamming distances of pairs, {name}.",
                "The less the two overlap, the better." if query_y is not None else "",
            )
        )
    for modality in MODALITIES:
        boxes.append(
            boxed(
                bit_correlation(codes[modality]),
                f"correlation-{modality}",
                f"Correlation of the bits, {modality}",
                f"Matrix of absolute correlations of bits, mean {judged[modality].correlation:.2f}",
                "Off the diagonal, 0 (dark) is best. Constant bits stay empty.",
            )
        )
    return Section("codes", "Codes", figures(_diagnostics(judged), *boxes))


def _diagnostics(judged: Mapping[Any, CodeDiagnostics]) -> Html:
    first = judged[IMAGE]
    rows: dict[str, Callable[[CodeDiagnostics], str]] = {
        "imbalance of a bit (0 is best)": lambda d: f"{d.imbalance:.3f}",
        "entropy of a bit (at most 1)": lambda d: f"{d.bit_entropy:.3f}",
        "correlation of two bits (0 is best)": lambda d: f"{d.correlation:.3f}",
        "constant bits": lambda d: f"{d.constant_bits}",
        "entropy of a code, in bits": lambda d: f"{d.code_entropy:.2f}",
        "different codes": lambda d: f"{d.distinct_codes:,}",
        "items that share their code": lambda d: f"{d.collisions:,}",
        "items with the commonest code": lambda d: f"{d.largest_bucket:,}",
    }
    cells = [[name, *(value(d) for d in judged.values())] for name, value in rows.items()]
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
    labels = None if results.labels is None else {m: y[rows] for m, y in results.labels.items()}
    boxes = []
    for modality in MODALITIES:
        own = None if labels is None else {modality: labels[modality]}
        drawn = tsne({modality: features[modality][rows].cpu()}, own, class_names, seed=seed)
        label = f"t-SNE of {rows.numel()} {modality} features, coloured by class."
        boxes.append(boxed(drawn, f"tsne-{modality}", f"Features, {modality}", label))
    codes = {m: results.codes[m][rows] for m in MODALITIES}
    boxes.append(
        boxed(
            tsne(codes, labels, class_names, seed=seed),
            "tsne-codes",
            "Codes of both",
            f"t-SNE of the codes of {rows.numel()} instances; both modalities in one space.",
        )
    )
    words = (
        f"t-SNE of {rows.numel():,} instances drawn at random: features as they came in, each "
        "modality in a space of its own, and the codes, which share one. Squares are pictures, "
        "triangles are texts; only nearness means anything."
    )
    return Section("map", "Maps", joined(element("p", words), figures(*boxes)))


def _each(values: Mapping[Any, Any], say: Any) -> str:
    return "; ".join(f"{name}: {say(value)}" for name, value in values.items())
