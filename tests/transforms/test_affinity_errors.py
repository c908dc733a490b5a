"""Bad input, unreachable clusters, and searches that end without a result."""

import io
from contextlib import redirect_stderr

import numpy as np
import pytest
import torch
from affinity_oracles import planted

from pyg_hash.transforms.affinity import nearest_neighbours, unified_affinity


def views(m=60, **kwargs):
    return planted(m, 3, **kwargs)[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_clusters": 0}, ValueError, "num_clusters: expected a positive integer, got 0"),
        ({"num_clusters": 2.0}, TypeError, "num_clusters: expected a positive integer, got 2.0"),
        ({"num_clusters": True}, TypeError, "num_clusters: expected a positive integer"),
        ({"k": 0}, ValueError, "k: expected a positive integer"),
        ({"k": 59}, ValueError, "k: 59 neighbours need at least 61 rows"),
        ({"max_iter": 0}, ValueError, "max_iter: expected a positive integer"),
        ({"rank": "exact"}, ValueError, "rank: 'exact' is not known; use one of 'effective'"),
        ({"weight_rule": "gcm"}, ValueError, "weight_rule: 'gcm' is not known"),
        ({"u_step": "newton"}, ValueError, "u_step: 'newton' is not known"),
        ({"lam": 0.0}, ValueError, "lam: expected a positive, finite number, got 0.0"),
        ({"lam": float("nan")}, ValueError, "lam: expected a positive, finite number, got nan"),
        ({"lam": "1"}, TypeError, "lam: expected a number"),
        ({"tol": -1e-9}, ValueError, "tol: expected a positive, finite number"),
    ],
)
def test_options(options, error, message):
    arguments = {"num_clusters": 3, "progress": False, **options}
    with pytest.raises(error, match=message):
        unified_affinity(views(), **arguments)


def test_one_view():
    with pytest.raises(ValueError, match="views: expected two or more"):
        unified_affinity(views()[:1], 3)
    with pytest.raises(ValueError, match="views: expected two or more"):
        unified_affinity(torch.randn(5, 3), 3)


def test_rows_that_do_not_match():
    x, y = views()
    with pytest.raises(ValueError, match="views: 60, 50 rows; row i of all must be the same"):
        unified_affinity([x, y[:50]], 3)
    with pytest.raises(ValueError, match="views: 50, 60 rows"):
        unified_affinity([nearest_neighbours(x[:50], 5), y], 3)


def test_values():
    x, y = views()
    y[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"views\[1\].*NaN or inf .first: row 3"):
        unified_affinity([x, y], 3)
    with pytest.raises(TypeError, match=r"views\[0\]: expected a floating-point tensor"):
        unified_affinity([x.int(), x], 3)
    with pytest.raises(TypeError, match=r"views\[1\]: expected a floating-point tensor"):
        unified_affinity([x, x.numpy()], 3)


def test_given_neighbours_of_another_k():
    given = [nearest_neighbours(x, 4) for x in views()]
    with pytest.raises(ValueError, match=r"views\[0\]: has 4 neighbours a row, not k=5; make it"):
        unified_affinity(given, 3, 5)


def test_more_clusters_than_rows_allow():
    with pytest.raises(ValueError, match="31 components of 60 rows .* at least two.* <= 30"):
        unified_affinity(views(), 31)


def test_more_components_than_clusters():
    with pytest.raises(
        ValueError, match="2 components asked for.*already has 3.*num_clusters >= 3"
    ):
        unified_affinity(views(spread=50.0), 2)
    assert unified_affinity(views(spread=50.0), 3, progress=False).converged


def test_the_message_of_components_is_right_also_with_ties():
    # three groups of equal rows, far apart; each row's neighbours are at distance zero
    x = torch.arange(3).repeat_interleave(8)[:, None].float()
    with pytest.raises(ValueError, match="already has 3"):
        unified_affinity([x, x], 2, 3)


def test_more_clusters_than_eigenvectors_can_be_found(monkeypatch):
    monkeypatch.setattr("pyg_hash.transforms.affinity._MANY_ROWS", 50)
    with pytest.raises(
        ValueError, match="11 eigenvectors of 60 rows take too long; .*<= 10, or at most 50"
    ):
        unified_affinity(views(), 11)
    assert unified_affinity(views(), 10, progress=False).num_components > 1


def test_unreachable_clusters_are_reported():
    x = torch.tensor([0.0, 1.0, 0.5, 50.0, 51.0, 50.5])[:, None]  # a triangle cannot be divided
    with pytest.warns(UserWarning, match="2 components after 4 turns instead of 3; raise") as seen:
        graph = unified_affinity([x, x], 3, 2, max_iter=4, progress=False)
    assert not graph.converged
    assert graph.num_components == 2 and graph.iterations == 4
    assert [row["lam"] for row in graph.history] == [1.0, 2.0, 4.0, 8.0]
    assert graph.lam == 8.0
    np.testing.assert_allclose(graph.to_dense().sum(1), 1.0, atol=1e-10)
    assert "[2, 2, 2, 2]" in str(seen[0].message)
    assert seen[0].filename == __file__


def test_progress_bar():
    out = io.StringIO()
    with redirect_stderr(out):
        graph = unified_affinity(views(), 4)
    assert "affinity:" in out.getvalue()
    assert f"components={graph.num_components}/4" in out.getvalue()
    out = io.StringIO()
    with redirect_stderr(out):
        unified_affinity(views(), 4, progress=False)
    assert out.getvalue() == ""
