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

from dataclasses import replace
from pathlib import Path

from benchmarks.accuracy.cell import run_all
from benchmarks.accuracy.data import SOURCES, add_options, content, given
from benchmarks.accuracy.figures import draw_table
from benchmarks.accuracy.measures import RECALL
from benchmarks.accuracy.methods import METHODS, ORDER
from benchmarks.accuracy.page import page
from benchmarks.accuracy.store import RESULTS, Standard, Store, current, stamp
from benchmarks.accuracy.tables import CROSS, TABLES, short
from benchmarks.measure import ROOT, command_line
from benchmarks.record import write_text

SHORT = {"epochs": 2}


def main(arguments=None):
    parser = _parser()
    args = parser.parse_args(arguments)
    table = chosen(args)
    store = Store(args.out or (ROOT / "build/accuracy" if args.short else RESULTS), table.name)
    failed, places = [], {} if args.render else given(parser, table.data, args)
    if places:
        try:
            contents = {name: content(SOURCES[name].load(spot)) for name, spot in places.items()}
        except (OSError, ValueError) as error:
            parser.error(f"{table.name}: {error}")
        failed = run(replace(table, data=tuple(places)), places, contents, store, args)
    print(write(TABLES[table.name], store, short=args.short))
    if failed:
        parser.exit(1, "not finished:\n" + "\n".join(failed) + "\n")


def chosen(args):
    names = ("seeds", "bits", "data", "rates", "protocols", "methods")
    asked = {name: tuple(value) for name in names if (value := getattr(args, name)) is not None}
    table = replace(TABLES[args.table], **asked)
    return short(table) if args.short else table


def run(table, places, contents, store, args):
    """Run the cells that are not there; returns what went wrong, one text a cell."""
    for name, found in contents.items():
        print(f"{name}: {found.about}", flush=True)
    standard = Standard(table.extras, contents, SHORT if args.short else {})
    cells = list(table.cells())
    todo = cells if args.force else standard.left(cells, store)
    print(f"{table.name}: {len(cells)} cells, {len(todo)} to run", flush=True)

    failed, how = [], {"jobs": args.jobs, "changes": standard.changes}
    if not args.force:
        # another command, or another row with these settings, may have run it meanwhile
        how["wanted"] = lambda cell: bool(standard.left([cell], store))
        # a choice is made once, not once a seed
        how["worths"] = lambda cell: standard.worths(cell, store.all_lines())
    done = run_all(todo, table.extras, places, **how)
    for number, (cell, line, problem) in enumerate(done, 1):
        if line is None:
            failed.append(f"{cell}: {problem}")
            print(failed[-1].splitlines()[0], flush=True)
            continue
        store.append(line | {"table": table.name} | stamp())
        scores, seconds = line["scores"], sum(line["seconds"].values())
        values = [f"{task} {scores[table.metric][task]:.3f}" for task in CROSS]
        values += [f"{RECALL} t2i {scores[RECALL]['t2i']:.3f}", f"{seconds:.0f} s"]
        print(f"[{number}/{len(todo)}] {cell}", *values, sep="  ", flush=True)
    return failed


def write(table, store, *, short=False):
    """Tidy the lines and make page and picture of those that count; returns the page's path."""
    if store.path.exists():
        store.tidy()
    lines = list(store.read().values())
    found = current(lines, SHORT if short else {})
    path = store.path.with_suffix(".md")
    write_text(path, page(table, found, stale=len(lines) - len(found), short=short))
    draw_table(table, found, path.with_suffix(".png"))
    return path


def _parser():
    tables = "\n".join(f"{name:20s} {table.title}" for name, table in TABLES.items())
    name = "python -m benchmarks.accuracy"
    parser = command_line(prog=name, description=__doc__, epilog=tables)
    add = parser.add_argument
    add("table", choices=list(TABLES), metavar="TABLE", help="see below")
    add_options(parser, SOURCES)
    add("--data", nargs="+", choices=list(SOURCES), metavar="NAME")
    add("--methods", nargs="+", choices=list(METHODS), metavar="ROW", help="e.g. GCH 'SGCH v1'")
    add("--bits", type=int, nargs="+")
    add("--rates", type=float, nargs="+", help="label rates, e.g. 0.3 1")
    add("--seeds", type=int, nargs="+")
    add("--protocols", nargs="+", choices=ORDER)
    add("--jobs", type=int, default=1, help="processes of one thread each")
    add("--force", action="store_true", help="run finished cells again")
    add("--short", action="store_true", help="one tiny cell of each, to see it run")
    add("--render", action="store_true", help="only make page and picture again")
    add("--out", type=Path, help="folder of the results")
    return parser


if __name__ == "__main__":
    main()
