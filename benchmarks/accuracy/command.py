"""Run a table of a paper and write it down.

    python -m benchmarks.accuracy mcgcn-table1 --wikipedia ROOT --jobs 2
    python -m benchmarks.accuracy overview --wikipedia ROOT --emoji ROOT --coco DIR --seeds 0 1 2
    python -m benchmarks.accuracy overview --render

Every finished cell (data, method, bits, label rate, seed, protocol) is one line in
``results/accuracy/TABLE.jsonl``; a cell that is there with the same settings and data is not run
again (``--force`` does), whichever table it was run for. ``TABLE.md`` and ``TABLE.png`` are made of
the lines. Of the data sets of a table those are run whose place is given; what the others need is
said. Several commands may work on the same table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.accuracy import page
from benchmarks.accuracy.cell import Worths
from benchmarks.accuracy.data import SOURCES, Content, content, missing, where
from benchmarks.accuracy.figures import draw_table
from benchmarks.accuracy.methods import METHODS, ORDER
from benchmarks.accuracy.pool import run_all
from benchmarks.accuracy.store import Standard, Store, is_current, stamp
from benchmarks.accuracy.table import CROSS, Cell, Table
from benchmarks.accuracy.tables import TABLES
from benchmarks.accuracy.tables import short as shortened

ROOT = Path(__file__).resolve().parents[2]
RESULTS = {False: ROOT / "benchmarks/results/accuracy", True: ROOT / "build/accuracy"}
SHORT = {"epochs": 2}


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        table = chosen(args)
    except ValueError as error:
        parser.error(str(error))
    roots = {option: getattr(args, option.replace("-", "_")) for option in _options()}
    store = Store(args.out or RESULTS[args.short], table.name)
    failed: list[str] = []
    if not args.render:
        places = where(table.data, roots)
        absent = tuple(name for name in table.data if name not in places)
        if absent:
            print(f"{table.name} has more data, which need:\n{missing(absent)}", file=sys.stderr)
        if not places:
            parser.error(f"{table.name}: there are no data; give the place of some (see above)")
        try:
            contents = {name: content(SOURCES[name].load(spot)) for name, spot in places.items()}
        except (OSError, ValueError) as error:
            parser.error(f"{table.name}: {error}")
        table = replace(table, data=tuple(places))
        failed = run(
            table, places, contents, store, jobs=args.jobs, force=args.force, short=args.short
        )
    print(write(TABLES[table.name], store, short=args.short))
    if failed:
        parser.exit(1, "not finished:\n" + "\n".join(failed) + "\n")


def chosen(args: argparse.Namespace) -> Table:
    """The table with what the command line changes.

    Raises:
        ValueError: an unknown method.
    """
    table = TABLES[args.table]
    changes = {"seeds": args.seeds, "bits": args.bits, "data": args.data, "rates": args.rates}
    changes |= {"protocols": args.protocols, "methods": args.methods}
    for name, value in changes.items():
        if value is not None:
            table = replace(table, **{name: tuple(value)})
    for name in table.methods:
        if name not in METHODS:
            raise ValueError(f"--methods: {name!r} is not known; use some of {sorted(METHODS)}")
    return shortened(table) if args.short else table


def run(
    table: Table,
    places: Mapping[str, str],
    contents: Mapping[str, Content],
    store: Store,
    *,
    jobs: int = 1,
    force: bool = False,
    short: bool = False,
) -> list[str]:
    """Run the cells that are not there; returns what went wrong, one text a cell."""
    for name, found in contents.items():
        print(f"{name}: {found.about}", flush=True)
    standard = Standard(table.extras, contents, SHORT if short else {})
    cells = list(table.cells())
    todo = cells if force else standard.left(cells, store)
    print(f"{table.name}: {len(cells)} cells, {len(todo)} to run", flush=True)

    def is_wanted(cell: Cell) -> bool:
        """Another command, or another row with these settings, may have run it meanwhile."""
        return force or bool(standard.left([cell], store))

    def worths(cell: Cell) -> Worths | None:
        """A choice is made once, not once a seed."""
        return None if force else standard.worths(cell, store)

    failed = []
    done = run_all(
        todo,
        table.extras,
        places,
        jobs=jobs,
        changes=standard.changes,
        wanted=is_wanted,
        worths=worths,
    )
    for number, (cell, line, problem) in enumerate(done, 1):
        if line is None:
            failed.append(f"{cell}: {problem}")
            print(f"{cell}: {problem.splitlines()[0]}", flush=True)
            continue
        store.append(line | {"table": table.name} | stamp())
        values = "  ".join(f"{task} {line['scores'][table.metric][task]:.3f}" for task in CROSS)
        seconds = sum(line["seconds"].values())
        print(f"[{number}/{len(todo)}] {cell}  {values}  {seconds:.0f} s", flush=True)
    return failed


def write(table: Table, store: Store, *, short: bool = False) -> Path:
    """Tidy the lines and make page and picture of them; returns the page's path.

    Cells under other settings than today's are left out, and counted.
    """
    if store.path.exists():
        store.tidy()
    lines = list(store.read().values())
    current = [line for line in lines if is_current(line, SHORT if short else {})]
    path = store.path.with_suffix(".md")
    page.write(table, current, path, stale=len(lines) - len(current), short=short)
    draw_table(table, current, path.with_suffix(".png"))
    return path


def _options() -> list[str]:
    return list(dict.fromkeys(s.option for s in SOURCES.values() if s.option is not None))


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        epilog="\n".join(f"{name:20s} {table.title}" for name, table in TABLES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", choices=list(TABLES), metavar="TABLE", help="see below")
    for option in _options():
        names = [name for name, source in SOURCES.items() if source.option == option]
        parser.add_argument(f"--{option}", metavar="PLACE", help=f"where {', '.join(names)} lies")
    parser.add_argument("--data", nargs="+", choices=list(SOURCES), metavar="NAME")
    parser.add_argument(
        "--methods", nargs="+", metavar="ROW", help="rows, e.g. GCH 'MCGCN, paper terms'"
    )
    parser.add_argument("--bits", type=int, nargs="+")
    parser.add_argument("--rates", type=float, nargs="+", help="label rates, e.g. 0.3 1")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--protocols", nargs="+", choices=ORDER)
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--force", action="store_true", help="run finished cells again")
    parser.add_argument("--short", action="store_true", help="one tiny cell of each, to see it run")
    parser.add_argument("--render", action="store_true", help="only make page and picture again")
    parser.add_argument("--out", type=Path, help="folder of the results")
    return parser
