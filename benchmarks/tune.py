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

import json
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import fmean

import yaml

from benchmarks.accuracy.cell import Bench
from benchmarks.accuracy.data import add_options, content, given
from benchmarks.accuracy.methods import HELD_OUT, METHODS
from benchmarks.accuracy.store import short_commit, stamp
from benchmarks.accuracy.summary import digits
from benchmarks.accuracy.tables import Cell
from benchmarks.measure import ROOT, cell, command_line, one_thread
from benchmarks.record import grid, stated, write_text
from pyg_hash.cli import build
from pyg_hash.utils.files import save_json

RESULTS = ROOT / "benchmarks/results/tuning"
DATA = ("wikipedia", "emoji", "coco")
NUM_BITS, PROTOCOL = 32, "inductive"
SHOWN = 10  # trials on a page


def _flat(settings, start=""):
    """Groups of settings by names as ``model.weights.view``."""
    for name, of in settings.items():
        if isinstance(of, dict):
            yield from _flat(of, f"{start}{name}.")
        else:
            yield start + name, of


def _space(text):
    kind, *values = text.split()
    if kind == "one":
        return "One", tuple(map(yaml.safe_load, values))
    if kind == "steps":
        return "Whole", *map(int, values)
    return "Between", *map(float, values), kind == "log"  # by equal steps of it or of its logarithm


# method -> what is varied: One of values, Whole numbers from, to and by, or Between two
SPACES = {m: {n: _space(text) for n, text in _flat(of)} for m, of in stated(__file__).items()}
SPACES.pop("common")  # what the others refer to


def cases(name, data, rates, seeds):
    """What a setting is measured on; seed by seed, so that a bad one is known early."""
    places = product(seeds, data, rates if METHODS[name].labels else [None])
    return [Cell(where, name, NUM_BITS, rate, seed, PROTOCOL) for seed, where, rate in places]


def ask(trial, space):
    found = {}
    for name, (kind, *of) in space.items():
        if kind == "One":
            found[name] = trial.suggest_categorical(name, of[0])
        elif kind == "Whole":
            found[name] = trial.suggest_int(name, *of[:2], step=of[2])
        else:
            found[name] = trial.suggest_float(name, *of[:2], log=of[2])
    return found


def defaults(name, space):
    method = METHODS[name]
    config = method.train_config(NUM_BITS, 0.5 if method.labels else None, 0, PROTOCOL)
    known = {"lr": config.lr, "epochs": config.epochs, "k": config.k}
    known |= _flat({"model": method.settings(PROTOCOL)["options"]})
    for step in build.recipe_of(config).graph:
        known |= _flat({"graph": vars(step)})
    return {name: known[name] for name in space}


def space_of(name):
    """What is varied, wide enough for today's values."""
    now, widened = defaults(name, SPACES[name]), {}
    for setting, (kind, first, *more) in SPACES[name].items():
        value = now[setting]
        if kind == "One":
            widened[setting] = kind, first if value in first else (*first, value)
        else:
            widened[setting] = kind, min(first, value), max(more[0], value), more[1]
    return widened


def worth(bench, values, case):
    """Of held-out items; ``FloatingPointError`` if the training diverged."""
    return bench.worth(case, METHODS[case.method].with_values(values))


def main(arguments=None):
    parser = command("tune", __doc__, SPACES)
    parser.add_argument("--fresh", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--best", type=int, default=3, help="trials that are measured again")
    parser.add_argument("--trials", type=int, default=40, help="in all, earlier ones included")
    args = parser.parse_args(arguments)
    places = given(parser, DATA, args)
    one_thread()
    bench, space = Bench(places), space_of(args.method)
    seen, fresh = (cases(args.method, places, args.rates, s) for s in (args.seeds, args.fresh))
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
        "space": space,
    }
    path = args.out / f"{args.method}.md"
    study = open_study(path.with_suffix(".journal"), args.method, about)
    search(study, bench, space, seen, args.trials)
    result = {**about, **confirmed(study, bench, fresh, args.best), **stamp()}
    result["versions"] = {**result["versions"], "optuna": version("optuna")}
    save_json(path.with_suffix(".json"), result)
    write_text(path, page(result))
    print(path)


def command(name, doc, methods):
    parser = command_line(prog=f"python -m benchmarks.{name}", description=doc)
    parser.add_argument("method", choices=methods, metavar="METHOD", help="; ".join(methods))
    add_options(parser, DATA)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the search")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser


def open_study(journal, name, about):
    """The study in a journal, new or not; its first trial is today's defaults."""
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
    elif earlier != json.loads(json.dumps(asked)):
        sys.exit(f"{journal}: holds trials on other data, rates, seeds or bounds; move it away")
    return study


def search(study, bench, space, on, trials):
    import optuna

    def objective(trial):
        values, scores = ask(trial, space), []
        for step, case in enumerate(on):
            try:
                scores.append(worth(bench, values, case))
            except FloatingPointError as error:
                raise optuna.TrialPruned(str(error)) from error
            trial.report(fmean(scores), step)
            if "is_default" not in trial.user_attrs and trial.should_prune():
                raise optuna.TrialPruned
        return fmean(scores)

    def told(study, trial):
        shown = "ended early" if trial.value is None else f"{trial.value:.4f}"
        print(f"trial {trial.number}: {shown}", flush=True)

    states = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
    if len(study.get_trials(deepcopy=False, states=states)) < trials:
        enough = optuna.study.MaxTrialsCallback(trials, states)
        study.optimize(objective, callbacks=[told, enough])


def confirmed(study, bench, on, best):
    """The chosen setting, and every trial: the best ones and the defaults under fresh seeds too."""
    trials = study.get_trials(deepcopy=False)
    done = sorted((t for t in trials if t.value is not None), key=lambda t: -t.value)
    fresh = {}
    for trial in [*done[:best], *(t for t in done[best:] if "is_default" in t.user_attrs)]:
        scores = fresh[trial.number] = [worth(bench, trial.params, case) for case in on]
        print(f"trial {trial.number} again: {fmean(scores):.4f}", flush=True)
    chosen = max(fresh, key=lambda number: fmean(fresh[number]))
    rows = [{"number": t.number, "is_default": "is_default" in t.user_attrs} for t in trials]
    for row, t in zip(rows, trials, strict=True):
        row |= {"values": t.params, "score": t.value, "fresh": fresh.get(t.number)}
    return {"chosen": trials[chosen].params, "chosen_trial": chosen, "trials": rows}


def page(content):
    rates, share = content["rates"], f"{content['held_out']:.0%}"
    labels = f"none; {share} of the training items are held out, whose labels only score"
    if rates is not None:
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
    now, space = content["defaults"], content["space"]
    settings = [
        [f"`{name}`", bounds(*space[name]), cell(now.get(name)), cell(value)]
        for name, value in content["chosen"].items()
    ]
    lines = []
    trials = sorted(content["trials"], key=lambda trial: -(trial["score"] or 0.0))
    for trial in trials[:SHOWN] + [t for t in trials[SHOWN:] if t["is_default"]]:
        name = f"{trial['number']}{' (default)' if trial['is_default'] else ''}"
        name += " (chosen)" if trial["number"] == content["chosen_trial"] else ""
        score = "-" if trial["score"] is None else digits(trial["score"])
        lines.append([name, score, digits(fmean(trial["fresh"])) if trial["fresh"] else ""])
    parts = [f"# Settings of {content['method']}", "\n".join(facts)]
    parts.append(grid(["setting", "searched", "default at the time", "chosen"], settings))
    parts.append(grid(["trial", "score", "under other seeds"], lines))
    return "\n\n".join(parts) + "\n"


def bounds(kind, first, *more):
    if kind == "One":
        return ", ".join(map(str, first))
    if kind == "Whole":
        return f"{first} to {more[0]}, steps of {more[1]}"
    return f"{first:g} to {more[0]:g}" + (", log" if more[1] else "")


if __name__ == "__main__":
    main()
