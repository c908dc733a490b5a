"""One cell of the benchmark: a method on a data set under a seed, trained, measured and stored."""

from __future__ import annotations

import copy
import fcntl
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch_geometric.transforms as T
from recipe import optimizers
from suite import CHOICE_SEEDS, Job
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from pyg_hash.io import load_json, save_json
from pyg_hash.metrics import evaluate
from pyg_hash.training import fit
from pyg_hash.transforms import LabelRate, ScaleFeatures, ValidationSplit

TASKS = ("i2t", "t2i", "i2i", "t2t")
_graphs: dict[tuple[str, str], tuple[HeteroData, float]] = {}
_scores: dict[tuple[str, str], dict[str, float]] = {}


def key(data: str, job: Job, seed: int) -> str:
    """The name of a cell in the results."""
    labels = "none" if job.labels is None else f"{job.labels:.0%}"
    return " | ".join([data, labels, job.method.name, f"seed {seed}"])


def prepared(
    name: str, raw: HeteroData, job: Job, seed: int, *, validation: bool = False
) -> tuple[HeteroData, float]:
    """Scaled data with masks and the method's graph, and the seconds that its graph took.

    A graph that does not depend on labels or seed is built once. With ``validation`` a fifth of
    the labelled nodes is no training node.
    """
    steps = [] if job.labels is None else [LabelRate(job.labels, seed)]
    steps += [ScaleFeatures()]
    steps += [ValidationSplit(0.2, seed)] if validation else []
    steps += job.method.graph_steps(raw)
    which = (name, repr(steps))
    if which not in _graphs:
        _graphs.clear()  # one at a time: they are large
        start = time.perf_counter()
        _graphs[which] = (T.Compose(steps)(copy.copy(raw)), time.perf_counter() - start)
    return _graphs[which]


def choose(name: str, raw: HeteroData, job: Job) -> tuple[Job, dict[str, float]]:
    """The job with the best of its method's choices, and the score of each.

    A fifth of the labelled nodes is held out; the score is the mean of i2t and t2i of these nodes
    against the rest of the database, and its mean over ``CHOICE_SEEDS``: one choice a data set
    and label rate. No query and no other label is looked at.
    """
    jobs = [replace(job, method=method) for method in job.method.candidates()]
    if job.method.choices is None:
        return job, {}
    if (name, repr(job)) not in _scores:
        option, values = job.method.choices
        _scores[name, repr(job)] = {
            f"{option}={value}": statistics.fmean(
                _held_out_score(name, raw, candidate, seed) for seed in CHOICE_SEEDS
            )
            for value, candidate in zip(values, jobs, strict=True)
        }
    scores = _scores[name, repr(job)]
    best = max(range(len(jobs)), key=list(scores.values()).__getitem__)
    return jobs[best], scores


def _held_out_score(name: str, raw: HeteroData, job: Job, seed: int) -> float:
    data = prepared(name, raw, job, seed, validation=True)[0]
    result = evaluate(trained(data, job, seed), data, split="val")
    return 0.5 * (result.i2t + result.t2i)


def trained(data: HeteroData, job: Job, seed: int) -> Any:
    """The job's model, trained, or its baseline."""
    seed_everything(seed)
    model = job.method.build(data, seed)
    training = job.method.training()
    if training:
        fit(model, data, optimizers(model, training), epochs=training["epochs"], progress=False)
    return model


def run(name: str, raw: HeteroData, job: Job, seed: int) -> dict[str, Any]:
    """Train and measure.

    Args:
        name: the data set.
        raw: its data before scaling, with ``train``, ``query`` and ``database`` masks.
        job: method and label rate.
        seed: of the labelled nodes, the parameters and the training.

    Returns:
        JSON values: mAP@all with expected ties in the four directions, protocol, seconds
        (``graph``: scaling and graph, ``train``, ``encode``: codes and scores), settings, and the
        scores of :func:`choose`.
    """
    best, scores = choose(name, raw, job)
    data, graph_seconds = prepared(name, raw, best, seed)
    start = time.perf_counter()
    model = trained(data, best, seed)
    stop = time.perf_counter()
    result = evaluate(model, data)
    seconds = {"graph": graph_seconds, "train": stop - start}
    seconds["encode"] = time.perf_counter() - stop
    return {
        "data": name,
        "labels": job.labels,
        "method": job.method.name,
        "seed": seed,
        **{task: getattr(result, task) for task in TASKS},
        "protocol": result.protocol,
        "definition": result.definition,
        "seconds": {part: round(value, 1) for part, value in seconds.items()},
        "described": job.method.described(),
        **({"validation": scores} if scores else {}),
    }


class Results:
    """Cells in a JSON file that several processes may add to; every write is atomic.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """``{'about': ..., 'cells': {name: cell}}``."""
        empty: dict[str, Any] = {"about": {}, "cells": {}}
        return load_json(self.path) if self.path.exists() else empty

    def has(self, name: str, described: Mapping[str, Any]) -> bool:
        """Whether the cell is there, and was made with these settings."""
        cell = self.read()["cells"].get(name)
        return cell is not None and cell["described"] == described

    def add(self, name: str, cell: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Store a cell among what is in the file by now, and what the run says of itself."""
        with self._locked():
            content = self.read()
            content["cells"][name] = dict(cell)
            content["cells"] = dict(sorted(content["cells"].items()))
            content["about"] |= about
            save_json(self.path, content)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)  # gives the lock back
