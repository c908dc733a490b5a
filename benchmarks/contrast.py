"""What the contrast between pairs is worth in each model, by labels and pairs that are held out.

    python -m benchmarks.contrast MCGCN --emoji ROOT --weights 0 0.03 0.1 0.3 --seeds 0 1

Trains with each weight of the term ``contrast`` (32 bits, inductive) where a fifth of the labelled
training items are the queries; no query of the data is looked at. A weight is worth the mean of
i2t and t2i of mAP@all and half of that of R@10 among the held-out pairs, both with expected ties.
The weight that is worth most is chosen; another than 0 only if, in the mean over data, rates and
seeds, mAP is at most .005 below that of 0, and R@10 above.

Every run is a line of ``results/tuning/contrast.jsonl`` at once, and is not run again;
``contrast.md`` shows all that are there. Nothing changes the library's defaults.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.accuracy.cell import Bench
from benchmarks.accuracy.data import SOURCES, missing, where
from benchmarks.accuracy.methods import HELD_OUT, METHODS
from benchmarks.accuracy.store import short_commit, stamp
from benchmarks.accuracy.summary import digits, grid
from benchmarks.tune import DATA, RESULTS, cases
from pyg_hash.metrics import evaluate
from pyg_hash.utils.files import atomic_path

LOSS = 0.005  # of mAP that pair recall may cost
RECALL = "R@10"


@dataclass(frozen=True)
class Scores:
    """Means of i2t and t2i."""

    map: float
    recall: float

    @property
    def worth(self):
        return self.map + 0.5 * self.recall

    @classmethod
    def mean(cls, of):
        return cls(*(statistics.fmean(values) for values in zip(*of, strict=True)))


def chosen(found):
    """The weight that the rule takes, of ``Scores`` by weight; 0 is among them."""
    now = found[0.0]
    allowed = {
        weight: scores
        for weight, scores in found.items()
        if weight == 0 or (scores.map >= now.map - LOSS and scores.recall > now.recall)
    }
    return max(allowed, key=lambda weight: allowed[weight].worth)


def measured(bench, case, weight):
    """One run, as a line."""
    start = time.process_time()
    row = METHODS[case.method].with_values({"model.weights.contrast": weight})
    model, data, _ = bench.trained(case, row, held_out=HELD_OUT)
    result = evaluate(model, data, split="val")
    line = {**case._asdict(), "weight": weight, "mAP": result.cross_modal}
    line[RECALL] = statistics.fmean(at[10] for at in result.pair_recall.values())
    line |= {"held_out": result.num_queries, "database": result.num_database}
    return line | {"seconds": round(time.process_time() - start, 1), **stamp()}


def of_run(line):
    return tuple(line[name] for name in ("method", "data", "labels", "seed", "weight"))


def read(path):
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {of_run(line): line for line in map(json.loads, text.splitlines())}


def page(lines):
    """Markdown of all lines: a row for each method, data set, rate and weight."""
    cells, parts = {}, []
    for line in lines:
        place = line["method"], line["data"], line["labels"]
        cells.setdefault(place, {}).setdefault(line["weight"], []).append(line)
    for method in dict.fromkeys(method for method, *_ in cells):
        rows, by_weight = [], {}
        for (name, data, rate), weights in cells.items():
            # weights are compared under the same seeds
            seeds = set.intersection(*({one["seed"] for one in of} for of in weights.values()))
            if name != method or not seeds or 0.0 not in weights:
                continue
            shown = "none" if rate is None else f"{rate:.0%}"
            for weight, of in sorted(weights.items()):
                same = [(one["mAP"], one[RECALL]) for one in of if one["seed"] in seeds]
                scores = Scores.mean(same)
                by_weight.setdefault(weight, {})[data, rate] = scores
                facts = [scores.map, scores.recall, scores.worth]
                sizes = str(of[0]["held_out"]), str(len(seeds))
                rows.append([data, shown, f"{weight:g}", *map(digits, facts), *sizes])
        places = set(by_weight.get(0.0, {}))
        found = {
            weight: Scores.mean((s.map, s.recall) for s in of.values())
            for weight, of in by_weight.items()
            if set(of) == places
        }
        if not found:
            continue
        head = ["data", "labels", "weight", "mAP", RECALL, "worth", "held out", "seeds"]
        means = ", ".join(f"{w:g}: {digits(s.worth)}" for w, s in sorted(found.items()))
        by_rule = f"Worth in the mean: {means}. By the rule: **{chosen(found):g}**."
        parts += [f"## {method}", grid(head, rows), by_rule]
    commits = ", ".join(sorted({short_commit(line["commit"]) for line in lines}))
    seeds = ", ".join(map(str, sorted({line["seed"] for line in lines})))
    about = [
        "# The weight of the contrast between pairs",
        f"32 bits, inductive, training's defaults; {HELD_OUT:.0%} of the labelled training items "
        "are held out and are the queries; mAP@all and R@10 among the held-out pairs, expected "
        f"ties, means of i2t and t2i and of the seeds ({seeds}). Worth is mAP + R@10 / 2; another "
        f"weight than 0 is taken only if mAP falls by at most {digits(LOSS)} and R@10 rises, in "
        "the mean over a model's rows. Small sets of queries have high recall: compare weights, "
        f"not data. Made by `python -m benchmarks.contrast`; commit {commits}.",
    ]
    return "\n\n".join(about + parts) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.contrast",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", choices=["MCGCN", "GCH", "SGCH", "SGEH"])
    for option in DATA:
        parser.add_argument(f"--{option}", metavar="PLACE", help=SOURCES[option].needs)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.03, 0.1, 0.3])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args(arguments)
    places = where(DATA, {option: getattr(args, option) for option in DATA})
    if not places:
        parser.error(f"there are no data; give the place of some:\n{missing(DATA)}")
    torch.set_num_threads(1)
    bench, path = Bench(places), args.out / "contrast.jsonl"
    args.out.mkdir(parents=True, exist_ok=True)
    for case in cases(args.method, list(places), args.rates, args.seeds):
        for weight in args.weights:
            if of_run({**case._asdict(), "weight": weight}) in read(path):
                continue
            line = measured(bench, case, weight)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            shown = {name: line[name] for name in (*case._fields, "weight", "mAP", RECALL)}
            print(*shown.values(), line["seconds"], flush=True)
    with atomic_path(args.out / "contrast.md") as temporary:
        temporary.write_text(page(list(read(path).values())), encoding="utf-8")


if __name__ == "__main__":
    main()
