"""``pyg-hash search``: the items of a run or a store nearest to a text, a picture or features."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.encode import messages
from pyg_hash.cli.options import UsageError, add_run
from pyg_hash.cli.queries import Coder, NewItems, feature_rows, load_model
from pyg_hash.runs import Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, other

if TYPE_CHECKING:
    from pyg_hash.index import HammingIndex
    from pyg_hash.stores import CodeStore

_NAME_WIDTH = 48
_AGAIN = 1.0  # seconds; a query that took longer is not timed a second time


class Latency(NamedTuple):
    """Where the time of one query went, in seconds; model and index are loaded already."""

    features: float
    code: float
    search: float

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {1e3 * s:.1f}" for name, s in self._asdict().items())
        return f"one query: {1e3 * sum(self):.1f} ms ({parts})"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash search``."""
    add_run(parser)
    for name, text in (
        ("text", "search with these words"),
        ("image", "search with this picture"),
        ("features", "search with feature vectors: HDF5 (image or text) or NPY, one query a row"),
        ("source", "what the rows of --features are: image or text"),
        ("modality", "which codes to search, image or text (default: not those of the query)"),
        ("store", "search there instead of in the run: what encode --out wrote, or one of yours"),
        ("image_encoder", "your own encoder of pictures, MODULE:FUNCTION"),
        ("text_encoder", "your own encoder of texts, MODULE:FUNCTION"),
    ):
        parser.add_argument(f"--{name}", type=str | None, default=None, help=text)
    parser.add_argument("-k", "--k", type=int, default=10, help="number of answers")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> int:
    """Search and print the answers."""
    given = [name for name in ("text", "image", "features") if args[name] is not None]
    if len(given) != 1:
        raise UsageError("query: give either --text WORDS or --image FILE or --features FILE")
    if args.modality not in (None, *MODALITIES):
        raise UsageError(f"modality: {args.modality!r} is not known; use image or text")
    if args.k < 1:
        raise UsageError(f"k: expected a positive integer, got {args.k}")
    if args.source is not None and args.features is None:
        raise UsageError("source: says what --features holds; give that too")
    if args.modality is not None and args.store is not None:
        raise UsageError("modality: says which codes of the run; a store has only its own")
    queries = _queries(args)
    source = queries.modality
    target: Modality = args.modality or other(source)
    database = () if args.store is not None else ("items", f"index_{target}")
    folder = Run.open(args.run, need=("config", "model", *database))
    own = args.image_encoder if source == IMAGE else args.text_encoder
    if args.image is not None and not Path(args.image).is_file():
        raise FileNotFoundError(f"image: {args.image}: no such file")
    model = load_model(folder, args.model)
    coder = Coder(folder, source, raw=args.features is None, own=own, model=model)
    there: Database
    if args.store is None:
        there = of_run(folder, target)
    else:
        there = of_store(args.store, coder.model.num_bits)
    if args.features is None:
        answers, latency = search(coder, queries.values, there, args.k)
        coder.note_unknown_words(queries.values if source == TEXT else [])
        shown: Any = answers[0]
        text = table(answers[0])
    else:
        found = coder.each(queries)  # a bad row does not end the others
        for line in messages(queries, found):
            print(f"pyg-hash: skipped: {line}", file=sys.stderr)
        if not found.kept:
            raise ValueError(f"features: no row of {args.features} can be encoded")
        answers, latency = search(coder, queries.values[found.kept], there, args.k)
        ids = [queries.ids[row] for row in found.kept]
        pairs = list(zip(ids, answers, strict=True))
        shown = [{"query": name, "answers": best} for name, best in pairs]
        text = "\n\n".join(f"query {name}\n{table(best)}" for name, best in pairs)
    print(json.dumps(shown, indent=2, ensure_ascii=False) if args.json else text)
    print(f"pyg-hash: {latency}", file=sys.stderr)  # the standard output is the answer alone
    return 0


def _queries(args: Namespace) -> NewItems:
    """What the command line asks for."""
    if args.features is not None:
        both = feature_rows(args.features, args.source)
        if len(both) > 1:
            raise UsageError(
                f"source: {args.features} holds pictures and texts; give --source image|text"
            )
        return both[0]
    if args.text is not None:
        if not args.text.strip():
            raise UsageError("text: is empty; give words to search with")
        return NewItems(TEXT, [args.text], [args.text], ["text"])
    return NewItems(IMAGE, [args.image], [args.image], ["image"])


class Database(NamedTuple):
    """Codes that are searched, and what is told about an item: ``describe(id, distance)``."""

    codes: HammingIndex | CodeStore
    describe: Callable[[Any, int], dict[str, Any]]


def of_run(folder: Run, target: Modality) -> Database:
    """The database items of a run by their ``target`` codes."""
    items = folder.items()
    return Database(folder.index(target), lambda row, distance: describe(items, row, distance))


def of_store(address: str, num_bits: int) -> Database:
    """A store, which knows no more than ids.

    Raises:
        ValueError: it is empty, or its codes have another length.
    """
    from pyg_hash.cli.stores import open_store

    store = open_store(address, num_bits)
    if len(store) == 0:
        raise ValueError(f"store: {address} is empty; put codes into it with encode --out")
    return Database(store, lambda name, distance: {"distance": distance, "id": str(name)})


def search(
    coder: Coder, values: Any, database: Database, k: int
) -> tuple[list[list[dict[str, Any]]], Latency]:
    """The ``k`` items nearest to each new item.

    Args:
        coder: of the new items.
        values: raw items or feature rows.
        database: where to search.
        k: answers to each.

    Returns:
        the answers, and the time of the first item alone, the smaller of two turns unless the
        first one is slow: what is loaded on the first use does not count.
    """
    index = database.codes
    k = min(k, len(index))
    distances, ids = index.search(coder(values), k)
    answers = [  # a store with an approximate index may find less than k: distance -1
        [database.describe(row, far) for far, row in zip(*pair, strict=True) if far >= 0]
        for pair in zip(distances.tolist(), ids.tolist(), strict=True)
    ]

    def once() -> Latency:
        times = [time.perf_counter()]
        x = coder.features(values[:1])
        times.append(time.perf_counter())
        codes = coder.code(x)
        times.append(time.perf_counter())
        index.search(codes, k)
        times.append(time.perf_counter())
        return Latency(*(b - a for a, b in zip(times[:-1], times[1:], strict=True)))

    latency = once()
    return answers, min(latency, once(), key=sum) if sum(latency) < _AGAIN else latency


def describe(items: RunItems, row: int, distance: int) -> dict[str, Any]:
    """One answer as plain values."""
    return {
        "distance": int(distance),
        "name": items.texts[row] or items.ids[row],
        "id": items.ids[row],
        "labels": items.labels[row],
        "path": items.image_paths[row],
    }


def short_path(path: str) -> str:
    """``path`` as seen from the working folder, if it lies in there."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def table(answers: list[dict[str, Any]]) -> str:
    """Answers as aligned text."""
    rows = [_cells(answer) for answer in answers]
    columns = {name: [name, *(row[name] for row in rows)] for name in rows[0]}
    widths = {name: max(map(len, column)) for name, column in columns.items()}
    return "\n".join(
        "  ".join(
            cell.rjust(widths[name]) if name == "distance" else cell.ljust(widths[name])
            for name, cell in zip(columns, line, strict=True)
        ).rstrip()
        for line in zip(*columns.values(), strict=True)
    )


def _cells(answer: dict[str, Any]) -> dict[str, str]:
    """One answer by column; of a store there is no more than the id."""
    cells = {"distance": str(answer["distance"])}
    if "name" not in answer:
        return cells | {"id": short_path(" ".join(answer["id"].split()))}
    name = " ".join(answer["name"].split())
    if len(name) > _NAME_WIDTH:
        name = name[: _NAME_WIDTH - 1] + "…"
    path = short_path(answer["path"]) if answer["path"] else "-"
    label = ", ".join(answer["labels"])
    return cells | {"name": name, "label": label, "id": answer["id"], "path": path}
