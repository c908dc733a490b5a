"""Ids and their positions, in both directions."""

from __future__ import annotations

import numpy as np
import pytest

from pyg_hash.index.memory import _IntIds, _StrIds


def ints(values):
    return _IntIds(np.array(values, np.int64))


def strings(values):
    return _StrIds.of(np.array(values, object))


@pytest.mark.parametrize(
    ("ids", "values", "others"),
    [
        (ints([5, -3, 2**62, 0]), [5, -3, 2**62, 0], [1, 2**63 - 1, -(2**63)]),
        (ints([1, 2, 3]), [1, 2, 3], [0, 4]),
        (strings(["b", "", "ä☺", "a\n"]), ["b", "", "ä☺", "a\n"], ["c", "a"]),
    ],
)
def test_both_ways(ids, values, others):
    dtype = object if isinstance(values[0], str) else np.int64
    n = len(values)
    assert len(ids) == n and ids.at(slice(None)).tolist() == values
    assert ids.at(np.array([[n - 1, 0], [1, 1]])).tolist() == [
        [values[-1], values[0]],
        [values[1], values[1]],
    ]
    asked = np.array([*others, *reversed(values)], dtype)
    assert ids.find(asked).tolist() == [*([-1] * len(others)), *reversed(range(n))]
    more = ids.extended(np.array(others, dtype))
    assert more.at(slice(None)).tolist() == [*values, *others]
    assert more.find(asked).tolist() == [*range(n, n + len(others)), *reversed(range(n))]
    keep = np.array([i % 2 == 0 for i in range(len(more))])
    kept = more.of(more.at(keep))
    left = [value for value, there in zip([*values, *others], keep, strict=True) if there]
    assert kept.at(slice(None)).tolist() == left
    again = type(ids).read(more.arrays())
    assert again.at(slice(None)).tolist() == [*values, *others]
    assert ids.find(asked).tolist() == [*([-1] * len(others)), *reversed(range(n))]
