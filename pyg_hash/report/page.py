"""One self-contained HTML page about a trained model, no script, no network; and what it shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyg_hash import __version__
from pyg_hash.codes import check_codes, code_diagnostics
from pyg_hash.features import UnreadableImageError
from pyg_hash.index import HammingIndex
from pyg_hash.metrics import Evaluation, LookupCurve, evaluate, pr_curve, precision_at_n
from pyg_hash.metrics.mean_ap import average_precision
from pyg_hash.metrics.scored import pair_places
from pyg_hash.models import HashModel
from pyg_hash.models.signs import has_own
from pyg_hash.report import figures
from pyg_hash.report.figures import RADIUS, page_css, to_svg
from pyg_hash.runs import IncompleteRunError, Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, PathLike, binarize
from pyg_hash.utils.checks import check_positive_int, check_seed
from pyg_hash.utils.files import CorruptFileError, atomic_path
from pyg_hash.utils.modes import eval_mode
from pyg_hash.utils.oddities import judged_rows
from pyg_hash.utils.optional import require
from pyg_hash.utils.pictures import square_jpeg
from pyg_hash.utils.provenance import differences

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

# what asks and what is searched, in the order of Evaluation
_PAIRS = ((IMAGE, TEXT), (TEXT, IMAGE), (IMAGE, IMAGE), (TEXT, TEXT))
_PIXELS, _QUALITY = 96, 80  # of a picture on a card
_TOPN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_OF_TRAINING = ("labeled", "train", "val")  # may differ where numbers can be compared


@dataclass(frozen=True)
class Results:
    """What a model gave for a data set."""

    codes: Mapping[Modality, Tensor]  #: int8 ±1 ``[N, num_bits]`` on the CPU
    #: what they are the signs of, float32 ``[N, num_bits]``; codes, of one's own ``encode``
    relaxed: Mapping[Modality, Tensor]
    #: class index ``[N]`` or multi-hot ``[N, C]``; None for data without
    labels: Mapping[Modality, Tensor] | None
    query: Tensor  #: row numbers of the queries, int64
    database: Tensor  #: row numbers of the database, int64
    num_bits: int  # of a code
    evaluation: Evaluation  #: mAP, if there are labels, pair recall, and what the codes are like

    @classmethod
    def of(cls, model: HashModel, data: HeteroData) -> Results:
        """Encode all nodes of ``data`` once, and evaluate.

        Raises:
            ValueError: masks are missing or select nothing; see :func:`pyg_hash.metrics.evaluate`.
        """
        rows = {}
        for name in ("query_mask", "database_mask"):
            if name not in data[IMAGE] or not bool(data[IMAGE][name].any()):
                raise ValueError(f"data['image'].{name}: missing or empty; mark some items")
            rows[name] = data[IMAGE][name].nonzero().flatten().cpu()
        with eval_mode(model):
            out = model(data)
        relaxed: dict[Modality, Tensor] = {m: out[m] for m in MODALITIES}
        codes = {m: binarize(relaxed[m]) for m in MODALITIES}
        if has_own(model, "encode"):
            codes = {m: model.encode(data, m) for m in MODALITIES}
            for given in codes.values():
                check_codes(given, "encode")
            relaxed = {m: codes[m].float() for m in MODALITIES}
        labeled = all("y" in data[m] for m in MODALITIES)
        kept = ("protocol", "reads_labels", "intake")
        known = {name: getattr(model, name) for name in kept if hasattr(model, name)}
        encoded: Any = SimpleNamespace(
            num_bits=model.num_bits, encode=lambda _, m: codes[m], **known
        )
        return cls(
            codes={m: values.cpu() for m, values in codes.items()},
            relaxed={m: values.float().cpu() for m, values in relaxed.items()},
            labels={m: data[m].y.cpu() for m in MODALITIES} if labeled else None,
            query=rows["query_mask"],
            database=rows["database_mask"],
            num_bits=model.num_bits,
            evaluation=evaluate(encoded, data),
        )

    def __len__(self) -> int:
        """Number of instances."""
        return self.codes[IMAGE].size(0)

    def asked(self, source: Modality) -> Tensor:
        """Row numbers of the queries that count: as in ``evaluate``, those with a label."""
        if self.labels is None:
            return self.query
        return self.query[judged_rows(self.labels[source][self.query])]

    def split(
        self, source: Modality, target: Modality
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """``(query, database, query_y, database_y)``, as metrics take them."""
        asked = self.asked(source)
        codes = self.codes[source][asked], self.codes[target][self.database]
        if self.labels is None:
            return *codes, None, None
        return *codes, self.labels[source][asked], self.labels[target][self.database]

    def curves(self) -> dict[str, LookupCurve]:
        """Precision and recall within each radius, by direction; ``ValueError`` without labels."""
        return {name: pr_curve(*split) for name, split in self._labeled().items()}

    def precisions(self) -> tuple[dict[str, Tensor], list[int]]:
        """Precision at n by direction, and the values of n; ``ValueError`` without labels."""
        topn = [n for n in _TOPN if n <= self.database.numel()]
        splits = self._labeled().items()
        return {name: precision_at_n(*split, topn=topn) for name, split in splits}, topn

    def kind(self, source: Modality, query: int, target: Modality, row: int) -> str | None:
        """What an item is to a query, both by row.

        ``'own'``: its other side; ``'same'``, ``'other'``: it shares a label or not; ``'unknown'``:
        one of the two has no label; None: the data have none.
        """
        if query == row:
            return "own"
        if self.labels is None:
            return None
        own, other = self.labels[source][query], self.labels[target][row]
        if own.dim() == 0:
            return "same" if own == other else "other"
        if not (own.any() and other.any()):
            return "unknown"
        return "same" if (own * other).any() else "other"

    def _labeled(self) -> dict[str, Any]:
        """:meth:`split` of each direction, by its name."""
        if self.labels is None:
            raise ValueError("labels: the data have none, so nothing is right or wrong")
        return {f"{source} to {target}": self.split(source, target) for source, target in _PAIRS}


class Answer(NamedTuple):
    """An item that was found: its row number, how far it is, and what it is to the query."""

    row: int
    distance: int
    score: float
    kind: str | None  #: see :meth:`Results.kind`


class Asked(NamedTuple):
    """A query: its row number, what is said of it, and what it finds, best first."""

    row: int
    note: str
    answers: list[Answer]


class Case(NamedTuple):
    """Queries of one modality and what they find in another."""

    title: str
    source: Modality
    target: Modality
    asked: list[Asked]


def gallery(
    results: Results,
    source: Modality,
    target: Modality,
    queries: Tensor,
    notes: Sequence[str] = (),
    *,
    k: int = 8,
) -> list[Asked]:
    """What some queries (row numbers) find: the ``k`` best, rescored as by default in a search."""
    index = HammingIndex(results.num_bits)
    database = results.database
    relaxed = results.relaxed[target][database]
    kept = relaxed if bool((relaxed.abs() <= 1).all()) else None  # as the run's index does
    index.add(results.codes[target][database], ids=database, relaxed=kept)
    own = results.relaxed[source][queries]
    found = index.search(results.codes[source][queries], min(k, len(index)), rescore=own)
    asked, columns = [], (queries.tolist(), notes or [""] * len(queries), *found)
    for query, note, *near in zip(*columns, strict=True):
        answers = [
            Answer(row, far, score, results.kind(source, query, target, row))
            for far, row, score in zip(*(x.tolist() for x in near), strict=True)
        ]
        asked.append(Asked(query, note, answers))
    return asked


def drawn(rows: Tensor, count: int, seed: int) -> Tensor:
    """At most ``count`` of some row numbers, drawn at random rather than for their looks."""
    generator = torch.Generator().manual_seed(seed)
    return rows[torch.randperm(rows.numel(), generator=generator)[:count]]


def cases(results: Results, count: int, seed: int) -> list[Case]:
    """Queries both ways: at random, of lowest average precision, and farthest from their own."""
    ways, found = ((TEXT, IMAGE), (IMAGE, TEXT)), []
    for way in ways:
        title = "{} to {}".format(*way).capitalize()
        asked = gallery(results, *way, drawn(results.query, count, seed))
        found.append(Case(title, *way, asked))
    for source, target in ways if results.labels is not None else ():
        split: Any = results.split(source, target)
        scores = average_precision(*split)
        low = scores.argsort(stable=True)[:count]
        notes = [f"average precision {scores[place]:.3f}" for place in low]
        asked = gallery(results, source, target, results.asked(source)[low], notes, k=4)
        found.append(Case(f"Lowest average precision, {source} to {target}", source, target, asked))
    for source, target in ways if results.evaluation.pair_recall else ():
        own, others = (results.codes[m][results.query] for m in (source, target))
        nearer, tied = pair_places(own, others)
        far = (own != others).sum(dim=1)
        worst = far.argsort(descending=True, stable=True)[:count]
        notes = [
            f"its own {target}: distance {far[place]}, {nearer[place]:,} of the other "
            f"{len(far) - 1:,} queries' {target}s are nearer, {tied[place] - 1:,} as near"
            for place in worst
        ]
        asked = gallery(results, source, target, results.query[worst], notes, k=4)
        found.append(Case(f"Farthest from its own {target}", source, target, asked))
    return found


def thumbnail(path: PathLike) -> str | None:
    """A small square JPEG of a picture as a ``data:`` address, or None if it cannot be read."""
    try:
        content = square_jpeg(path, _PIXELS, _QUALITY)
    except UnreadableImageError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


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
    packages = {"matplotlib": "matplotlib", "sklearn": "scikit-learn", "PIL": "pillow"}
    for module, package in {**packages, "jinja2": "jinja2"}.items():
        require(module, package, extra="report")  # found out now, not after the work
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
    rows = drawn(torch.arange(len(results)), points, seed).sort().values
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
    rows: list[tuple[Run, dict[str, Any], Evaluation, int]] = []
    data: list[tuple[Run, Any]] = []  # different ones, and the first run of each
    notes = []
    for run in runs:
        stored = run.metrics()
        if "query" not in stored:
            told = f"has no evaluation; make it with: pyg-hash evaluate {run.path}"
            raise IncompleteRunError(f"run: {run.path} {told}")
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
    shown = {"notes": notes, "rows": rows, "settings": settings, "several": len(data) > 1}
    return render("compare.html", title=f"{len(rows)} runs", **shown)


def _other_data(stored: Any, now: Any) -> list[str]:
    """How the features, labels, queries or database of two runs differ, a line each."""
    if stored is None or now is None:
        return ["one of the two does not say"]
    return [line for line in differences(stored, now) if not line.startswith(_OF_TRAINING)]


def render(template: str, **values: Any) -> str:
    """A page, from a template in this folder."""
    jinja = require("jinja2", "jinja2", extra="report")
    loader = jinja.PackageLoader("pyg_hash.report", "")
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
    path: PathLike,
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
