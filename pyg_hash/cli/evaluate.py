"""``pyg-hash evaluate``, ``report`` and ``data check``: how good a run is, or a feature file."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from pyg_hash.cli.build import RunCommand, build_dataset, is_file, load_model
from pyg_hash.cli.options import Command, TrainConfig, UsageError, check_out, check_positive, option
from pyg_hash.runs import Run
from pyg_hash.utils.files import load_json


@dataclass(frozen=True, kw_only=True)
class DataCommand(RunCommand):
    """A command that reads the data set of a run."""

    data: str | None = option(
        None, "where the data lie if they have moved: FILE.h5, or the folder of a named data set"
    )

    def settings(self, run: Run) -> TrainConfig:
        """The settings of the run, with the place where its data lie now."""
        config = super().settings(run)
        if self.data is None:
            return config
        moved: Any = {"dataset" if is_file(config) else "root": self.data}
        return replace(config, **moved)


@dataclass(frozen=True, kw_only=True)
class Evaluate(DataCommand):
    """Evaluate a run again; the result is kept in ``metrics.json`` under its definition."""

    split: Literal["query", "val"] = option("query", "query or val")
    topk: int | None = option(None, "rank cut (default: all)")
    ties: str = option("expected", "expected, index, optimistic or pessimistic")
    denominator: str = option("hits", "hits, min_k_R, R or dcmh")
    relevance: str = option("y", "labels that relevant items share, e.g. subgroup (of Emoji)")
    device: Literal["cpu", "cuda"] = option("cpu", "where to encode: cpu or cuda")
    json: bool = option(False, "print JSON instead of a table")

    def execute(self) -> int:
        """Evaluate, print and keep."""
        from pyg_hash.metrics import evaluate
        from pyg_hash.training.ranks import process_group

        run = Run.open(self.run, need=("config", "model"))
        config = self.settings(run)
        names = ("topk", "ties", "denominator")
        definition: dict[str, Any] = {name: getattr(self, name) for name in names}
        with process_group(self.device) as device:
            model = load_model(run, config).to(device)
            data = build_dataset(config)[0].to(device)
            more: Any = {"split": self.split, "relevance": self.relevance}
            result = evaluate(model, data, **more, **definition)
        name: str = self.split
        if definition != {f.name: f.default for f in fields(self) if f.name in names}:
            name += "".join(f" {key}={value}" for key, value in definition.items())
        if self.relevance != "y":
            name += f" relevance={self.relevance}"
        print(json.dumps(result.to_dict(), indent=2) if self.json else result)
        run.add_metrics(name, result.to_dict())
        return 0


@dataclass(frozen=True, kw_only=True)
class Report(DataCommand):
    """Write the page and print its path."""

    out: str | None = option(None, "the page to write (default: RUN/report.html)")
    queries: int = option(4, "queries in the gallery")
    points: int = option(500, "items in the t-SNE maps")
    seed: int = option(0, "seed of what is drawn at random")

    def execute(self) -> int:
        """Collect and write."""
        from pyg_hash.report import About, write_report

        check_positive(queries=self.queries, points=self.points)
        named = self.out is not None and not Path(self.out).is_dir()
        if named and Path(str(self.out)).suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"out: {self.out} does not end with .html; the report is such a page")
        run = Run.open(self.run)
        out = run.path / "report.html" if self.out is None else Path(self.out)
        check_out(out)
        config = self.settings(run)
        model = load_model(run, config)
        dataset = build_dataset(config)
        history = run.path / "history.json"
        about = About(
            title=f"{type(model).__name__} on {Path(config.dataset).name}",
            settings=config.to_dict(),
            history=load_json(history) if history.is_file() else (),
            items=run.items(),
            class_names=dataset.class_names,
        )
        options = {"num_queries": self.queries, "points": self.points, "seed": self.seed}
        write_report(out, model, dataset[0], about, **options)
        print(f"report: {out}")
        return 0


@dataclass(frozen=True)
class Data(Command):
    """Print the report on a feature file; status 1 if it cannot be trained on."""

    file: str = option(MISSING, "a feature file in HDF5", ["file"])

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the subcommand ``check`` and its options."""
        check = ArgumentParser(
            description="Shapes, types, ranges, NaN, duplicates, label balance, split overlap.",
            exit_on_error=False,
        )
        check.add_argument("--debug", action="store_true", help="show the traceback of an error")
        super().add_arguments(check)
        commands = parser.add_subcommands(dest="action", metavar="ACTION")
        commands.add_subcommand("check", check, help="report on a feature file")

    @classmethod
    def of(cls, args: Namespace) -> Data:
        """The command of a parsed command line."""
        return super().of(args.check)

    def execute(self) -> int:
        """Check and print."""
        from pyg_hash.datasets import check_feature_file

        report = check_feature_file(self.file)
        print(report)
        return 0 if report.ok else 1
