"""One self-contained HTML page about a trained model: no script, no network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch_geometric.data import HeteroData

from pyg_hash import __version__
from pyg_hash.models import HashModel
from pyg_hash.report import sections
from pyg_hash.report.answers import gallery_section
from pyg_hash.report.markup import Html, Section, element
from pyg_hash.report.results import Results
from pyg_hash.report.style import page_css
from pyg_hash.runs import RunItems
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import atomic_path
from pyg_hash.utils.optional import require

# nothing is fetched and nothing runs, even if a text of the data tried to
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_NEEDED = {"matplotlib": "matplotlib", "sklearn": "scikit-learn", "PIL": "pillow"}


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
    for module, package in _NEEDED.items():  # found out now, not after the work
        require(module, package, extra="report")
    about = about or About()
    results = Results.of(model, data)
    ids, none = [f"row {row}" for row in range(len(results))], [None] * len(results)
    items = about.items or RunItems(ids, [*none], [*none], [[] for _ in ids])
    if len(items) != len(results):
        raise ValueError(f"items: {len(items)} of them, but the data have {len(results)} rows")
    body, notes = gallery_section(results, items, num_queries=num_queries, seed=seed)
    parts = [body]
    if results.evaluation is None:
        notes.append("The data have no labels: nothing is right or wrong, and no accuracy exists.")
    else:
        curves = results.curves()
        parts.insert(0, sections.accuracy(results, curves))
        parts.append(sections.curve_figures(results, curves))
    parts.append(sections.code_section(results))
    features = {m: data[m].x for m in MODALITIES}
    maps = sections.embeddings(results, features, about.class_names, points=points, seed=seed)
    parts.append(maps)
    if not about.history:
        notes.append("The run kept no history of its losses.")
    if about.history or about.settings:
        parts.append(sections.training(about.history, about.settings))
    kind = "no labels" if results.evaluation is None else results.evaluation.protocol
    words = (
        f"{results.num_bits} bits, {kind}, {results.query.numel():,} queries, "
        f"{results.database.numel():,} database items. pyg_hash {__version__}"
    )
    return _document(about.title or type(model).__name__, words, notes, parts)


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


def _document(title: str, words: str, notes: Sequence[str], parts: Sequence[Section]) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"pyg_hash {__version__}"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(page_css())),
    )
    header = element(
        "header",
        element("h1", title),
        element("p", words, class_="soft"),
        element("nav", [part.link for part in parts]),
    )
    listed = [element("ul", [element("li", note) for note in notes], class_="notes")]
    main = element("main", [part.html for part in parts])
    body = element("body", header, listed if notes else [], main)
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
