"""The committed split of the emoji, as it was drawn; run as a script, it writes the manifest."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from pyg_hash.datasets.emoji import MANIFEST, digest_of, package_versions, read_entries
from pyg_hash.utils.files import save_json

# words that say nothing about a picture: sharing one does not make a text known
FUNCTION_WORDS = frozenset(
    {"a", "an", "and", "at", "for", "in", "of", "on", "or", "the", "to", "with"}
)


def allot(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Shares of ``total`` in proportion to ``sizes``, by largest remainder (ties: by name)."""
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


def make_manifest(num_queries: int = 400, seed: int = 0) -> dict[str, Any]:
    """The split of the installed emoji; the committed manifest is its output.

    Queries are drawn per category in proportion to its size. A query has to share at least one
    word (other than articles and prepositions) with the training part, because nothing can be
    asked with unknown words only; one emoji in five has such a text and stays in train.
    """
    entries = read_entries()
    words = [set(re.findall(r"\w+", entry.text)) - FUNCTION_WORDS for entry in entries]
    query = stratified_split([e.category for e in entries], num_queries, seed=seed, words=words)
    return {
        "name": "emoji",
        "seed": seed,
        "num_queries": num_queries,
        "packages": package_versions(),
        "sha256": digest_of(entries),
        "split": {e.id: "query" if i in query else "train" for i, e in enumerate(entries)},
    }


if __name__ == "__main__":
    save_json(MANIFEST, make_manifest())
