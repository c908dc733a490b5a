"""Rescoring against brute force over real values in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_hash.codes import binarize, hamming_distance, pack_bits
from pyg_hash.index import HammingIndex, base
from pyg_hash.utils.files import CorruptFileError


@pytest.fixture(params=["faiss", "torch"])
def backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "faiss":
        pytest.importorskip("faiss")
    return request.param


def relaxed_codes(n: int, num_bits: int, seed: int = 0, kinds: int = 0) -> Tensor:
    """Values in (-1, 1); with ``kinds`` of few different codes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, num_bits, generator=generator)
    if kinds:
        signs = binarize(torch.randn(kinds, num_bits, generator=generator))
        x = x.abs() * signs[torch.randint(0, kinds, (n,), generator=generator)]
    return x.tanh()


def steps(relaxed: Tensor) -> Tensor:
    """What an index keeps, times 127, in float64; none of it is 0."""
    value = (relaxed.double() * 127).round()
    return torch.where(value == 0, binarize(relaxed).double(), value)


def brute_force(
    query: Tensor, database: Tensor, ids: Tensor, stored: Tensor, count: int
) -> list[list[tuple[int, int]]]:
    """(distance, id) by score, distance, id, among the count nearest and all as far as the last.

    Scores are sums of integers: the queries are multiples of 2^-30.
    """
    distance = hamming_distance(binarize(query), binarize(database))
    found = []
    for row, asked in enumerate(query.double()):
        edge = int(distance[row].sort().values[min(count, len(ids)) - 1])
        near = (distance[row] <= edge).nonzero().flatten()
        score = (asked * 2**30).round().to(torch.int64) @ stored[near].to(torch.int64).T
        keys = zip((-score).tolist(), distance[row, near].tolist(), ids[near].tolist(), strict=True)
        found.append([(far, name) for _, far, name in sorted(keys)])
    return found


@pytest.mark.parametrize("num_bits", [1, 8, 13, 64, 300])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("kinds", [0, 7])
def test_order_equals_brute_force(backend: Any, num_bits: int, kept: bool, kinds: int) -> None:
    database, query = relaxed_codes(300, num_bits, 0, kinds), relaxed_codes(20, num_bits, 1)
    query = (query * 2**30).round() / 2**30  # a float64 holds all sums of these
    ids = torch.randperm(1000, generator=torch.Generator().manual_seed(2))[:300] - 500
    index = HammingIndex(num_bits, backend=backend)
    for part in (slice(0, 100), slice(100, 101), slice(101, 300)):  # ids in no order
        more = {"relaxed": database[part]} if kept else {}
        index.add(binarize(database[part]), ids[part], **more)
    assert index.has_relaxed == kept
    stored = steps(database) if kept else binarize(database).double()
    for k, oversample in ((1, 1), (5, 4), (40, 2), (300, 1), (10, 1000)):
        distances, found, scores = index.search(
            binarize(query), k, rescore=query, oversample=oversample
        )
        want = brute_force(query, database, ids, stored, k * oversample)
        got = [
            list(zip(*row, strict=True))
            for row in zip(distances.tolist(), found.tolist(), strict=True)
        ]
        assert got == [row[:k] for row in want]
        assert (distances.dtype, found.dtype) == (torch.int32, torch.int64)
        place = {name: row for row, name in enumerate(ids.tolist())}
        rows = torch.tensor([[place[name] for name in names] for names in found.tolist()])
        true = torch.einsum("qb,qkb->qk", query.double(), stored[rows]) / (127 if kept else 1)
        assert scores.dtype == torch.float64
        torch.testing.assert_close(scores, true, rtol=0, atol=1e-9)
        assert bool((scores.diff(dim=1) <= 0).all())


def test_float32_and_float64_queries_of_any_size(backend: Any) -> None:
    """Values of models, not on a grid: the order is that of float64, where it sees a difference."""
    database = relaxed_codes(500, 64, 0)
    index = HammingIndex(64, backend=backend)
    index.add(binarize(database), relaxed=database)
    for query in (
        relaxed_codes(9, 64, 1),
        1e-50 * relaxed_codes(9, 64, 1).double(),
        1e6 * database,
    ):
        some = query[:9]
        true = some.double() @ steps(database).T / 127
        _, ids, scores = index.search(binarize(some), 500, rescore=some)
        assert torch.equal(ids, true.argsort(dim=1, descending=True, stable=True))
        assert (scores - true.gather(1, ids)).abs().max() < 1e-10 * true.abs().max()
    nothing = torch.zeros(1, 64)
    assert index.search(binarize(nothing), 3, rescore=nothing).scores.tolist() == [[0.0] * 3]


def test_equal_codes_have_equal_scores_in_any_company(backend: Any) -> None:
    database = relaxed_codes(40, 24, 3)[torch.arange(4000) % 40]
    query = relaxed_codes(3, 24, 4)
    for more in ({}, {"relaxed": database}):
        index = HammingIndex(24, backend=backend)
        index.add(binarize(database), **more)
        found = index.search(binarize(query), 4000, rescore=query)
        for scores, ids in zip(found.scores, found.ids, strict=True):
            for row in range(40):
                own = ids % 40 == row
                assert len(scores[own].unique()) == 1
                assert ids[own].tolist() == sorted(ids[own].tolist())


def test_all_items_at_the_edge_are_rescored(backend: Any) -> None:
    """1,000 items of one code: only rescoring tells them apart, and it sees all of them."""
    database = relaxed_codes(1000, 16, 0, kinds=1)
    index = HammingIndex(16, backend=backend)
    index.add(binarize(database), relaxed=database)
    best = (database[:1].double() @ steps(database).T)[0].argsort(descending=True, stable=True)
    found = index.search(binarize(database[:1]), 3, rescore=database[:1], oversample=1)
    assert torch.equal(found.ids[0], best[:3]) and found.distances.eq(0).all()


def test_over_tiles_of_queries(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database, query = relaxed_codes(50, 12, 0), relaxed_codes(11, 12, 1)
    index = HammingIndex(12, backend=backend)
    index.add(binarize(database))
    whole = index.search(binarize(query), 4, rescore=query)
    monkeypatch.setattr(base, "_PAIRS", 150)  # three queries at a time
    for got, want in zip(index.search(binarize(query), 4, rescore=query), whole, strict=True):
        assert torch.equal(got, want)


def test_relaxed_codes_are_kept_through_changes_and_files(backend: Any, tmp_path: Path) -> None:
    database = relaxed_codes(30, 10, 0)
    index = HammingIndex(10, backend=backend)
    index.add(binarize(database[10:]), range(10, 30), relaxed=database[10:])
    index.add(binarize(database[:10]), range(10), relaxed=database[:10])
    index.remove([3, 29])
    index.save(tmp_path / "x")
    rest = [row for row in range(30) if row not in (3, 29)]
    for kept in (index, HammingIndex.load(tmp_path / "x", backend=backend)):
        assert kept.has_relaxed
        assert torch.equal(kept.relaxed(rest[::-1]), steps(database[rest[::-1]]).float() / 127)
        with pytest.raises(ValueError, match=r"ids: 1 are not in the index \(first: 3\)"):
            kept.relaxed([3])
    index.remove(rest)
    index.add(binarize(database[:4]))  # an empty index may start anew without
    assert not index.has_relaxed
    assert torch.equal(index.relaxed([33, 30]), binarize(database[[3, 0]]).float())
    index.save(tmp_path / "x")
    assert not HammingIndex.load(tmp_path / "x").has_relaxed


def test_stored_signs_are_those_of_the_codes() -> None:
    x = torch.tensor([[0.0, -0.0, 1e-9, -1e-9, 0.003, -0.003, 1.0, -1.0]])
    index = HammingIndex(8)
    index.add(binarize(x), relaxed=x)
    assert (index.relaxed([0]) * 127).tolist() == [[1, 1, 1, -1, 1, -1, 127, -127]]


def test_damaged_relaxed_codes(tmp_path: Path) -> None:
    from pyg_hash.index.arrays import write_arrays

    about = {"num_bits": 8, "ids": "int", "fields": {}, "index": {"kind": "Flat"}}
    arrays = {"codes": np.zeros((2, 1), np.uint8), "ids": np.arange(2)}
    for relaxed in (np.ones((2, 7), np.int8), np.ones((1, 8), np.int8), np.ones((2, 8), np.uint8)):
        write_arrays(tmp_path / "x", "HammingIndex", {**arrays, "relaxed": relaxed}, about)
        with pytest.raises(CorruptFileError, match="relaxed do not fit: .* in place of int8"):
            HammingIndex.load(tmp_path / "x")


def test_bad_arguments_leave_the_index_unchanged(backend: Any) -> None:
    x = relaxed_codes(3, 8)
    codes = binarize(x)
    index, bare = HammingIndex(8, backend=backend), HammingIndex(8, backend=backend)
    index.add(codes, relaxed=x)
    bare.add(codes)
    nan = x.clone()
    nan[1, 2] = float("nan")
    calls = [
        (lambda: index.add(codes), ValueError, "index has relaxed codes of its other items; give"),
        (lambda: bare.add(codes, relaxed=x), ValueError, "relaxed: the index has other items with"),
        (lambda: index.add(codes, relaxed=-x), ValueError, "3 rows have other signs.*first: row 0"),
        (lambda: index.add(codes, relaxed=2 * x), ValueError, r"expected values in \[-1, 1\]"),
        (lambda: index.add(codes, relaxed=nan), ValueError, "relaxed: contains NaN or inf"),
        (lambda: index.add(codes, relaxed=x[:2]), ValueError, r"relaxed: expected shape \[3, 8\]"),
        (lambda: index.add(codes, relaxed=codes), TypeError, "relaxed: expected a floating-point"),
        (lambda: index.search(codes, 1, rescore=x[:, :7]), ValueError, r"rescore: expected shape"),
        (lambda: index.search(codes, 1, rescore=codes), TypeError, "rescore: expected a float"),
        (lambda: index.search(codes, 1, rescore=[0.5]), TypeError, "rescore: .* got list"),
        (lambda: index.search(codes, 1, rescore=nan), ValueError, "rescore: contains NaN or inf"),
        (lambda: index.search(codes, 1, rescore=x, oversample=0), ValueError, "oversample: exp"),
        (lambda: index.search(codes, 1, oversample=-3), ValueError, "oversample: exp"),
    ]
    for call, error, message in calls:
        with pytest.raises(error, match=message):
            call()
        assert index.ids.tolist() == bare.ids.tolist() == [0, 1, 2]
    found = index.search(codes[:0], 2, rescore=x[:0])
    assert found.distances.shape == found.ids.shape == found.scores.shape == (0, 2)


@pytest.mark.parametrize("num_bits", [8, 13])
def test_queries_of_other_signs_than_their_codes_are_named(num_bits: int) -> None:
    database, query = relaxed_codes(50, num_bits), relaxed_codes(4, num_bits, 1)
    query[0, 0] = 0.9
    index = HammingIndex(num_bits, backend="torch")
    index.add(binarize(database), relaxed=database)
    codes = binarize(query)
    other = query.clone()
    other[2:] *= -1
    for one in (codes, pack_bits(codes)):
        with pytest.raises(ValueError, match=r"rescore: 2 rows have other signs .*first: row 2"):
            index.search(one, 5, rescore=other)
    with pytest.raises(ValueError, match="rescore: 4 rows have other signs than their codes"):
        index.search(codes, 5, rescore=-1e6 * query)
    near, codes[0, 0] = query.clone(), -1
    near[0, 0] = 0.003  # all but 0, as add takes it
    assert index.search(codes, 5, rescore=near).scores.isfinite().all()
