"""All methods on the same features, with and without labels, and their ablations.

    python benchmarks/methods.py --emoji ROOT --wikipedia ROOT --coco DIR
    python benchmarks/methods.py --coco DIR --only supervised --methods GCH "class codes"
    python benchmarks/methods.py --render

``--emoji`` and ``--wikipedia`` name the data sets' roots (Wikipedia: its files in ROOT/raw, with
``image128`` and LSA-200 texts), ``--coco`` a folder with the files of ``coco.py``; a set without
an argument is left out. Every finished cell (data set, label rate, method, seed) goes to
``results/methods.json`` at once, and ``results/methods.md`` is made of it. A cell that is there
with the same settings is not run again (``--force`` does); change settings in ``suite.py``. One
whose loss is not finite is named at the end. Several processes may work on the same results.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from cells import TASKS, Results, key, run
from coco import load_coco
from report import markdown
from suite import Job, jobs
from torch_geometric.data import HeteroData

from pyg_hash import __version__
from pyg_hash.datasets import Emoji, Wikipedia
from pyg_hash.io import atomic_path

PARTS = ("supervised", "unsupervised", "ablations")
COMMAND = "python benchmarks/methods.py --emoji ROOT --wikipedia ROOT --coco DIR"
LOADERS: dict[str, Callable[[str], HeteroData]] = {
    "Wikipedia": lambda root: Wikipedia(root, image="image128", text="lsa200")[0],
    "Emoji": lambda root: Emoji(root)[0],
    "COCO": load_coco,
}


def about() -> dict[str, Any]:
    """What a run says of itself."""
    return {
        "command": COMMAND,
        "versions": {
            "pyg_hash": __version__,
            "torch": torch.__version__,
            "torch_geometric": torch_geometric.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
    }


def size(name: str, data: HeteroData) -> dict[str, str]:
    """One line on a data set's features and splits."""
    store = data["image"]
    counts = {p: int(store[f"{p}_mask"].sum()) for p in ("train", "query", "database")}
    listed = ", ".join(f"{count} {part}" for part, count in counts.items())
    widths = " and ".join(f"{data[m].x.size(1)}-d {m}s" for m in ("image", "text"))
    return {f"{name}": f"{listed}; {widths}; {data.num_classes} classes"}


def sweep(
    name: str, raw: HeteroData, todo: list[Job], seeds: list[int], results: Results, *, force: bool
) -> list[str]:
    """Run the cells of one data set that are not there yet; returns those that diverged."""
    diverged = []
    skipped = 0
    for job in todo:
        for seed in seeds:
            cell_name = key(name, job, seed)
            if not force and results.has(cell_name, job.method.described()):
                skipped += 1
                continue
            try:
                cell = run(name, raw, job, seed)
            except FloatingPointError as error:
                print(f"{cell_name}  {error}", flush=True)
                diverged.append(cell_name)
                continue
            results.add(cell_name, cell, about() | size(name, raw))
            values = "  ".join(f"{task} {cell[task]:.3f}" for task in TASKS)
            print(f"{cell_name}  {values}  {sum(cell['seconds'].values()):.0f} s", flush=True)
            render(results)
    if skipped:
        print(f"{name}: {skipped} cells are in {results.path} already; --force runs them again")
    return diverged


def render(results: Results) -> str:
    """Write the Markdown beside the JSON; returns it."""
    text = markdown(results.read())
    with atomic_path(results.path.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in LOADERS:
        parser.add_argument(f"--{name.lower()}", metavar="ROOT", help=f"where {name} lies")
    parser.add_argument("--data", nargs="+", choices=list(LOADERS), default=list(LOADERS))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--methods", nargs="+", help="rows or families, e.g. GCH 'SGCH v1'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--force", action="store_true", help="run finished cells again")
    parser.add_argument("--render", action="store_true", help="only make the tables again")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(arguments)
    results = Results(args.out / "methods.json")
    if args.render:
        print(render(results))
        return
    try:
        todo = jobs(args.only, args.methods)
    except ValueError as error:
        parser.error(str(error))
    chosen = {name: getattr(args, name.lower()) for name in args.data}
    if not any(chosen.values()):
        parser.error("no data set: give --emoji, --wikipedia or --coco")
    diverged = []
    for name, root in chosen.items():
        if root is not None:
            raw = LOADERS[name](root)
            diverged += sweep(name, raw, todo, args.seeds, results, force=args.force)
    if diverged:
        parser.exit(1, f"diverged: {'; '.join(diverged)}\n")


if __name__ == "__main__":
    main()
