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

import argparse
import json
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.accuracy.cell import Bench
from benchmarks.accuracy.data import SOURCES, content, missing, where
from benchmarks.accuracy.methods import HELD_OUT, METHODS
from benchmarks.accuracy.store import short_commit, stamp
from benchmarks.accuracy.summary import digits, grid
from benchmarks.accuracy.tables import Cell
from pyg_hash.cli import build
from pyg_hash.utils.files import atomic_path, save_json

RESULTS = Path(__file__).resolve().parent / "results" / "tuning"
DATA = ("wikipedia", "emoji", "coco")


NUM_BITS, PROTOCOL = 32, "inductive"

# --- what is varied -------------------------------------------------------------------------------


class Between(NamedTuple):
    """A number between two bounds, by equal steps of itself or (``log``) of its logarithm."""

    low: float
    high: float
    log: bool = True

    def ask(self, trial, name):
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self):
        return f"{self.low:g} to {self.high:g}" + (", log" if self.log else "")


class Whole(NamedTuple):
    """A whole number: ``low``, ``low + step``, ... up to ``high``."""

    low: int
    high: int
    step: int

    def ask(self, trial, name):
        return trial.suggest_int(name, self.low, self.high, step=self.step)

    def __str__(self):
        return f"{self.low} to {self.high}, steps of {self.step}"


class One(NamedTuple):
    """One of some values."""

    of: tuple[Any, ...]

    def ask(self, trial, name):
        return trial.suggest_categorical(name, self.of)

    def __str__(self):
        return ", ".join(map(str, self.of))


def _of(part, **settings):
    return {f"{part}.{name}": of for name, of in settings.items()}


def _weights(**bounds):
    return {f"model.weights.{name}": Between(*of) for name, of in bounds.items()}


_WIDTH = One((128, 256, 512))
_SHARE = Between(0.0, 1.0, log=False)
_REGULAR = _of("model", dropout=Between(0.0, 0.6, log=False), batch_size=One((32, 64, 128, 256)))
_TRAINED = {"lr": Between(3e-4, 5e-3), "epochs": Whole(20, 100, 20)}
_TRAINED |= {"model.hidden_channels": One((256, 512, 1024)), **_REGULAR}
_GRAPH = {"lr": Between(5e-4, 1e-2), "epochs": Whole(40, 200, 20), "k": One((10, 20, 40))}
_GRAPH |= {"graph.neighbor_weight": Between(0.03, 1.0), "model.hidden_channels": _WIDTH}
_RIDGE = {"model.ridge": Between(1e-2, 1e3)}
SPACES = {
    "MCGCN": {
        **_GRAPH,
        **_of("model", latent_channels=_WIDTH, shared_channels=_WIDTH),
        **_weights(quantization=(1e-3, 1.0), balance=(1e-3, 10.0), prediction=(0.1, 10.0)),
        **_weights(reconstruction=(1e-4, 0.1), adversarial=(1e-3, 1.0)),
        **_weights(pairing=(0.1, 30.0), view=(0.03, 3.0)),
    },
    "GCH": {
        "lr": Between(3e-4, 5e-3),
        "epochs": Whole(10, 50, 5),
        **_of("model", hidden_channels=_WIDTH),
        "model.beacon.channels": One((256, 512, 1024)),
        "model.dropout": _REGULAR["model.dropout"],
        **_weights(pairwise=(0.1, 10.0), beacon=(0.1, 10.0), prediction=(0.1, 10.0)),
        "model.batch_size": _REGULAR["model.batch_size"],
    },
    "SGCH": {
        **_GRAPH,
        "model.out_channels": _WIDTH,
        **_weights(balance=(0.1, 100.0), quantization=(1e-3, 1.0), pairing=(0.03, 10.0)),
        **_weights(adversarial=(1e-3, 1.0), view=(0.03, 3.0)),
    },
    "SGEH": {
        "lr": Between(3e-4, 5e-3),
        "epochs": Whole(20, 100, 20),
        "k": One((10, 20, 30, 50)),
        "model.hidden_channels": _WIDTH,
        **_REGULAR,
        **_of("model", walk_steps=One((1, 2, 3)), alpha=Between(1.0, 6.0, log=False)),
        **_of("model", lambda3=Between(0.1, 1.0, log=False), lambda4=Between(0.1, 0.9, log=False)),
        **_weights(affinity_ii=(0.03, 3.0), affinity_tt=(0.03, 3.0), prior=(1e-4, 0.1)),
    },
    "CCA": _RIDGE,
    "ITQ": {**_RIDGE, "model.weighted": One((False, True))},
    "LSH": _RIDGE,
    "SCM": {"model.ridge": Between(1e-3, 1e2), "model.variant": One(("sequential", "orthogonal"))},
    "ClassCodes": {"model.penalty": Between(1e-3, 1e2), "model.center": One((False, True))},
    "IMH": _of(
        "model", k=One((5, 10, 20, 40)), weight=Between(1e-4, 1.0), ridge=Between(1e-3, 1e2)
    ),
    "CMFH": _of(
        "model", share=Between(0.1, 0.9, log=False), mu=Between(1.0, 1e3), gamma=Between(1e-3, 1e2)
    ),
    "DCMH": {**_TRAINED, **_of("model", gamma=Between(0.01, 10.0), eta=Between(0.01, 10.0))},
    "DJSRH": {
        **_TRAINED,
        **_of("model", beta=_SHARE, eta=_SHARE, mu=Between(1.0, 20.0)),
        **_of("model", lambda1=Between(0.03, 3.0), lambda2=Between(0.03, 3.0)),
    },
    "JDSH": {
        **_TRAINED,
        **_of("model", alpha=_SHARE, beta=_SHARE, mu=Between(1.0, 20.0)),
        **_of("model", intra=Between(0.03, 3.0)),
    },
    "DGCPN": {
        **_TRAINED,
        **_of("model", k=One((20, 50, 100, 200)), a1=_SHARE, a2=_SHARE),
        **_of("model", consistency=Between(0.03, 3.0)),
    },
}
"""Method -> what is varied."""

# --- what a setting is worth ----------------------------------------------------------------------


def cases(name, data, rates, seeds):
    """What a setting is measured on; seed by seed, so that a bad one is known early."""
    shown = rates if METHODS[name].labels else [None]
    return [
        Cell(where, name, NUM_BITS, rate, seed, PROTOCOL)
        for seed in seeds
        for where in data
        for rate in shown
    ]


def ask(trial, space):
    return {name: of.ask(trial, name) for name, of in space.items()}


def defaults(name, space):
    """Today's values of what is varied."""
    method = METHODS[name]
    now = method.settings(PROTOCOL)
    known = {f"model.{option}": value for option, value in now["options"].items()}
    for option, value in now["options"].items():
        if isinstance(value, dict):  # a group
            known |= {f"model.{option}.{entry}": own for entry, own in value.items()}
    config = method.train_config(NUM_BITS, 0.5 if method.labels else None, 0, PROTOCOL)
    known |= {"lr": config.lr, "epochs": config.epochs, "k": config.k}
    for step in build.recipe_of(config).graph:
        known |= {f"graph.{option}": value for option, value in vars(step).items()}
    return {name: known[name] for name in space}


def space_of(name):
    """What is varied, wide enough for today's values."""
    widened = {}
    now = defaults(name, SPACES[name])
    for setting, of in SPACES[name].items():
        value = now[setting]
        if isinstance(of, One):
            widened[setting] = of if value in of.of else One((*of.of, value))
        else:
            widened[setting] = of._replace(low=min(of.low, value), high=max(of.high, value))
    return widened


def worth(bench, values, case):
    """Mean of i2t and t2i of the held-out items against the rest of the database.

    Raises:
        FloatingPointError: the training diverged.
    """
    return bench.worth(case, METHODS[case.method].with_values(values))


# --- the search -----------------------------------------------------------------------------------


def main(arguments=None):
    parser = _parser()
    args = parser.parse_args(arguments)
    places = where(tuple(args.data), {option: getattr(args, option) for option in DATA})
    if not places:
        parser.error(f"there are no data; give the place of some:\n{missing(tuple(args.data))}")
    torch.set_num_threads(1)
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
    study = open_study(args.out / f"{args.method}.journal", args.method, about)
    search(study, bench, space, seen, args.trials)
    found = confirmed(study, bench, fresh, args.best)
    made = stamp()
    made["versions"] = {**made["versions"], "optuna": version("optuna")}
    result = {**about, **summary(study, found), **made}
    save_json(args.out / f"{args.method}.json", result)
    path = args.out / f"{args.method}.md"
    with atomic_path(path) as temporary:
        temporary.write_text(page(result), encoding="utf-8")
    print(path)


def open_study(journal, name, about):
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
    elif earlier != json.loads(json.dumps(asked)):
        sys.exit(f"{journal}: holds trials on other data, rates, seeds or bounds; move it away")
    return study


def search(study, bench, space, on, trials):
    """Run trials until there are so many that were finished or ended early."""
    import optuna

    def objective(trial):
        values = ask(trial, space)
        scores = []
        for step, case in enumerate(on):
            try:
                scores.append(worth(bench, values, case))
            except FloatingPointError as error:
                raise optuna.TrialPruned(str(error)) from error
            trial.report(statistics.fmean(scores), step)
            if not trial.user_attrs.get("is_default") and trial.should_prune():
                raise optuna.TrialPruned
        return statistics.fmean(scores)

    def are_enough():
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return len(study.get_trials(deepcopy=False, states=states)) >= trials

    def told(study, trial):
        shown = "ended early" if trial.value is None else f"{trial.value:.4f}"
        print(f"trial {trial.number}: {shown}", flush=True)
        if are_enough():
            study.stop()

    if not are_enough():
        study.optimize(objective, callbacks=[told])


def confirmed(study, bench, on, best):
    """Scores, under fresh seeds, of the best trials and of the defaults, by trial number."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    done.sort(key=lambda trial: -trial.value)
    found = {}
    for place, trial in enumerate(done):
        if place < best or trial.user_attrs.get("is_default"):
            scores = [worth(bench, trial.params, case) for case in on]
            print(f"trial {trial.number} again: {statistics.fmean(scores):.4f}", flush=True)
            found[trial.number] = scores
    return found


def summary(study, found):
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


def _parser():
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


def page(content):
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
        [f"`{name}`", _bounds(*content["space"][name]), _value(now.get(name)), _value(value)]
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
    parts = [f"# Settings of {content['method']}", "\n".join(facts)]
    parts.append(grid(["setting", "searched", "default at the time", "chosen"], settings))
    parts.append(grid(["trial", "score", "under other seeds"], lines))
    return "\n\n".join(parts) + "\n"


def _bounds(kind, *values):
    return str({of.__name__: of for of in (Between, Whole, One)}[kind](*values))


def _value(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
