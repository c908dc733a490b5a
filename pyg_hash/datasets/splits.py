"""Seeded, stratified splits."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction


def allot(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Shares of ``total`` in proportion to ``sizes``, by largest remainder (ties: by name).

    Raises:
        ValueError: ``total`` is negative or above the sum of the sizes.
    """
    everything = sum(sizes.values())
    if not 0 <= total <= everything:
        raise ValueError(f"total: expected 0..{everything}, got {total}")
    exact = {name: Fraction(size * total, everything) for name, size in sizes.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def stratified_split(
    labels: Sequence[str],
    num_queries: int,
    *,
    seed: int,
    words: Sequence[set[str]] | None = None,
) -> set[int]:
    """Rows to be queries, in proportion to the class sizes.

    Args:
        labels: class of each row.
        num_queries: number of queries over all classes.
        seed: seed of the order in which rows are tried.
        words: words of each row; if given, every query shares one with a row that stays.

    Returns:
        ``num_queries`` row numbers.

    Raises:
        ValueError: a class has too few rows that may be queries.
    """
    shares = allot(dict(Counter(labels)), num_queries)
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    holders = Counter(word for row in words or [] for word in row)
    asked_with: dict[str, set[int]] = defaultdict(set)  # word -> queries that contain it
    query: set[int] = set()
    for row in order:
        if shares[labels[row]] == 0:
            continue
        if words is not None:
            lost = {word for word in words[row] if holders[word] == 1}
            affected = {row}.union(*(asked_with[word] for word in lost))
            kept = (any(holders[w] > (w in words[row]) for w in words[q]) for q in affected)
            if not all(kept):
                continue
            for word in words[row]:
                holders[word] -= 1
                asked_with[word].add(row)
        shares[labels[row]] -= 1
        query.add(row)
    short = {name: left for name, left in shares.items() if left}
    if short:
        raise ValueError(f"num_queries: too few rows may be queries, missing per class: {short}")
    return query
