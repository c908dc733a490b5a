"""What every number of a page is, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.accuracy.data import SOURCES
from benchmarks.accuracy.methods import METHODS
from benchmarks.accuracy.provenance import short
from benchmarks.accuracy.store import Line
from benchmarks.accuracy.table import Table

PROTOCOLS = (
    "*inductive*: only training items are anybody's neighbours; *strict*: all items are, but no "
    "code of a query depends on its other modality; *transductive* (the papers'): it may. Methods "
    "whose codes need no graph are inductive"
)
METRICS = {
    "all": "mAP@all, expected ties",
    "500 hits": "MAP@R=500, expected ties, divided by the relevant items among the first 500",
}


def command(table: Table) -> str:
    """How to run a table."""
    options = dict.fromkeys(SOURCES[name].option for name in table.data)
    places = " ".join(f"--{option} PLACE" for option in options if option is not None)
    return f"python -m benchmarks.accuracy {table.name} {places} --jobs 2"


def about(table: Table, lines: Sequence[Line], stale: int) -> str:
    """A list of facts."""
    facts = [f"command: `{command(table)}`"]
    if not lines:
        return "- " + "\n- ".join([*facts, "not run yet"])
    seeds = sorted({line["seed"] for line in lines})
    facts += [
        f"metric: {METRICS[table.metric]}; mean ± standard deviation over the seeds; others are "
        f"in `{table.name}.jsonl`",
        f"seeds (labelled items, parameters, training): {_ranges(seeds)}; *(n)*: only n of them",
        f"protocols: {PROTOCOLS}",
    ]
    for data in sorted({line["data"] for line in lines}):
        of = [line for line in lines if line["data"] == data]
        marks = [_several(line[key] for line in of) for key in ("data_sha256", "split_sha256")]
        facts.append(f"{SOURCES[data].title}: {_several(line['data_about'] for line in of)}")
        facts[-1] += f" (data {marks[0]}, split {marks[1]})"
    facts.append("features: `ScaleFeatures()`, fitted on the training items, for all methods")
    facts += _trainings(lines)
    hours = sum(sum(line["seconds"].values()) for line in lines) / 3600
    facts.append(
        f"cost: {len(lines):,} cells, {hours:.1f} CPU hours; *seconds*: CPU seconds of a cell"
    )
    facts.append(f"commit: {_several(short(line['commit']) for line in lines)}")
    facts.append(f"versions: {_several(_versions(line) for line in lines)}")
    if stale:
        facts.append(f"{stale} stored cells under other settings are left out")
    return "- " + "\n- ".join(facts)


def _trainings(lines: Sequence[Line]) -> list[str]:
    """How the rows are trained; rows that are trained alike stand together."""
    rows: dict[str, list[str]] = {}
    for name, line in {line["method"]: line for line in lines}.items():
        training = line["settings"].get("training")
        if training and METHODS[name].choices:
            rows.setdefault("as held-out labels chose, see below", []).append(name)
        elif training:
            text = ", ".join(f"{what} {value}" for what, value in training.items())
            rows.setdefault(text, []).append(name)
    return [f"training of {'; '.join(sorted(names))}: {text}" for text, names in rows.items()]


def _versions(line: Line) -> str:
    return ", ".join(f"{name} {version}" for name, version in line["versions"].items())


def _several(texts: Iterable[str]) -> str:
    """The different ones; most often it is one."""
    return "; ".join(sorted(set(texts)))


def _ranges(numbers: Sequence[int]) -> str:
    """``0-9`` for consecutive numbers."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(map(str, numbers))
