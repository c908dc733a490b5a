"""``pyg-hash report``: one HTML page about a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyg_hash.cli.build import DataCommand, build_dataset, load_model
from pyg_hash.cli.options import check_out, check_positive, option
from pyg_hash.runs import Run
from pyg_hash.utils.files import load_json


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
