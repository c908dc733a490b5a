"""What category and thing cost each other: settings by labels and pairs that are held out.

    python -m benchmarks.contrast MCGCN --emoji ROOT --seeds 0 1
    python -m benchmarks.contrast TaughtHash --emoji ROOT --settings weights.contrast=0 dropout=0.2
    python -m benchmarks.contrast "TaughtHash, no labels" --emoji ROOT --settings ALPHA=2 SHARE=0.4

Trains a model as it is, and with each setting in place of its own, where training items are held
out as queries; no query of the data is looked at. A name in capitals is a constant of the model's
module. Every run is a line of ``results/tuning/contrast.jsonl`` at once, and is not run again;
``contrast.md`` shows all that are there, says how they are scored, and chooses. Nothing changes the
library's defaults.
"""

import json
import statistics
import sys
import time
from collections import defaultdict
from contextlib import nullcontext
from typing import NamedTuple
from unittest.mock import patch

import pyg_hash.models
from benchmarks.accuracy.cell import Bench
from benchmarks.accuracy.data import given
from benchmarks.accuracy.methods import HELD_OUT, METHODS
from benchmarks.accuracy.store import Store, place, short_commit, stamp
from benchmarks.accuracy.summary import digits
from benchmarks.measure import one_thread
from benchmarks.record import grid, stated, write_text
from benchmarks.tune import DATA, cases, command
from pyg_hash.metrics import evaluate
from pyg_hash.recipes import METHODS as RECIPES

LOSS = 0.005  # of mAP that pair recall may cost
RECALL = "R@10"
OWN = "as it is"
SETTINGS = stated(__file__)
WEIGHTS = [f"weights.contrast={weight}" for weight in (0.03, 0.1, 0.3, 1)]


class Scores(NamedTuple):
    """Means of i2t and t2i."""

    map: float
    recall: float

    @property
    def worth(self):
        return self.map + 0.5 * self.recall


def mean(scores):
    return Scores(*map(statistics.fmean, zip(*scores, strict=True)))


def chosen(found):
    """The setting that the rule takes, of ``Scores`` by setting; the model's own is among them."""
    now = found[OWN]
    enough = {s: of for s, of in found.items() if of.map >= now.map - LOSS}
    allowed = [s for s, of in enough.items() if s == OWN or of.recall > now.recall]
    return max(allowed, key=lambda setting: found[setting].worth)


def measured(bench, case, setting):
    start = time.process_time()
    row, constant = METHODS[case.method], nullcontext()
    name, _, value = setting.partition("=")
    value = value if value.isalpha() else json.loads(value or "null")
    if name.isupper():
        module = sys.modules[getattr(pyg_hash.models, row.model).__module__]
        constant = patch.object(module, name, value)
    elif setting != OWN:  # a setting of the training, or else of the model
        row = row.with_values({name if name in RECIPES[row.model] else f"model.{name}": value})
    with constant:
        taught = row.model == "TaughtHash"
        model, data, _ = bench.trained(case, row, held_out=HELD_OUT, of_all=taught)
    result = evaluate(model, data, split="val")
    line = {**case._asdict(), "setting": setting, "mAP": result.cross_modal}
    line[RECALL] = statistics.fmean(at[10] for at in result.pair_recall.values())
    line |= {"held_out": result.num_queries, "database": result.num_database}
    return line | {"seconds": round(time.process_time() - start, 1), **stamp()}


def page(lines):
    cells, parts = defaultdict(lambda: defaultdict(lambda: defaultdict(list))), []
    for line in lines:
        cells[line["method"]][line["data"], line["labels"]][line["setting"]].append(line)
    for method, places in cells.items():
        rows, found_by = [], defaultdict(dict)
        for (data, rate), settings in places.items():
            # settings are compared under the same seeds
            seeds = set.intersection(*({one["seed"] for one in of} for of in settings.values()))
            if not seeds or OWN not in settings:
                continue
            shown = "none" if rate is None else f"{rate:.0%}"
            for setting, of in settings.items():
                scores = mean((line["mAP"], line[RECALL]) for line in of if line["seed"] in seeds)
                found_by[setting][data, rate] = scores
                sizes = str(of[0]["held_out"]), str(len(seeds))
                rows.append([data, shown, setting, *map(digits, (*scores, scores.worth)), *sizes])
        own = found_by.get(OWN, {}).keys()
        found = {name: mean(of.values()) for name, of in found_by.items() if of.keys() == own}
        if found:
            head = ["data", "labels", "setting", "mAP", RECALL, "worth", "held out", "seeds"]
            means = ", ".join(f"{name}: {digits(s.worth)}" for name, s in found.items())
            by_rule = f"Worth in the mean: {means}. By the rule: **{chosen(found)}**."
            kept = " The default is still what it was; `docs/methods.rst` says why."
            by_rule += "" if chosen(found) == OWN else kept
            parts += [f"## {method}", grid(head, rows), by_rule]
    commits = ", ".join(sorted({short_commit(line["commit"]) for line in lines}))
    seeds = ", ".join(map(str, sorted({line["seed"] for line in lines})))
    about = [
        "# Category and thing: settings by held-out labels and pairs",
        f"32 bits, inductive, training's defaults; {HELD_OUT:.0%} of the labelled training items, "
        "with TaughtHash of all before any is labelled, are held out and are the queries; mAP@all "
        "and R@10 among them, "
        f"expected ties, means of i2t and t2i and of the seeds ({seeds}). Worth is mAP + R@10 / 2; "
        f"another setting than the model's own ({OWN}; the contrast weighs 0.1 in TaughtHash and "
        f"0 in the papers' models) is taken only if mAP falls by at most {digits(LOSS)} and R@10 "
        "rises, in the mean over a model's rows. Small sets of queries have high recall: compare "
        "settings, not data. Made by `python -m benchmarks.contrast`; commit "
        f"{commits}.",
    ]
    return "\n\n".join(about + parts) + "\n"


def main(arguments=None):
    parser = command("contrast", __doc__, [*SETTINGS, "MCGCN", "GCH", "SGCH", "SGEH"])
    parser.add_argument("--settings", nargs="+", metavar="NAME=VALUE", help="of model or training")
    parser.set_defaults(rates=[0.3])
    args = parser.parse_args(arguments)
    places = given(parser, DATA, args)
    one_thread()
    bench = Bench(places)
    store = Store(args.out, "contrast", lambda line: (place(line), line["setting"]))
    for case in cases(args.method, list(places), args.rates, args.seeds):
        for setting in [OWN, *(args.settings or SETTINGS.get(args.method, WEIGHTS))]:
            if (case, setting) in store.read():
                continue
            line = measured(bench, case, setting)
            store.append(line)
            more = "setting", "mAP", RECALL, "seconds"
            print(*case, *(line[name] for name in more), flush=True)
    write_text(store.path.with_suffix(".md"), page(list(store.read().values())))


if __name__ == "__main__":
    main()
