"""Neighbour lists of the views, their union, and what is refused."""

import numpy as np
import pytest
import torch
from affinity_oracles import planted, squared_distances

from pyg_hash.knn import knn
from pyg_hash.transforms.affinity import Neighbours, nearest_neighbours
from pyg_hash.transforms.affinity.neighbours import candidates, check_neighbours


def lists(view):
    return [set(row.tolist()) for row in view.index]


def test_nearest_neighbours():
    (x, _), _ = planted(60, 3)
    view = nearest_neighbours(x, 4)
    b = squared_distances(x)
    assert view.index.shape == view.distance.shape == (60, 5)
    np.testing.assert_array_equal(view.index.numpy(), np.argsort(b, 1, kind="stable")[:, :5])
    np.testing.assert_allclose(view.distance.numpy(), np.sort(b, 1)[:, :5], rtol=1e-5)
    assert view.features is x


def test_the_documented_way_to_make_one():
    (x, _), _ = planted(40, 3)
    view = Neighbours(*knn(x, x, 6, metric="l2", exclude_self=True), x)
    check_neighbours(view, 5, "views[0]")
    assert torch.equal(view.index, nearest_neighbours(x, 5).index)


@pytest.mark.parametrize("with_features", [True, False])
def test_candidates(with_features):
    xs, _ = planted(80, 3, seed=1)
    views = [nearest_neighbours(x, 4) for x in xs]
    if not with_features:
        views = [Neighbours(v.distance.double(), v.index) for v in views]
    found = candidates(views)
    distances = [squared_distances(x) for x in xs]
    near = [lists(v) for v in views]
    closest = [lists(Neighbours(v.distance, v.index[:, :-1])) for v in views]
    assert found.column.shape == (80, 10)
    for i in range(80):
        columns = found.column[i][found.valid[i]]
        assert (np.diff(columns) > 0).all()
        assert set(columns) == near[0][i] | near[1][i]
        assert set(found.column[i][found.support[i]]) == closest[0][i] | closest[1][i]
        for v, b in enumerate(distances):
            got = found.distance[v][i]
            assert np.isinf(got[~found.valid[i]]).all()
            for place in np.flatnonzero(found.valid[i]):
                j = found.column[i, place]
                if with_features or j in near[v][i]:
                    tolerance = 1e-12 if with_features else 1e-5
                    assert got[place] == pytest.approx(b[i, j], rel=tolerance)
                else:
                    assert np.isinf(got[place])
            order = found.order[v][i]
            assert (np.diff(got[order]) >= 0).all()
            assert set(found.column[i, order]) == near[v][i]


def test_distances_block_by_block(monkeypatch):
    xs, _ = planted(50, 3)
    views = [nearest_neighbours(x, 3) for x in xs]
    whole = candidates(views)
    monkeypatch.setattr("pyg_hash.transforms.affinity.neighbours._CHUNK_ELEMENTS", 100)
    parts = candidates(views)
    for a, b in zip(whole.distance, parts.distance, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_order_of_the_given_neighbours_does_not_matter():
    xs, _ = planted(50, 3)
    views = [nearest_neighbours(x, 3) for x in xs]
    turned = [Neighbours(v.distance.flip(1), v.index.flip(1), v.features) for v in views]
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


def good():
    (x, _), _ = planted(20, 2)
    return nearest_neighbours(x, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"distance": lambda v: v.distance.int()}, TypeError, "v.distance: expected a floating"),
        ({"distance": lambda v: v.distance.tolist()}, TypeError, "v.distance: expected a floating"),
        ({"index": lambda v: v.index.int()}, TypeError, "v.index: expected an int64"),
        ({"index": lambda v: v.index[:, :3]}, ValueError, r"shape \[m, 4\].*got \[20, 4\] and"),
        ({"distance": lambda v: v.distance - 1e3}, ValueError, "at least 0"),
        ({"distance": lambda v: v.distance * torch.nan}, ValueError, "finite"),
        ({"index": lambda v: v.index + 20}, ValueError, "v.index: expected row numbers 0..19"),
        ({"index": lambda v: v.index - 20}, ValueError, "v.index: expected row numbers"),
        ({"index": lambda v: v.index[:, :1].expand(20, 4)}, ValueError, "same neighbour twice"),
        ({"features": lambda v: v.features[:5]}, ValueError, "v.features: has 5 rows, but .* 20"),
        ({"features": lambda v: v.features * torch.inf}, ValueError, "v.features: 20 of 20 rows"),
    ],
)
def test_bad_neighbours(change, error, message):
    view = good()
    fields = {"distance": view.distance, "index": view.index, "features": view.features}
    fields |= {name: make(view) for name, make in change.items()}
    with pytest.raises(error, match=message):
        check_neighbours(Neighbours(**fields), 3, "v")


def test_own_neighbour():
    view = good()
    index = view.index.clone()
    index[7, 0] = 7
    with pytest.raises(ValueError, match="own neighbour; use knn"):
        check_neighbours(Neighbours(view.distance, index), 3, "v")


def test_too_few_rows():
    x = torch.randn(6, 2)
    assert nearest_neighbours(x, 4).index.shape == (6, 5)
    with pytest.raises(ValueError, match="k: 5 neighbours need at least 7 rows .* got 6; use k <="):
        nearest_neighbours(x, 5)
    with pytest.raises(ValueError, match="x: 1 of 6 rows contain NaN"):
        nearest_neighbours(x.index_fill(0, torch.tensor([2]), torch.nan), 2)
    with pytest.raises(TypeError, match="k: expected a positive integer"):
        nearest_neighbours(x, 2.0)
