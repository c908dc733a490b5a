"""``pyg-hash evaluate``, ``report`` and ``data check``: how good a run is, or a feature file."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyg_hash.cli import build
from pyg_hash.cli.options import Check, Evaluate, Import, Report, UsageError, Verify
from pyg_hash.cli.output import check_out, plain, say
from pyg_hash.index.arrays import check_journal
from pyg_hash.runs import RECORD, Run
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checksums import verify as verified
from pyg_hash.utils.digests import digest_of
from pyg_hash.utils.files import CorruptFileError, atomic_path
from pyg_hash.utils.provenance import stored_files

_PATIENCE_S = 10.0  # with another process that keeps its numbers, or whose training ends


def evaluate(asked: Evaluate) -> None:
    """Evaluate a run again; the result is kept in ``metrics.json`` under its definition."""
    from pyg_hash.metrics import evaluate
    from pyg_hash.training.ranks import process_group

    run = Run.open(asked.run, need=("config", "model"))
    names = ("topk", "ties", "denominator")
    definition: dict[str, Any] = {name: getattr(asked, name) for name in names}
    with process_group(asked.device) as device:
        _, model, dataset, notes = build.with_data(asked, run)
        data = dataset[0]
        if asked.split == "val" and "val_mask" not in data[IMAGE]:
            raise ValueError(
                f"split: {run.path} has no val_mask, for it was trained without a validation "
                "split; train with --val_rate, e.g. 0.1, or on a file with splits/val"
            )
        more: Any = {"split": asked.split, "relevance": asked.relevance}
        result = evaluate(model.to(device), data.to(device), **more, **definition)
        result = replace(result, notes=[*notes, *result.notes])
    name: str = asked.split
    if definition != {f.name: f.default for f in fields(asked) if f.name in names}:
        name += "".join(f" {key}={value}" for key, value in definition.items())
    if asked.relevance != "y":
        name += f" relevance={asked.relevance}"
    of = {"model": model.digest(), "data": digest_of(build.rows_of(dataset))}
    if notes:  # beside the earlier numbers
        name += f" on other data ({of['data'][:12]})"
    print(json.dumps(result.to_dict(), indent=2) if asked.json else result)
    try:
        with run.lock(make=False, wait_s=_PATIENCE_S):
            run.add_metrics(name, result.to_dict(), **of)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        told = f"not kept in {run.file('metrics')}: {error.strerror}"
        print(plain(told), file=sys.stderr)


def report(asked: Report) -> None:
    """Write the page, of one run or comparing several, and print its path."""
    from pyg_hash.report import About, write_report
    from pyg_hash.report.page import compare_page

    named = asked.out is not None and not Path(asked.out).is_dir()
    if named and Path(str(asked.out)).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"out: {asked.out} does not end with .html; the report is such a page")
    run = Run.open(asked.run, need=("config",) if asked.others else ("config", "model", "items"))
    name = "comparison.html" if asked.others else "report.html"
    out = run.path / name if asked.out is None else Path(asked.out)
    if asked.out is None:
        run.check_links(name)
    check_out(out, "report")
    if asked.others:
        for f in fields(asked):
            if f.name not in ("run", "others", "out") and getattr(asked, f.name) != f.default:
                raise UsageError(f"{f.name}: is for the report of one run; leave it out")
        page = compare_page([run, *(Run.open(path, need=("config",)) for path in asked.others)])
        with atomic_path(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
        print(f"report: {out}")
        return
    config, model, dataset, notes = build.with_data(asked, run)
    items = run.items(asked.images_root)
    paths = [path for path in items.image_paths if path]
    if gone := [path for path in paths if not Path(path).is_file()]:
        say(
            f"note: {len(gone):,} of {len(paths):,} pictures are not there (first: {gone[0]}); "
            "if they have moved, give --images_root DIR"
        )
    about = About(
        title=f"{type(model).__name__} on {Path(config.dataset).name}"
        + "".join(f" ({note})" for note in notes),
        settings=asdict(config),
        history=run.history(),
        items=items,
        class_names=dataset.class_names,
    )
    options = {"num_queries": asked.queries, "points": asked.points, "seed": asked.seed}
    write_report(out, model, dataset[0], about, **options)
    print(f"report: {out}")


def verify(asked: Verify) -> int:
    """Say which files are damaged, or do not belong together; 1 if some."""
    folder, counts, problems = Path(asked.path), {True: 0, False: 0}, list[str]()
    for path in stored_files(folder):
        try:
            counts[verified(path)] += 1
            if Path(f"{path}.log").is_dir():  # a change may be missing
                check_journal(path)
        except FileNotFoundError:  # a change, which is in the file by now
            if path == folder:
                raise
        except CorruptFileError as error:
            problems += {f"DAMAGED   {error}"}.difference(problems)
    run = Run(folder)
    if not problems and ((folder / RECORD).is_file() or (run.has("config") and run.has("model"))):
        checks: list[Callable[[], Any]] = [run.record, run.items, run.rows, run.config]
        checks += [run.history, run.metrics]
        checks += [partial(build.load_model, run)] if run.has("model") else []
        of_modality = run.index, run.check_encoder, run.catalog
        checks += [partial(part, modality) for part in of_modality for modality in MODALITIES]
        checks.append(run.pictures_root)
        for check in checks:
            try:
                check()
            except UsageError as error:
                say(f"note: {error}; so whether it is the one of the run is not compared")
            except ValueError as error:
                problems.append(f"MIXED     {error}")
            except FileNotFoundError:  # not every run has it, nor one that is not finished
                continue
    for problem in problems:
        print(plain(problem))
    print(
        f"{asked.path}: {counts[True]} files are what was written, {len(problems)} problems, "
        f"{counts[False]} have no checksum"
    )
    return 1 if problems else 0


def check(asked: Check) -> int:
    """Look into a feature file; 1 if it cannot be used."""
    from pyg_hash.datasets import check_feature_file

    report = check_feature_file(asked.file)
    print(plain(report))
    return 0 if report.ok else 1


def import_data(asked: Import) -> None:
    """Make a feature file, and say what was read as what."""
    from pyg_hash.datasets import import_files

    if not asked.out.lower().endswith((".h5", ".hdf5")):
        raise UsageError(f"out: {asked.out} does not end with .h5, as a feature file does")
    check_out(asked.out, "import")
    more = asdict(asked)
    print(plain(import_files(more.pop("files"), more.pop("out"), **more)))
