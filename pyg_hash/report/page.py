"""One self-contained HTML page about a trained model: no script, no network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyg_hash import __version__
from pyg_hash.codes import code_diagnostics
from pyg_hash.metrics import LookupCurve
from pyg_hash.metrics.evaluation import RECALL_AT
from pyg_hash.models import HashModel
from pyg_hash.report import figures
from pyg_hash.report.figures import RADIUS
from pyg_hash.report.results import Results, gallery_section
from pyg_hash.report.style import page_css, to_svg
from pyg_hash.runs import RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import atomic_path
from pyg_hash.utils.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch_geometric.data import HeteroData

Part = dict[str, Any]
"""What the template shows of a section or of a box in it."""

_PROTOCOLS = {
    "inductive": "training knows nothing of the queries, and a query is encoded by itself",
    "strict": "queries are nodes of the graph, but a query's code knows nothing of its other "
    "modality",
    "transductive": "queries are nodes of the graph, and a query's code may depend on its own "
    "other modality (as in the papers)",
    "none": "the data carry no graph",
}


@dataclass(frozen=True)
class About:
    """What a page says beside what it computes; every part may be missing.

    Attributes:
        title: the heading; by default the name of the model's class.
        settings: names and values that repeat the run.
        history: the rows that :func:`pyg_hash.training.fit` returned.
        items: ids, texts, picture paths and labels of the instances.
        class_names: one name a class.
    """

    title: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    items: RunItems | None = None
    class_names: Sequence[str] = ()


def report_page(
    model: HashModel,
    data: HeteroData,
    about: About | None = None,
    *,
    num_queries: int = 4,
    points: int = 500,
    seed: int = 0,
) -> str:
    """A page about a model and its codes of a data set.

    It holds the accuracy, a gallery of queries with what they find, curves, losses, diagnostics
    of the codes, maps (t-SNE) and the settings. What the data do not have is left out, and the
    page says so.

    Args:
        model: a trained model.
        data: what it encodes: features, ``query_mask`` and ``database_mask``, labels if known.
        about: what else is known.
        num_queries: queries of each modality in the gallery.
        points: instances in the maps, which take seconds for each thousand.
        seed: of what is drawn at random.

    Returns:
        HTML that needs no other file.

    Raises:
        TypeError, ValueError: data without splits, items that do not fit the data, numbers that
            are not positive integers.
        ImportError: matplotlib, scikit-learn or Pillow is not installed.
    """
    check_positive_int(num_queries, "num_queries")
    check_positive_int(points, "points")
    for module, package in (("matplotlib",) * 2, ("sklearn", "scikit-learn"), ("PIL", "pillow")):
        require(module, package, extra="report")  # found out now, not after the work
    environment = require("jinja2", "jinja2", extra="report").Environment(autoescape=True)
    about = about or About()
    results = Results.of(model, data)
    ids, none = [f"row {row}" for row in range(len(results))], [None] * len(results)
    items = about.items or RunItems(ids, [*none], [*none], [[] for _ in ids])
    if len(items) != len(results):
        raise ValueError(f"items: {len(items)} of them, but the data have {len(results)} rows")
    body, notes = gallery_section(results, items, num_queries=num_queries, seed=seed)
    curves = {} if results.labels is None else results.curves()
    parts = [_accuracy(results, curves), body]
    if curves:
        parts.append(_curve_figures(results, curves))
    else:
        notes.append("The data have no labels: nothing is right or wrong, and there is no mAP.")
    parts.append(_code_section(results))
    features = {m: data[m].x for m in MODALITIES}
    maps = _embeddings(results, features, about.class_names, points=points, seed=seed)
    parts.append(maps)
    if not about.history:
        notes.append("The run kept no history of its losses.")
    if about.history or about.settings:
        parts.append(_training(about.history, about.settings))
    kind = "no labels" if results.labels is None else results.evaluation.protocol
    words = (
        f"{results.num_bits} bits, {kind}, {results.query.numel():,} queries, "
        f"{results.database.numel():,} database items. pyg_hash {__version__}"
    )
    template = files("pyg_hash.report").joinpath("page.html").read_text("utf-8")
    html: str = environment.from_string(template).render(
        title=about.title or type(model).__name__,
        words=words,
        notes=notes,
        parts=parts,
        items=items,
        css=page_css(),
        version=__version__,
    )
    return html


def write_report(
    path: str | os.PathLike[str],
    model: HashModel,
    data: HeteroData,
    about: About | None = None,
    **options: Any,
) -> None:
    """Write :func:`report_page` to a file, atomically; arguments and errors are its own.

    Raises:
        OSError: the file cannot be written.
    """
    page = report_page(model, data, about, **options)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _boxed(figure: Figure, name: str, title: str, label: str, caption: str = "") -> Part:
    """A figure with a heading, a description to be read aloud, and a caption."""
    return {"svg": to_svg(figure, name=name, label=label), "title": title, "caption": caption}


def _accuracy(results: Results, curves: Mapping[str, LookupCurve]) -> Part:
    """Scores of rankings and lookups in the four directions, pair recall, and what they mean."""
    evaluation = results.evaluation
    scores = evaluation.to_dict()
    rows = []
    for (name, curve), way in zip(curves.items(), ("i2t", "t2i", "i2i", "t2t"), strict=False):
        lookup = (_at_radius(values) for values in (curve.precision, curve.recall, curve.answered))
        shown = (scores[way], evaluation.ndcg.get(way), *lookup)
        rows.append([name, *("–" if value is None else f"{value:.3f}" for value in shown)])
    header = ["", "mAP", "NDCG", "precision", "recall", "answered"]
    part: Part = {"name": "accuracy", "title": "Accuracy"}
    meaning = _PROTOCOLS.get(evaluation.protocol, "as the model names it")
    counts = f"{evaluation.num_queries:,} queries, {evaluation.num_database:,} database items."
    words = f"Protocol {evaluation.protocol}: {meaning}. {counts}"
    if rows:
        part["table"] = f"mAP, and lookups within radius {RADIUS}", header, rows
        words = (
            f"{evaluation.definition}. {words} Within radius {RADIUS}, a query that finds nothing "
            "has precision 0; answered is the share of queries that find anything."
        )
    if evaluation.pair_recall:
        words += (
            " mAP asks for the category; pair recall, R@k, for the thing: how often a query's own "
            f"other side is among the first k of those of all {evaluation.num_queries:,} queries, "
            f"expected over ties (R@10 by chance: {min(10 / evaluation.num_queries, 1):.3f})."
        )
        names = {"i2t": "image to text", "t2i": "text to image"}
        recall = {names[way]: at for way, at in evaluation.pair_recall.items()}
        header = ["", *(f"R@{k}" for k in RECALL_AT)]
        rows = [[name, *(f"{v:.3f}" for v in at.values())] for name, at in recall.items()]
        part["boxes"] = [{"table": ("Pair recall", header, rows)}]
    return {**part, "words": words}


def _curve_figures(results: Results, curves: Mapping[str, LookupCurve]) -> Part:
    """Precision and recall by radius and by rank."""
    precisions, topn = results.precisions()
    last = f"first {topn[-1]}"
    best = _each(curves, lambda c: f"best precision {float(c.precision.max()):.2f}")
    ends = _each(precisions, lambda p: f"{p[0]:.2f} for the first, {p[-1]:.2f} {last}")
    within = _each(curves, lambda c: f"{_at_radius(c.precision):.2f}")
    boxes = [
        _boxed(
            figures.pr_curve(curves),
            "pr",
            "Precision and recall",
            f"Precision against recall over the Hamming radius. {best}",
            f"Each point is a radius; the dots are radius {RADIUS}.",
        ),
        _boxed(
            figures.precision_at_n(precisions, topn),
            "pn",
            "Precision of the first n",
            f"Precision of the first n items against n. {ends}",
            "Equal distances are averaged over all their orders.",
        ),
        _boxed(
            figures.radius_precision(curves),
            "radius",
            "Precision within a radius",
            f"Precision within each Hamming radius. {within} (at radius {RADIUS})",
            f"A query that finds nothing counts as 0. The vertical line is radius {RADIUS}.",
        ),
    ]
    return {"name": "curves", "title": "Curves", "boxes": boxes}


def _training(history: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Part:
    """The losses of every epoch, and the settings that repeat the run."""
    boxes: list[Part] = []
    names = [k for k in dict.fromkeys(k for row in history for k in row) if k != "epoch"]
    if names:
        label = f"Terms of the loss over {len(history)} epochs: {', '.join(names)}."
        drawn = figures.loss_curves(history, names)
        boxes.append(_boxed(drawn, "loss", f"{len(history)} epochs", label))
    if settings:
        rows = [
            [name, value if isinstance(value, str) else json.dumps(value, default=str)]
            for name, value in settings.items()
        ]
        table = "Settings, as in config.yaml", ["setting", "value"], rows
        boxes.append({"class": "settings", "table": table})
    return {"name": "training", "title": "Training", "boxes": boxes}


def _code_section(results: Results) -> Part:
    """How well the codes use their bits."""
    codes = {m: results.codes[m][results.database] for m in MODALITIES}
    judged = {m: code_diagnostics(values) for m, values in codes.items()}
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
    tied = (f"{results.evaluation.codes[m]['edge_ties']:,.1f}" for m in MODALITIES)
    cells.append(["items as far as the tenth answer", *tied])
    caption = f"The {results.database.numel():,} database codes of {results.num_bits} bits"
    off = _each(judged, lambda d: f"mean distance from balance {d.imbalance / 2:.2f}")
    boxes = [
        {"table": (caption, ["", *judged], cells)},
        _boxed(
            figures.bit_balance(codes),
            "balance",
            "Balance of the bits",
            f"Share of +1 of each bit. {off}",
            "One half is best; squares are pictures, triangles are texts.",
        ),
    ]
    for source, target in ((IMAGE, TEXT), (TEXT, IMAGE)):
        name = f"{source} to {target}"
        label = f"Histogram of the Hamming distances of pairs, {name}."
        caption = "" if results.labels is None else "The less the two overlap, the better."
        drawn = figures.distance_histogram(*results.split(source, target))
        boxes.append(_boxed(drawn, f"distance-{source}", f"Distances, {name}", label, caption))
    for modality in MODALITIES:
        title = f"Correlation of the bits, {modality}"
        label = f"Matrix of absolute correlations of bits, mean {judged[modality].correlation:.2f}"
        caption = "Off the diagonal, 0 (dark) is best. Constant bits stay empty."
        drawn = figures.bit_correlation(codes[modality])
        boxes.append(_boxed(drawn, f"correlation-{modality}", title, label, caption))
    return {"name": "codes", "title": "Codes", "boxes": boxes}


def _embeddings(
    results: Results,
    features: Mapping[Any, Tensor],
    class_names: Sequence[str],
    *,
    points: int,
    seed: int,
) -> Part:
    """t-SNE of the features of each modality, and of the codes of both."""
    rows = results.sample(points, seed=seed)
    count = rows.numel()

    def box(values: Mapping[Any, Tensor], name: str, title: str, label: str) -> Part:
        labels = results.labels and {m: results.labels[m][rows] for m in values}
        here = {m: x[rows].cpu() for m, x in values.items()}
        return _boxed(
            figures.tsne(here, labels, class_names, seed=seed), f"tsne-{name}", title, label
        )

    words = "t-SNE of {} {} features, coloured by class."
    boxes = [box({m: features[m]}, m, f"Features, {m}", words.format(count, m)) for m in MODALITIES]
    label = f"t-SNE of the codes of {count} instances; both modalities in one space."
    boxes.append(box(results.codes, "codes", "Codes of both", label))
    words = (
        f"t-SNE of {count:,} instances drawn at random: features as they came in, each "
        "modality in a space of its own, and the codes, which share one. Squares are pictures, "
        "triangles are texts; only nearness means anything."
    )
    return {"name": "map", "title": "Maps", "words": words, "boxes": boxes}


def _at_radius(values: Tensor) -> float:
    return float(values[min(RADIUS, values.numel() - 1)])


def _each(values: Mapping[Any, Any], say: Callable[[Any], str]) -> str:
    return "; ".join(f"{name}: {say(value)}" for name, value in values.items())
