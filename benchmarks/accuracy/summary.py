"""Means over the seeds, which differences are more than chance, and numbers as text."""

import statistics
from typing import NamedTuple

from benchmarks.accuracy.methods import METHODS, ORDER


def digits(value):
    """Three digits behind the point, as the papers print a mAP: ``.638``."""
    return f"{value:.3f}".removeprefix("0")


def signed(value):
    """A difference: ``+.012``."""
    return ("-" if value < 0 else "+") + digits(abs(value))


class Place(NamedTuple):
    """Cells that differ in their seed alone."""

    data: str
    method: str
    bits: int
    labels: float | None
    protocol: str


class Group:
    """The lines of one place, one a seed; ``most`` is how many the largest place has."""

    def __init__(self, lines, most=None):
        self.lines = sorted(lines, key=lambda line: int(line["seed"]))
        self.most = most or len(self.lines)

    def mean(self, metric, task):
        return statistics.fmean(line["scores"][metric][task] for line in self.lines)

    def deviation(self, metric, task):
        """Standard deviation over the seeds; 0 for one."""
        values = [line["scores"][metric][task] for line in self.lines]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def error(self, metric, task):
        """Standard error of the mean; None for one seed."""
        count = len(self.lines)
        return self.deviation(metric, task) / count**0.5 if count > 1 else None

    def shown(self, metric, task):
        """Mean ± standard deviation, and in brackets how many seeds it has, if others have more."""
        count, deviation = len(self.lines), self.deviation(metric, task)
        text = digits(self.mean(metric, task)) + (f" ± {digits(deviation)}" if count > 1 else "")
        return text if count == self.most else f"{text} ({count})"

    @property
    def seconds(self):
        """Of a cell in the mean; what is chosen is chosen once for all."""
        spent = (line["seconds"] for line in self.lines)
        return statistics.fmean(sum(s.values()) - s.get("choose", 0.0) for s in spent)


class Groups:
    def __init__(self, lines):
        collected = {}
        for line in lines:
            where = Place(*(line[name] for name in Place._fields))
            collected.setdefault(where, []).append(line)
        most = max(map(len, collected.values()), default=0)
        self.by_place = {where: Group(of, most) for where, of in collected.items()}

    def having(self, metric):
        """Those of the cells in which it was measured."""
        lines = (line for group in self.by_place.values() for line in group.lines)
        return Groups(line for line in lines if metric in line["scores"])

    def values_of(self, name):
        """What the places have, e.g. all code lengths; None is left out."""
        found = {getattr(where, name) for where in self.by_place}
        return sorted(value for value in found if value is not None)

    def rates(self):
        """The label rates; None if there is none that reads labels."""
        return self.values_of("labels") or [None]

    def get(self, where):
        """The cells of a place; a method that reads no labels has one result for all rates."""
        if where.method in METHODS and not METHODS[where.method].labels:
            where = where._replace(labels=None)
        return self.by_place.get(where)

    def nearest(self, where):
        """The cells of a place, or of the next stricter protocol: its codes never see more."""
        stricter = reversed(ORDER[: ORDER.index(where.protocol) + 1])
        return next(filter(None, (self.get(where._replace(protocol=p)) for p in stricter)), None)


class Verdict(NamedTuple):
    """How one row stands to another, e.g. the best of the others."""

    best: str  # name of the other row
    difference: float  # of the means
    error: float | None  # its standard error; None for a single seed
    seeds: int | None = None  # how many the other row has, where it has another number of them

    @property
    def number(self):
        return signed(self.difference) + ("" if self.error is None else f" ± {digits(self.error)}")

    @property
    def words(self):
        """``ahead`` or ``behind`` where the difference is beyond two standard errors."""
        if self.error is None:
            return "one seed"
        if abs(self.difference) <= 2 * self.error:
            return "no difference"
        return "ahead" if self.difference > 0 else "behind"

    def __str__(self):
        seeds = "" if self.seeds is None else f" ({self.seeds} seeds)"
        return f"{self.number} on {self.best}{seeds}: {self.words}"


def versus(name, one, other, metric, task):
    """How ``one`` stands to ``other``, which is called ``name``.

    The standard error is that of a difference of independent means: seeds, which share their
    labelled items, are not paired.
    """
    difference = one.mean(metric, task) - other.mean(metric, task)
    a, b = one.error(metric, task), other.error(metric, task)
    error = None if None in (a, b) else (a**2 + b**2) ** 0.5
    seeds = len(other.lines)
    return Verdict(name, difference, error, None if seeds == len(one.lines) else seeds)


def compare(groups, where, others, metric, task):
    """The row at ``where`` against the best mean of other rows; None if one is missing."""
    champion = groups.get(where)
    found = {n: groups.nearest(where._replace(method=n)) for n in others if n != where.method}
    rivals = [(name, group) for name, group in found.items() if group]
    if champion is None or not rivals:
        return None
    best, group = max(rivals, key=lambda rival: rival[1].mean(metric, task))
    return versus(best, champion, group, metric, task)
