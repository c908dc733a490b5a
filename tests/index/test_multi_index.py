"""Radius lookup through hash tables against comparing everything, and the rule behind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from store_cases import random_codes

from pyg_hash.codes import pack_bits
from pyg_hash.index import HammingIndex
from pyg_hash.index import lookup as ways
from pyg_hash.index.lookup import MultiIndexHash
from pyg_hash.stores import FaissStore, MultiIndex

pytest.importorskip("faiss")


def lookup(database, query, radius):
    tables = MultiIndexHash()
    tables.update(database)
    return tables.lookup(database, query, radius)


def packed(n, num_bits, seed=0):
    return pack_bits(random_codes(n, num_bits, seed)).numpy()


def near(database, query, radius):
    """Set of (query, distance, position), by comparing all bits."""
    a, b = np.unpackbits(query, axis=1), np.unpackbits(database, axis=1)
    distance = (a[:, None] != b[None]).sum(2)
    q, p = (distance <= radius).nonzero()
    return set(zip(q.tolist(), distance[q, p].tolist(), p.tolist(), strict=True))


def found(matches):
    rows = list(zip(*(column.tolist() for column in matches), strict=True))
    assert len(rows) == len(set(rows))  # nothing twice
    return set(rows)


def neighbours(query, distances, num_bits, seed):
    """Codes at given distances from the queries, so that small radii find something."""
    generator = np.random.default_rng(seed)
    bits = np.unpackbits(query, axis=1)[:, :num_bits]
    rows = []
    for row in bits:
        for distance in distances:
            flipped = row.copy()
            flipped[generator.permutation(num_bits)[:distance]] ^= 1
            rows.append(flipped)
    return np.packbits(np.array(rows), axis=1)


@pytest.mark.parametrize("num_bits", [8, 17, 40, 64, 100])
@pytest.mark.parametrize("scans", [0, 32])
def test_equals_brute_force(num_bits, scans, monkeypatch):
    """With the choice of a scan, and every query in the tables."""
    monkeypatch.setattr(ways, "_SCAN_ADVANTAGE", scans)
    query = packed(12, num_bits, 1)
    some = neighbours(query, range(min(num_bits, 12)), num_bits, 3)
    database = np.concatenate([packed(100, num_bits), some, some[:20]])  # copies too
    radii = (0, 1, 2, 3, 5, 8, 11) if scans else (0, 1, 2, 3, 5)
    for radius in radii:
        matches, left = lookup(database, query, radius)
        want = near(database, query, radius)
        assert found(matches) == {match for match in want if not left[match[0]]}
        assert scans or not left.any()


def test_pigeonhole():
    """However r different bits fall into m words, one of them is within its table's radius."""
    for m in (1, 2, 3, 4, 8):
        for radius in range(12):
            # so many bits must differ if all words exceed their reach: no fewer, and no more
            assert sum(reach + 1 for reach in ways.reaches(radius, m)) == radius + 1


def test_memory_bound_does_not_change_the_answer(monkeypatch):
    query = packed(30, 32, 1)
    database = np.concatenate([packed(500, 32), neighbours(query, range(6), 32, 3)])
    want = [found(lookup(database, query, radius)[0]) for radius in (2, 5)]
    for chunk in (1, 1000):
        monkeypatch.setattr(ways, "_CHUNK", chunk)
        assert [found(lookup(database, query, radius)[0]) for radius in (2, 5)] == want


def test_crowded_buckets_are_scanned(tmp_path):
    """100,000 copies of one code: the tables would hold all of them in one bucket."""
    codes = random_codes(1, 64).repeat(100_000, 1)
    codes[:50_000, :3] *= -1
    store = FaissStore.create(tmp_path / "store", 64, index=MultiIndex())
    store.add(codes, range(100_000))
    query = random_codes(3, 64, 5)
    query[1] = codes[-1]
    _, left = lookup(pack_bits(codes).numpy(), pack_bits(query).numpy(), 2)
    assert left.tolist() == [False, True, False]
    limits, distances, ids = store.range_search(query, 2)
    assert limits.tolist() == [0, 0, 50_000, 50_000] and not distances.any()
    assert ids.tolist() == list(range(50_000, 100_000))


def test_one_code():
    database = packed(1, 64)
    matches, _ = lookup(database, database, 64)
    assert found(matches) <= {(0, 0, 0)}


def test_large_radii_of_few_are_no_lookup(monkeypatch):
    """Rescoring asks for all when less than enough pass a filter."""
    codes = random_codes(200, 64)
    relaxed = codes[:3] * torch.rand(3, 64)
    flat, hashed = (HammingIndex(64, fields={"n": int}, index=i) for i in (None, MultiIndex()))
    for index in (flat, hashed):
        index.add(codes, None, {"n": list(range(200))})
    monkeypatch.setattr(MultiIndexHash, "lookup", None)
    for filtered in ({}, {"where": "n < 5"}):
        answers = [i.search(codes[:3], 60, rescore=relaxed, **filtered) for i in (flat, hashed)]
        for one, other in zip(*answers, strict=True):
            assert torch.equal(one, other)
