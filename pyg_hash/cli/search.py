"""``pyg-hash search``: the nearest items of a run to new texts, pictures or feature vectors."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.encode import messages
from pyg_hash.cli.options import UsageError
from pyg_hash.cli.queries import Coder, NewItems, feature_rows
from pyg_hash.cli.queries import load_model as load_model
from pyg_hash.runs import Run, RunItems
from pyg_hash.typing import IMAGE, MODALITIES, TEXT, Modality, other

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
    parser.add_argument("run", type=str, help="a run folder")
    for name, text in (
        ("text", "search with these words"),
        ("image", "search with this picture"),
        ("features", "search with feature vectors: HDF5 (image or text) or NPY, one query a row"),
        ("source", "what the rows of --features are: image or text"),
        ("modality", "which codes to search, image or text (default: not those of the query)"),
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
    queries = _queries(args)
    source = queries.modality
    target: Modality = args.modality or other(source)
    folder = Run.open(args.run, need=("config", "model", "items", f"index_{target}"))
    own = args.image_encoder if source == IMAGE else args.text_encoder
    if args.image is not None and not Path(args.image).is_file():
        raise FileNotFoundError(f"image: {args.image}: no such file")
    coder = Coder(folder, source, raw=args.features is None, own=own)
    if args.features is None:
        answers, latency = search(folder, coder, queries.values, target, args.k)
        coder.note_unknown_words(queries.values if source == TEXT else [])
        shown: Any = answers[0]
        text = table(answers[0])
    else:
        found = coder.each(queries)  # a bad row does not end the others
        for line in messages(queries, found):
            print(f"pyg-hash: skipped: {line}", file=sys.stderr)
        if not found.kept:
            raise ValueError(f"features: no row of {args.features} can be encoded")
        answers, latency = search(folder, coder, queries.values[found.kept], target, args.k)
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


def search(
    folder: Run, coder: Coder, values: Any, target: Modality, k: int
) -> tuple[list[list[dict[str, Any]]], Latency]:
    """The ``k`` items of a run whose ``target`` codes are nearest to each new item.

    Args:
        folder: the run.
        coder: of the new items.
        values: raw items or feature rows.
        target: which codes are searched.
        k: answers to each.

    Returns:
        the answers, and the time of the first item alone, the smaller of two turns unless the
        first one is slow: what is loaded on the first use does not count.
    """
    items = folder.items()
    index = folder.index(target)
    k = min(k, len(index))
    distances, ids = index.search(coder(values), k)
    answers = [
        [describe(items, row, distance) for distance, row in zip(*pair, strict=True)]
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
    rows = [("distance", "name", "label", "id", "path")]
    for answer in answers:
        name = " ".join(answer["name"].split())
        if len(name) > _NAME_WIDTH:
            name = name[: _NAME_WIDTH - 1] + "…"
        label = ", ".join(answer["labels"])
        path = short_path(answer["path"]) if answer["path"] else "-"
        rows.append((str(answer["distance"]), name, label, answer["id"], path))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i == 0 else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
