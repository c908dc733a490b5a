"""One self-contained HTML page about a trained model: no script, no network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pyg_hash import __version__
from pyg_hash.codes import code_diagnostics
from pyg_hash.metrics import Evaluation
from pyg_hash.models import HashModel
from pyg_hash.report import figures
from pyg_hash.report.figures import RADIUS, page_css, to_svg
from pyg_hash.report.results import Results, cases, thumbnail
from pyg_hash.runs import IncompleteRunError, Run, RunItems
from pyg_hash.typing import MODALITIES
from pyg_hash.utils.checks import check_positive_int, check_seed
from pyg_hash.utils.files import CorruptFileError, atomic_path
from pyg_hash.utils.optional import require
from pyg_hash.utils.provenance import differences

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

_OF_TRAINING = ("labeled", "train", "val")
"""What may differ between runs whose numbers can be compared."""


@dataclass(frozen=True)
class About:
    """What a page says beside what it computes; every part may be missing."""

    title: str = ""  #: the heading; by default the name of the model's class
    settings: Mapping[str, Any] = field(default_factory=dict)  #: what repeats the run
    #: the rows that :func:`pyg_hash.training.fit` returned
    history: Sequence[Mapping[str, Any]] = ()
    items: RunItems | None = None  #: ids, texts, picture paths and labels of the instances
    class_names: Sequence[str] = ()  #: one name a class


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

    It holds the accuracy, a gallery of queries with what they find, those that fare worst, curves,
    losses, diagnostics of the codes, maps (t-SNE) and the settings. What the data do not have is
    left out, and the page says so.

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
    check_seed(seed)
    for module, package in (("matplotlib",) * 2, ("sklearn", "scikit-learn"), ("PIL", "pillow")):
        require(module, package, extra="report")  # found out now, not after the work
    require("jinja2", "jinja2", extra="report")
    about = about or About()
    results = Results.of(model, data)
    ids, none = [f"row {row}" for row in range(len(results))], [None] * len(results)
    items = about.items or RunItems(ids, [*none], [*none], [[] for _ in ids])
    if len(items) != len(results):
        raise ValueError(f"items: {len(items)} of them, but the data have {len(results)} rows")
    shown = cases(results, num_queries, seed)
    asked = [asked for case in shown for asked in case.asked]
    seen = {asked.row for asked in asked} | {each.row for asked in asked for each in asked.answers}
    paths = filter(None, (items.image_paths[row] for row in sorted(seen)))
    pictures = {path: thumbnail(path) for path in paths}
    notes = [*items.lacks(), *results.evaluation.notes]
    if unreadable := [path for path, picture in pictures.items() if picture is None]:
        notes.append(f"Pictures that cannot be read: {len(unreadable)} (first: {unreadable[0]}).")
    if results.labels is None:
        notes.append("The data have no labels: nothing is right or wrong, and there is no mAP.")
    if not about.history:
        notes.append("The run kept no history of its losses.")
    codes = {m: results.codes[m][results.database] for m in MODALITIES}
    rows = results.sample(points, seed=seed)
    return render(
        "page.html",
        title=about.title or type(model).__name__,
        notes=notes,
        about=about,
        terms=[k for k in dict.fromkeys(k for row in about.history for k in row) if k != "epoch"],
        items=items,
        pictures=pictures,
        cases=shown,
        results=results,
        evaluation=results.evaluation,
        curves={} if results.labels is None else results.curves(),
        codes=codes,
        judged={m: code_diagnostics(values) for m, values in codes.items()},
        features={m: data[m].x[rows].cpu() for m in MODALITIES},
        points={m: results.codes[m][rows] for m in MODALITIES},
        labels=results.labels and {m: results.labels[m][rows] for m in MODALITIES},
        num_queries=num_queries,
        seed=seed,
    )


def compare_page(runs: Sequence[Run]) -> str:
    """Runs side by side: protocol, label rate, accuracy, and the settings in which they differ.

    Raises:
        IncompleteRunError: a run has no evaluation.
        CorruptFileError: a file of a run is damaged.
        ImportError: Jinja2 is not installed.
    """
    require("jinja2", "jinja2", extra="report")
    rows: list[tuple[Run, dict[str, Any], Evaluation, int]] = []
    data: list[tuple[Run, Any]] = []  # different ones, and the first run of each
    notes = []
    for run in runs:
        stored = run.metrics()
        if "query" not in stored:
            raise IncompleteRunError(
                f"run: {run.path} has no evaluation; make it with: pyg-hash evaluate {run.path}"
            )
        try:
            evaluation = Evaluation(**stored["query"])
        except TypeError as error:
            raise CorruptFileError(f"{run.file('metrics')}: not of this version") from error
        prints = run.rows()
        found = [_other_data(known, prints) for _, known in data]
        if all(found):
            lines = found[0] if found else []
            notes += [f"{run.path}: other data than {data[0][0].path}: {line}" for line in lines]
            data.append((run, prints))
            found.append([])
        rows.append((run, run.config(), evaluation, found.index([])))
    settings = [name for name in rows[0][1] if len({str(row[1].get(name)) for row in rows}) > 1]
    return render(
        "compare.html",
        title=f"{len(rows)} runs",
        notes=notes,
        rows=rows,
        settings=settings,
        several=len(data) > 1,
    )


def _other_data(stored: Any, now: Any) -> list[str]:
    """How the features, labels, queries or database of two runs differ, a line each."""
    if stored is None or now is None:
        return ["one of the two does not say"]
    return [line for line in differences(stored, now) if not line.startswith(_OF_TRAINING)]


def render(template: str, **values: Any) -> str:
    """A page, from a template in this folder."""
    jinja = require("jinja2", "jinja2", extra="report")
    folder = files("pyg_hash.report")
    loader = jinja.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8"))
    environment = jinja.Environment(autoescape=True, loader=loader, trim_blocks=True)
    known = {"css": page_css(), "version": __version__, "draw": figures, "svg": to_svg}
    environment.globals |= known | {"RADIUS": RADIUS}
    environment.filters |= {
        "number": lambda value: "–" if value is None else f"{float(value):.3f}",
        "plain": lambda value: value if isinstance(value, str) else json.dumps(value, default=str),
    }
    html: str = environment.get_template(template).render(**values)
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
