"""Neighbour lists of the views, their union, and what is refused."""

import numpy as np
import pytest
import torch
from affinity_oracles import planted, squared_distances

from pyg_hash.transforms.affinity import Neighbours, candidates, nearest_neighbours


def lists(index):
    return [set(row.tolist()) for row in index]


def test_nearest_neighbours():
    (x, _), _ = planted(60, 3)
    view = nearest_neighbours(x, 4)
    expected = np.argsort(squared_distances(x), 1, kind="stable")[:, :5]
    np.testing.assert_array_equal(view.index.numpy(), expected)
    assert view.features is x


def test_candidates():
    xs, _ = planted(80, 3, seed=1)
    views = [nearest_neighbours(x, 4) for x in xs]
    found = candidates(views)
    distances = [squared_distances(x) for x in xs]
    near = [lists(v.index) for v in views]
    closest = [lists(v.index[:, :-1]) for v in views]
    valid = np.isfinite(found.distance[0])
    assert found.column.shape == (80, 10)
    for i in range(80):
        columns = found.column[i][valid[i]]
        assert (np.diff(columns) > 0).all()
        assert set(columns) == near[0][i] | near[1][i]
        assert set(found.column[i][found.support[i]]) == closest[0][i] | closest[1][i]
        for v, b in enumerate(distances):
            got = found.distance[v][i]
            np.testing.assert_allclose(got[valid[i]], b[i, columns], rtol=1e-12)
            assert np.isinf(got[~valid[i]]).all()
            order = found.order[v][i]
            assert (np.diff(got[order]) >= 0).all()
            assert set(found.column[i, order]) == near[v][i]


def test_distances_block_by_block(monkeypatch):
    xs, _ = planted(50, 3)
    views = [nearest_neighbours(x, 3) for x in xs]
    whole = candidates(views)
    monkeypatch.setattr("pyg_hash.transforms.affinity._CHUNK_ELEMENTS", 100)
    parts = candidates(views)
    for a, b in zip(whole.distance, parts.distance, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_order_of_the_given_neighbours_does_not_matter():
    xs, _ = planted(50, 3)
    views = [nearest_neighbours(x, 3) for x in xs]
    turned = [Neighbours(v.features, v.index.flip(1)) for v in views]
    first, second = candidates(views), candidates(turned)
    np.testing.assert_array_equal(first.support, second.support)
    for name in ("distance", "order"):
        for a, b in zip(getattr(first, name), getattr(second, name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_duplicates_are_neighbours_at_distance_zero():
    x = torch.randn(10, 3)
    x[5] = x[2]
    found = candidates([nearest_neighbours(x, 2), nearest_neighbours(x, 3)])
    place = int(np.flatnonzero(found.column[2] == 5)[0])
    assert found.distance[0][2, place] == found.distance[1][2, place] == 0.0


def test_bad_rows():
    x = torch.randn(6, 2)
    assert nearest_neighbours(x, 4).index.shape == (6, 5)
    with pytest.raises(ValueError, match="k: 5 neighbours need at least 7 rows .* has 6; use k <="):
        nearest_neighbours(x, 5)
    with pytest.raises(ValueError, match="x: 1 of 6 rows contain NaN"):
        nearest_neighbours(x.index_fill(0, torch.tensor([2]), torch.nan), 2)
    with pytest.raises(TypeError, match="k: expected a positive integer"):
        nearest_neighbours(x, 2.0)
