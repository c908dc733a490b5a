"""``pyg-hash evaluate``, ``report`` and ``data check``: how good a run is, or a feature file."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pyg_hash.cli import build
from pyg_hash.cli.options import Command, UsageError, check_out, check_positive, option, say
from pyg_hash.index.arrays import check_journal
from pyg_hash.runs import RECORD, Run
from pyg_hash.typing import IMAGE, MODALITIES
from pyg_hash.utils.checks import check_seed
from pyg_hash.utils.checksums import verify
from pyg_hash.utils.digests import digest_of
from pyg_hash.utils.files import CorruptFileError, atomic_path
from pyg_hash.utils.provenance import stored_files

_PATIENCE_S = 10.0  # with another process that keeps its numbers, or whose training ends


class Evaluate(build.DataCommand):
    """Evaluate a run again; the result is kept in ``metrics.json`` under its definition."""

    split: Literal["query", "val"] = option("query", "query or val")
    topk: int | None = option(None, "rank cut (default: all)")
    ties: str = option("expected", "expected, index, optimistic or pessimistic")
    denominator: str = option("hits", "hits, min_k_R, R or dcmh")
    relevance: str = option("y", "labels that relevant items share, e.g. subgroup (of Emoji)")
    device: Literal["cpu", "cuda"] = option("cpu", "where to encode: cpu or cuda")
    json: bool = option(False, "print JSON instead of a table")

    def _execute(self) -> None:
        from pyg_hash.metrics import evaluate
        from pyg_hash.training.ranks import process_group

        run = Run.open(self.run, need=("config", "model"))
        config = self.settings(run)
        names = ("topk", "ties", "denominator")
        definition: dict[str, Any] = {name: getattr(self, name) for name in names}
        with process_group(self.device) as device:
            model = build.load_model(run, config).to(device)
            dataset = build.build_dataset(config)
            data = dataset[0]
            notes = build.check_data(run, dataset, force=self.force)
            if self.split == "val" and "val_mask" not in data[IMAGE]:
                raise ValueError(
                    f"split: {run.path} has no val_mask, for it was trained without a validation "
                    "split; train with --val_rate, e.g. 0.1, or on a file with splits/val"
                )
            data = data.to(device)
            more: Any = {"split": self.split, "relevance": self.relevance}
            result = evaluate(model, data, **more, **definition)
            result = replace(result, notes=[*notes, *result.notes])
        name: str = self.split
        if definition != {f.name: f.default for f in fields(self) if f.name in names}:
            name += "".join(f" {key}={value}" for key, value in definition.items())
        if self.relevance != "y":
            name += f" relevance={self.relevance}"
        of = {"model": model.digest(), "data": digest_of(build.rows_of(dataset))}
        if notes:  # beside the earlier numbers
            name += f" on other data ({of['data'][:12]})"
        print(json.dumps(result.to_dict(), indent=2) if self.json else result)
        try:
            with run.lock(make=False, wait_s=_PATIENCE_S):
                run.add_metrics(name, result.to_dict(), **of)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
            print(f"not kept in {run.file('metrics')}: {error.strerror}", file=sys.stderr)


class Report(build.DataCommand, build.PictureCommand):
    """Write the page, of one run or comparing several, and print its path."""

    others: list[str] = option([], "further runs, for a page that compares them", ["others"])
    out: str | None = option(
        None, "the page to write (default: RUN/report.html, or RUN/comparison.html)"
    )
    queries: int = option(4, "queries in the gallery")
    points: int = option(500, "items in the t-SNE maps")
    seed: int = option(0, "seed of what is drawn at random")

    def _execute(self) -> None:
        from pyg_hash.report import About, write_report
        from pyg_hash.report.page import compare_page

        check_positive(queries=self.queries, points=self.points)
        try:
            check_seed(self.seed)
        except ValueError as error:
            raise UsageError(str(error)) from error
        named = self.out is not None and not Path(self.out).is_dir()
        if named and Path(str(self.out)).suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"out: {self.out} does not end with .html; the report is such a page")
        run = Run.open(self.run, need=("config",) if self.others else ("config", "model", "items"))
        name = "comparison.html" if self.others else "report.html"
        out = run.path / name if self.out is None else Path(self.out)
        check_out(out, "report")
        if self.others:
            for f in fields(self):
                if f.name not in ("run", "others", "out") and getattr(self, f.name) != f.default:
                    raise UsageError(f"{f.name}: is for the report of one run; leave it out")
            page = compare_page([run, *(Run.open(path, need=("config",)) for path in self.others)])
            with atomic_path(out) as temporary:
                temporary.write_text(page, encoding="utf-8")
            print(f"report: {out}")
            return
        config = self.settings(run)
        model = build.load_model(run, config)
        dataset = build.build_dataset(config)
        notes = build.check_data(run, dataset, force=self.force)
        items = run.items(self.images_root)
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
        options = {"num_queries": self.queries, "points": self.points, "seed": self.seed}
        write_report(out, model, dataset[0], about, **options)
        print(f"report: {out}")


class Verify(Command):
    """Runs, models, stores, feature files, exported codes: whether every byte is what was written.

    Also whether the files of a run belong together.
    """

    path: str = option(MISSING, "a file, or a folder: a run, a data set, a store", ["path"])

    def _execute(self) -> int:
        folder, counts, problems = Path(self.path), {True: 0, False: 0}, list[str]()
        for path in stored_files(folder):
            try:
                counts[verify(path)] += 1
                if Path(f"{path}.log").is_dir():  # a change may be missing
                    check_journal(path)
            except FileNotFoundError:  # a change, which is in the file by now
                if path == folder:
                    raise
            except CorruptFileError as error:
                problems += {f"DAMAGED   {error}"}.difference(problems)
        if (folder / RECORD).is_file() and not problems:
            run = Run(folder)
            checks: list[Callable[[], Any]] = [run.record, run.items, run.rows, run.config]
            checks += [run.history, run.metrics]
            checks += [partial(build.load_model, run)] if run.has("model") else []
            checks += [run.pictures_root] if run.has_catalog else []
            of_modality = run.index, run.check_encoder, *([run.catalog] if run.has_catalog else [])
            checks += [partial(part, modality) for part in of_modality for modality in MODALITIES]
            for check in checks:
                try:
                    check()
                except UsageError as error:
                    say(f"note: {error}; so whether it is the one of the run is not compared")
                except ValueError as error:
                    problems.append(f"MIXED     {error}")
                except FileNotFoundError:  # a run that is not finished
                    continue
        for problem in problems:
            print(problem)
        print(
            f"{self.path}: {counts[True]} files are what was written, {len(problems)} problems, "
            f"{counts[False]} have no checksum"
        )
        return 1 if problems else 0


class Check(Command):
    """Shapes, types, ranges, NaN, duplicates, label balance, split overlap."""

    file: str = option(MISSING, "a feature file in HDF5", ["file"])

    def _execute(self) -> int:
        from pyg_hash.datasets import check_feature_file

        report = check_feature_file(self.file)
        print(report)
        return 0 if report.ok else 1


class Import(Command):
    """Names and layouts of the field are known (IAll, I_tr, VDatabase, caption, ...).

    What is guessed is printed. Pickles are refused.
    """

    files: list[str] = option(MISSING, "what belongs together: .mat .h5 .npy .npz .json", ["files"])
    out: str = option(MISSING, "the feature file to write, FILE.h5")
    image: str | None = option(None, "variable of the pictures' features or pixels, or FILE:NAME")
    text: str | None = option(None, "variable of the texts' features")
    labels: str | None = option(None, "variable of the labels")
    texts: str | None = option(None, "variable of the raw texts")
    image_paths: str | None = option(None, "variable of the picture files")
    ids: str | None = option(None, "variable of the ids")
    class_names: str | None = option(None, "variable of the names of the classes")
    train: str | None = option(None, "training rows: variable of row numbers or mask, START:STOP")
    query: str | None = option(None, "rows that ask, the same")
    database: str | None = option(None, "rows that are searched, the same")
    val: str | None = option(None, "rows that are held out, the same")
    images_root: str | None = option(None, "folder of the pictures, where no array holds features")
    seed: int = option(0, "seed of the queries that are drawn where no split is named")

    def _execute(self) -> None:
        from pyg_hash.datasets import import_files

        if not self.out.lower().endswith((".h5", ".hdf5")):
            raise UsageError(f"out: {self.out} does not end with .h5, as a feature file does")
        check_out(self.out, "import")
        more = asdict(self)
        print(import_files(more.pop("files"), more.pop("out"), **more))
