"""Search for the settings of a method on held-out labelled training items, never on queries.

    pip install -e '.[tune]'
    python -m benchmarks.tune SGCH --wikipedia ROOT --emoji ROOT --coco DIR --trials 60

A setting is worth the mean, over data sets, label rates and seeds, of its mAP (32 bits, inductive,
mean of i2t and t2i) where a fifth of the labelled items are the queries. Optuna's TPE proposes
settings, a median rule ends bad ones early, and today's defaults are the first trial. The best few
and the defaults are then measured under seeds that the search has not seen; the best of these is
chosen. Every trial is in ``results/tuning/METHOD.journal`` at once: the same command goes on where
it stopped, and several commands may work on one journal. ``METHOD.json`` and ``METHOD.md`` say what
was found; nothing changes the library's defaults.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cell import Bench, one_thread
from benchmarks.accuracy.data import SOURCES, content, missing, where
from benchmarks.accuracy.methods import HELD_OUT, METHODS
from benchmarks.accuracy.store import short_commit, stamp
from benchmarks.accuracy.summary import digits, grid
from benchmarks.tune.objective import Case, ask, cases, defaults, space_of, worth
from benchmarks.tune.spaces import SPACES, Space
from pyg_hash.utils.files import atomic_path, save_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "tuning"
DATA = ("wikipedia", "emoji", "coco")


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = _parser()
    args = parser.parse_args(arguments)
    places = where(tuple(args.data), {option: getattr(args, option) for option in DATA})
    if not places:
        parser.error(f"there are no data; give the place of some:\n{missing(tuple(args.data))}")
    one_thread()
    bench = Bench(places)
    space = space_of(args.method)
    seen = cases(args.method, list(places), args.rates, args.seeds)
    fresh = cases(args.method, list(places), args.rates, args.fresh)
    contents = {name: content(bench.raw(name)) for name in places}
    about = {
        "method": args.method,
        "data": {name: found.about for name, found in contents.items()},
        "sha256": {name: [found.data, found.split] for name, found in contents.items()},
        "definition": "mAP@all, expected ties, 32 bits, inductive; mean of i2t and t2i",
        "rates": args.rates if METHODS[args.method].labels else None,
        "held_out": HELD_OUT,
        "seeds": args.seeds,
        "fresh_seeds": args.fresh,
        "defaults": defaults(args.method, space),
        "space": {name: [type(of).__name__, *of] for name, of in space.items()},
    }
    study = open_study(args.out / f"{args.method}.journal", args.method, space, about)
    search(study, bench, args.method, space, seen, args.trials)
    found = confirmed(study, bench, args.method, fresh, args.best)
    made = stamp()
    made["versions"] = {**made["versions"], "optuna": version("optuna")}
    result = {**about, **summary(study, found), **made}
    save_json(args.out / f"{args.method}.json", result)
    write(result, args.out / f"{args.method}.md")
    print(args.out / f"{args.method}.md")


def open_study(journal: Path, name: str, space: Space, about: dict[str, Any]) -> Any:
    """The study in a journal, new or not; its first trial is today's defaults.

    Raises:
        SystemExit: Optuna is not installed, or the journal is of another question.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        sys.exit("benchmarks.tune needs Optuna: pip install -e '.[tune]'")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        # no seed: commands that share a journal would try the same settings; the journal has all
        sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=8),
        direction="maximize",
        load_if_exists=True,
    )
    asked = {key: about[key] for key in ("data", "rates", "seeds", "space")}
    earlier = study.user_attrs.get("asked")
    if earlier is None:
        study.set_user_attr("asked", asked)
        study.enqueue_trial(about["defaults"], user_attrs={"is_default": True})
    elif earlier != _plain(asked):
        sys.exit(f"{journal}: holds trials on other data, rates, seeds or bounds; move it away")
    return study


def search(
    study: Any, bench: Bench, name: str, space: Space, on: Sequence[Case], trials: int
) -> None:
    """Run trials until there are so many that were finished or ended early."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

    def objective(trial: Any) -> float:
        values = ask(trial, space)
        scores: list[float] = []
        for step, case in enumerate(on):
            try:
                scores.append(worth(bench, name, values, case))
            except FloatingPointError as error:
                raise optuna.TrialPruned(str(error)) from error
            trial.report(statistics.fmean(scores), step)
            if not trial.user_attrs.get("is_default") and trial.should_prune():
                raise optuna.TrialPruned
        return statistics.fmean(scores)

    def stop(study: Any, trial: Any) -> None:
        shown = "ended early" if trial.value is None else f"{trial.value:.4f}"
        print(f"trial {trial.number}: {shown}", flush=True)
        if len(study.get_trials(deepcopy=False, states=states)) >= trials:
            study.stop()

    if len(study.get_trials(deepcopy=False, states=states)) < trials:
        study.optimize(objective, callbacks=[stop])


def confirmed(
    study: Any, bench: Bench, name: str, on: Sequence[Case], best: int
) -> dict[int, list[float]]:
    """Scores, under fresh seeds, of the best trials and of the defaults, by trial number."""
    done = sorted(
        (trial for trial in study.get_trials(deepcopy=False) if trial.value is not None),
        key=lambda trial: -trial.value,
    )
    kept = done[:best] + [t for t in done[best:] if t.user_attrs.get("is_default")]
    found = {}
    for trial in kept:
        found[trial.number] = [worth(bench, name, trial.params, case) for case in on]
        print(
            f"trial {trial.number} again: {statistics.fmean(found[trial.number]):.4f}", flush=True
        )
    return found


def summary(study: Any, found: dict[int, list[float]]) -> dict[str, Any]:
    """What goes to the results: the chosen setting and every trial."""
    trials = study.get_trials(deepcopy=False)
    chosen = max(found, key=lambda number: statistics.fmean(found[number]))
    rows = [
        {
            "number": trial.number,
            "is_default": bool(trial.user_attrs.get("is_default")),
            "values": trial.params,
            "score": trial.value,
            "fresh": found.get(trial.number),
        }
        for trial in trials
    ]
    return {"chosen": trials[chosen].params, "chosen_trial": chosen, "trials": rows}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", choices=list(SPACES), metavar="METHOD", help=", ".join(SPACES))
    for option in DATA:
        parser.add_argument(f"--{option}", metavar="PLACE", help=SOURCES[option].needs)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the search")
    parser.add_argument("--fresh", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--best", type=int, default=3, help="trials that are measured again")
    parser.add_argument("--trials", type=int, default=40, help="in all, earlier ones included")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser


SHOWN = 10


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write the page."""
    with atomic_path(path) as temporary:
        temporary.write_text(page(content), encoding="utf-8")


def page(content: Mapping[str, Any]) -> str:
    """Markdown of what ``METHOD.json`` holds."""
    chosen, now = content["chosen"], content["defaults"]
    rates = content["rates"]
    share = f"{content['held_out']:.0%}"
    if rates is None:
        labels = f"none; {share} of the training items are held out, whose labels only score"
    else:
        shown = ", ".join(f"{rate:.0%}" for rate in rates)
        labels = f"{shown}; of the labelled items {share} are held out"
    facts = [
        f"- data: {'; '.join(f'{name}: {about}' for name, about in content['data'].items())}",
        f"- label rates: {labels}",
        f"- score: mean of i2t and t2i of the held-out items (mAP@all, expected ties, 32 bits, "
        f"inductive); the search: seeds {content['seeds']}, again: seeds {content['fresh_seeds']}",
        f"- trials: {len(content['trials'])}; a dash was ended early",
        f"- commit: {short_commit(content['commit'])}",
    ]
    settings = [
        [f"`{name}`", _bounds(content["space"][name]), _value(now.get(name)), _value(value)]
        for name, value in chosen.items()
    ]
    trials = sorted(content["trials"], key=lambda trial: -(trial["score"] or 0.0))
    listed = trials[:SHOWN] + [t for t in trials[SHOWN:] if t["is_default"]]
    lines = []
    for trial in listed:
        name = f"{trial['number']}{' (default)' if trial['is_default'] else ''}"
        name += " (chosen)" if trial["number"] == content["chosen_trial"] else ""
        fresh = trial["fresh"]
        score = "-" if trial["score"] is None else digits(trial["score"])
        lines.append([name, score, digits(statistics.fmean(fresh)) if fresh else ""])
    return (
        "\n\n".join(
            [
                f"# Settings of {content['method']}",
                "\n".join(facts),
                grid(["setting", "searched", "default at the time", "chosen"], settings),
                grid(["trial", "score", "under other seeds"], lines),
            ]
        )
        + "\n"
    )


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bounds(of: list[Any]) -> str:
    kind, *values = of
    if kind == "One":
        return ", ".join(map(str, values[0]))
    if kind == "Whole":
        return f"{values[0]} to {values[1]}, steps of {values[2]}"
    return f"{values[0]:g} to {values[1]:g}" + (", log" if values[2] else "")
