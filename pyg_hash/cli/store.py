"""``pyg-hash store``: list, delete and change the items of a store."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from pyg_hash.cli import build
from pyg_hash.cli.options import DeleteItems, ListItems, UpdateItems, UsageError
from pyg_hash.cli.output import cell, printed, say
from pyg_hash.index import CodeStore
from pyg_hash.index.columns import field_value
from pyg_hash.runs import CATALOG, Run
from pyg_hash.serve import SearchEngine
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.files import check_file, json_text
from pyg_hash.utils.locks import Lock

_LONGEST = 1 << 26  # letters of a line: a file of holes is one without end
_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_WORDS = {bool: "true or false", int: "an integer", float: "a number"}


def list_items(asked: ListItems) -> None:
    """Print items, and how many there are."""
    if asked.start < 0 or asked.limit < 0:
        raise UsageError("start, limit: expected 0 or more")
    if (run := run_at(asked.store)) is None:
        stores = {"": build.opened(asked.store)}
    else:
        Run.open(run.path, need=("config",))
        stores = {f" ({modality})": run.catalog(modality) for modality in MODALITIES}
    with ExitStack() as opened:
        for store in stores.values():
            opened.enter_context(store)
        where, end = (asked.where or "").strip() or None, asked.start + asked.limit
        # of what only the second has, so many are among its first
        found = chain(*(store.list(where, 0, end).tolist() for store in stores.values()))
        items: dict[Any, Any] = dict.fromkeys([*dict.fromkeys(found)][asked.start : end])
        for store in stores.values():
            ids = [name for name, here in zip(items, store.contains([*items]), strict=True) if here]
            columns = {"id": ids, **store.metadata(ids)}
            items |= zip(ids, zip(*columns.values(), strict=True), strict=True)
        rows = [row for row in items.values() if row]
        of = "" if where is None else "of those that pass the filter, "
        every = " and ".join(f"{len(store):,} items{kind}" for kind, store in stores.items())
        said = f"{len(rows):,} {of}of {every}"
    if not asked.json:
        print(printed([*columns], [[*map(cell, row)] for row in rows]), said, sep="\n")
        return
    for row in rows:
        print(json_text(dict(zip(columns, row, strict=True)), ensure_ascii=False))
    say(said)  # not among the objects


def delete_items(asked: DeleteItems) -> None:
    """Delete items, of a run in both stores."""
    if (asked.ids is None) == (asked.where is None):
        raise UsageError("items: give either --ids FILE or --where FILTER")
    with to_change(asked.store, "delete") as (stores, engine):
        if asked.ids is None:
            names = [*chain(*(store.list(asked.where, limit=None).tolist() for store in stores))]
        else:
            lines = enumerate(lines_of(asked.ids), 1)
            id_type = stores[0].id_type
            names = [read_as(id_type, line, f"ids: {asked.ids}:{n}") for n, line in lines]
        names, kinds = [*dict.fromkeys(names)], [""]
        # counted first: meanwhile others may add to a run
        counts = [(sum(store.contains(names)), len(store)) for store in stores]
        if engine is None:
            stores[0].remove(names)
            stores[0].save()
        else:
            kinds = [f"{modality}: " for modality in engine.indexes]
            engine.remove(names)
        for kind, (gone, count) in zip(kinds, counts, strict=True):
            print(f"{kind}{gone:,} of {count:,} items deleted")


def update_items(asked: UpdateItems) -> None:
    """Change fields of items, of a run in both stores."""
    with to_change(asked.store, "update") as ((store, *_), engine):
        given = list(rows_of(asked.metadata, store))
        if engine is not None:
            new = {row.pop("id"): row for row in given}
            if len(new) < len(given):
                raise ValueError(f"metadata: {asked.metadata}: an id is given twice")
            engine.update(new)
            print(f"{len(new):,} items changed, in each store that has them")
            return
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in given:
            groups.setdefault(tuple(row), []).append(row)
        for names, rows in groups.items():
            columns = {name: [row[name] for row in rows] for name in names}
            store.update(columns.pop("id"), columns)
        store.save()
        print(f"{len(given):,} of {len(store):,} items changed")


def run_at(address: str) -> Run | None:
    """The built run at an address, which may be that of its catalogue."""
    path = Path(address)
    run = Run(path.parent if path.name == CATALOG else path)
    return run if run.has_catalog else None


def run_around(store: str) -> Run | None:
    """The built run whose catalogue has the store at an address."""
    folder = Path(store).resolve().parent
    return run_at(str(folder)) if folder.name == CATALOG else None


@contextmanager
def to_change(address: str, what: str) -> Iterator[tuple[list[CodeStore], SearchEngine | None]]:
    """The store at an address; or a run's two, and the engine that changes them alike."""
    if (run := run_at(address)) is None:
        if both := run_around(address):
            say(f"note: the other store stays; to change both: pyg-hash store {what} {both.path}")
        with alone(address), build.opened(address) as store:
            yield [store], None
        return
    model = build.load_model(Run.open(run.path, need=("config", "model")))
    stores = {m: run.catalog(m) for m in MODALITIES}
    engine = SearchEngine(model, stores, {}, force=True)  # no code is made or searched
    try:
        engine.recover()
        yield [*engine.indexes.values()], engine
    finally:
        for store in engine.indexes.values():
            store.close()


@contextmanager
def alone(address: str) -> Iterator[None]:
    """While one store of a catalogue is changed, nobody changes both.

    What a killed process left half done of a change of both is taken back first.
    """
    if (run := run_around(address)) is None:
        yield
        return
    before = Path(f"{run.catalog_file(IMAGE)}.before")
    if before.is_file():
        with to_change(str(run.path), ""):
            pass
    with Lock(before.with_name(f".{before.name}.lock"), f"store: {before.parent}", 5.0):
        yield


def lines_of(path: str) -> list[str]:
    """The ids in a text file, or a pipe: other things may have no end."""
    given = Path(path)
    if not given.is_fifo():
        check_file(path, "ids", remedy="; give a text file that has an id a line")
    try:
        return given.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        told = f"ids: {path} is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8"
        raise ValueError(told) from error


def rows_of(path: str, store: CodeStore) -> Iterator[dict[str, Any]]:
    """Rows of a table of fields: ``id`` first, then fields of the store in their types."""
    from pyg_hash.datasets.sources import delimiter

    ending = Path(path).suffix.lower()
    if ending not in (".csv", ".jsonl"):
        raise UsageError(f"metadata: {path} ends with {ending!r}; use FILE.csv or FILE.jsonl")
    check_file(path, "metadata")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader: Any = None
        line, codes, tell = 1, {"code", "relaxed"} - {*store.fields}, cache(say)
        try:
            if ending == ".csv":
                head = next(_lines(file), "")
                mark = "," if head.startswith("id,") else delimiter(head)
                file.seek(0)
                reader = csv.DictReader(_lines(file), restkey="", strict=True, delimiter=mark)
            for line, row in enumerate(reader or _lines(file), 1):
                if ending == ".csv":  # of several lines, the first
                    line = reader.line_num - sum(str(x).count("\n") for x in row.values())
                elif row.strip():
                    row = json.loads(row)
                else:
                    continue
                if not isinstance(row, dict) or row.get("id") is None:
                    raise ValueError("there is no id")
                for name in codes & {*row}:  # of a file that export wrote
                    del row[name]
                    tell(f"note: {path}: the column {name} is not read; update changes fields")
                unknown = sorted(set(row) - {"id", *store.fields})
                if unknown:
                    known = ", ".join(store.fields) or "no fields"
                    raise ValueError(f"{unknown[0]!r} is not known; the store keeps {known}")
                name, found = row.pop("id"), row
                if ending == ".csv":
                    name = read_as(store.id_type, name, "id")
                    found = {key: parsed(key, text, store.fields[key]) for key, text in row.items()}
                yield {"id": name, **found}
        except UnicodeDecodeError as error:
            text = Path(path).read_bytes().decode(errors="surrogateescape")
            line = re.split("[\udc80-\udcff]", text, maxsplit=1)[0].count("\n") + 1
            byte = f"byte 0x{error.object[error.start]:02x}"
            told = f"metadata: {path}: line {line} is not in utf-8 ({byte}); save it as UTF-8"
            raise ValueError(told) from error
        except (ValueError, csv.Error) as error:
            line = reader.reader.line_num if reader and isinstance(error, csv.Error) else line
            raise ValueError(f"metadata: {path}, line {line}: {error}") from error


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file; ``ValueError``: one is too long."""
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST and not line.endswith("\n"):
            raise ValueError(
                f"from here on a line has over {_LONGEST:,} letters; give a table of shorter ones"
            )
        yield line


def parsed(name: str, text: str | None, kind: type) -> Any:
    """A cell of CSV as a value of a field; ``ValueError`` for none."""
    if not (text and text.strip()):
        return None
    if kind is list:
        try:
            return field_value(json.loads(text), list, name)  # as export writes it
        except (TypeError, ValueError, RecursionError):
            return [part.strip() for part in text.split(";")]
    return read_as(kind, text, name)


def read_as(kind: type, text: str, name: str) -> Any:
    """A text as a value of a kind; ``ValueError``, with its name, for none."""
    try:
        return _BOOLS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}: expected {_WORDS[kind]}, got {text!r}") from error
