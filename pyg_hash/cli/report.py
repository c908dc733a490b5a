"""``pyg-hash report``: one HTML page about a run."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli import build
from pyg_hash.cli.options import UsageError, add_run
from pyg_hash.runs import Run
from pyg_hash.utils.checks import check_positive_int
from pyg_hash.utils.files import check_writable, load_json


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of ``pyg-hash report``."""
    add_run(parser, data=True)
    parser.add_argument(
        "--out", type=str | None, default=None, help="the page to write (default: RUN/report.html)"
    )
    parser.add_argument("--queries", type=int, default=4, help="queries in the gallery")
    parser.add_argument("--points", type=int, default=500, help="items in the t-SNE maps")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn at random")


def run(args: Namespace) -> int:
    """Write the page and print its path."""
    from pyg_hash.report import About, write_report

    for name in ("queries", "points"):
        try:
            check_positive_int(getattr(args, name), name)
        except ValueError as error:
            raise UsageError(str(error)) from error
    folder = Run.open(args.run)
    out = Path(args.out) if args.out is not None else folder.path / "report.html"
    try:
        check_writable(out)  # before the work, not after it
    except OSError as error:
        raise OSError(f"out: cannot write to {out} ({error.strerror or error})") from error
    config = build.trained_with(folder, args.data, args.model)
    model = build.model_class(config).load(folder.path / "model")
    dataset = build.build_dataset(config)
    history = folder.path / "history.json"
    about = About(
        title=f"{type(model).__name__} on {Path(config.dataset).name}",
        settings=config.to_dict(),
        history=load_json(history) if history.is_file() else (),
        items=folder.items(),
        class_names=dataset.class_names,
    )
    options = {"num_queries": args.queries, "points": args.points, "seed": args.seed}
    write_report(out, model, dataset[0], about, **options)
    print(f"report: {out}")
    return 0
