"""Plain-Python oracles: rankings as lists, every order of ties spelled out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pyg_hash.codes import binarize


def average_precision(relevance: list[int], topk: int | None, denominator: str) -> float:
    """AP of one ranking, straight from the definition."""
    total = sum(relevance)
    cut = min(topk or len(relevance), len(relevance))
    if denominator == "dcmh":
        ranks = [i + 1 for i, hit in enumerate(relevance) if hit][:cut]
        return sum((j + 1) / rank for j, rank in enumerate(ranks)) / max(len(ranks), 1)
    precisions = [sum(relevance[: i + 1]) / (i + 1) for i in range(cut) if relevance[i]]
    by = {"hits": len(precisions), "R": total, "min_k_R": min(cut, total)}[denominator]
    return sum(precisions) / max(by, 1)


def orders(distance: list[int]) -> Iterator[list[int]]:
    """All rankings that the distances allow, each once."""
    buckets = [[i for i, d in enumerate(distance) if d == value] for value in sorted(set(distance))]
    for parts in itertools.product(*(itertools.permutations(bucket) for bucket in buckets)):
        yield [i for part in parts for i in part]


def brute_force(
    distance: list[int], relevance: list[int], score: Callable[[list[int]], float], ties: str
) -> float:
    """The score under one treatment of ties."""
    if ties == "expected":
        scores = [score([relevance[i] for i in order]) for order in orders(distance)]
        return sum(scores) / len(scores)
    sign = {"index": 0, "optimistic": -1, "pessimistic": 1}[ties]
    order = sorted(range(len(distance)), key=lambda i: (distance[i], sign * relevance[i]))
    return score([relevance[i] for i in order])


def lists(
    query: Tensor, database: Tensor, query_y: Tensor, database_y: Tensor
) -> Iterator[tuple[list[int], list[int]]]:
    """Distances and relevance of each query."""
    for code, y in zip(query, query_y, strict=True):
        distance = (code != database).sum(1)
        relevant = database_y == y if y.dim() == 0 else (database_y * y).sum(1) > 0
        yield distance.tolist(), relevant.int().tolist()


def codes_of_relevance(buckets: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One query and a database whose bucket at distance i holds these relevances."""
    bits = max(len(buckets), 2)
    database, labels = [], []
    for distance, bucket in enumerate(buckets):
        for hit in bucket:
            database.append([-1] * distance + [1] * (bits - distance))
            labels.append(1 - hit)
    query = torch.ones(1, bits, dtype=torch.int8)
    return query, torch.tensor(database, dtype=torch.int8), torch.tensor([0]), torch.tensor(labels)


def random_case(
    seed: int, queries: int, n: int, bits: int, classes: int = 3, multi_label: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random codes and labels."""
    generator = torch.Generator().manual_seed(seed)

    def labels(rows: int) -> Tensor:
        if multi_label:
            return (torch.rand(rows, classes, generator=generator) < 0.3).float()
        return torch.randint(0, classes, (rows,), generator=generator)

    query = binarize(torch.randn(queries, bits, generator=generator))
    database = binarize(torch.randn(n, bits, generator=generator))
    return query, database, labels(queries), labels(n)


def clustered_case(
    seed: int, queries: int, n: int, bits: int, classes: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes that carry their labels, with noise."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, bits, generator=generator)
    query_y = torch.randint(0, classes, (queries,), generator=generator)
    database_y = torch.randint(0, classes, (n,), generator=generator)
    query = centres[query_y] + 1.5 * torch.randn(queries, bits, generator=generator)
    database = centres[database_y] + 1.5 * torch.randn(n, bits, generator=generator)
    return binarize(query), binarize(database), query_y, database_y


def dcg(relevance: list[int], cut: int) -> float:
    """Discounted cumulative gain of one ranking."""
    return sum(hit / math.log2(i + 2) for i, hit in enumerate(relevance[:cut]))
