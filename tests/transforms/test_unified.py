"""The whole search against a dense float64 reference, and what it must not depend on."""

import json
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from affinity_oracles import count_components, dense_affinity, planted, squared_distances

from pyg_hash.transforms.affinity import (
    nearest_neighbours,
    neighbour_weights,
    smallest_eigenvectors,
    unified_affinity,
)

CASES = [
    (6, 2.0, 0, {}),
    (4, 1.0, 1, {}),
    (10, 2.0, 3, {}),
    (8, 3.0, 1, {}),  # too many components on the way: lambda is halved
    (6, 2.0, 0, {"rank": "gmc"}),
    (6, 2.0, 1, {"u_step": "gmc"}),
    (6, 2.0, 1, {"weight_rule": "paper"}),
    (5, 1.5, 2, {"rank": "gmc", "u_step": "gmc", "weight_rule": "paper", "k": 7}),
    (5, 1.5, 2, {"lam": 30.0, "k": 3}),
]


@pytest.fixture(params=["dense", "lanczos"])
def solver(request, monkeypatch):
    """Which eigensolver is used at 250 rows."""
    rows = 1000 if request.param == "dense" else 0
    monkeypatch.setitem(smallest_eigenvectors.__kwdefaults__, "dense_rows", rows)
    return request.param


@pytest.fixture(scope="module")
def oracle():
    """Dense results, computed once for both solvers."""
    known = {}

    def get(c, spread, seed, options):
        key = json.dumps((c, spread, seed, options))
        if key not in known:
            views, _ = planted(250, 6, spread=spread, seed=seed)
            known[key] = views, dense_affinity(views, c, **options)
        return known[key]

    return get


def search(views, c, k=5, **options):
    return unified_affinity(views, c, k, progress=False, **options)


@pytest.mark.parametrize(("c", "spread", "seed", "options"), CASES)
def test_dense_reference(c, spread, seed, options, solver, oracle):
    views, expected = oracle(c, spread, seed, options)
    found = search(views, c, **options)
    assert [row["num_components"] for row in found.history] == expected.counts
    assert [row["lam"] for row in found.history] == expected.lams
    assert found.converged and found.num_components == c == expected.counts[-1]
    assert found.iterations == len(expected.counts) > 1
    assert (found.cluster.numpy() == expected.label).all()
    assert np.abs(found.to_dense().numpy() - expected.z).max() < 1e-6
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)
    assert all((row["residual"] or 0.0) < 1e-6 for row in found.history)


def test_lambda_is_halved_in_some_case(oracle):
    counts = oracle(8, 3.0, 1, {})[1].counts
    assert any(count > 8 for count in counts)


@pytest.mark.parametrize("seed", range(8))
def test_properties(seed):
    rng = np.random.default_rng(seed)
    m, k, c = int(rng.integers(40, 160)), int(rng.integers(2, 8)), int(rng.integers(2, 6))
    views, _ = planted(m, 3, spread=float(rng.uniform(0.3, 1.0)), seed=seed, widths=(9, 5))
    graph = search(views, c, k, max_iter=60)
    z = graph.to_dense().numpy()
    assert graph.converged
    assert (graph.values > 0).all()
    np.testing.assert_allclose(z.sum(1), 1.0, atol=1e-10)
    assert (np.diag(z) == 0).all()
    assert ((z > 0).sum(1) <= 2 * k).all()
    count, label = count_components(z)
    assert count == c == graph.num_components
    assert (label == graph.cluster.numpy()).all()
    allowed = np.zeros((m, m), dtype=bool)
    for x in views:
        order = np.argsort(squared_distances(x), 1, kind="stable")[:, :k]
        np.put_along_axis(allowed, order, True, axis=1)
    assert not (z > 0)[~allowed].any()


def test_csr_parts():
    views, _ = planted(100, 4)
    graph = search(views, 5)
    assert graph.indptr.dtype == graph.indices.dtype == graph.cluster.dtype == torch.int64
    assert graph.values.dtype == torch.float64
    assert graph.indptr.shape == (101,)
    assert int(graph.indptr[-1]) == graph.indices.numel() == graph.values.numel()
    row, column = graph.edge_index
    key = row * 100 + column
    assert bool((key[1:] > key[:-1]).all())
    parts = (graph.values.numpy(), graph.indices.numpy(), graph.indptr.numpy())
    np.testing.assert_array_equal(sp.csr_array(parts).toarray(), graph.to_dense().numpy())


def test_history_is_json():
    views, _ = planted(100, 4)
    graph = search(views, 5)
    assert json.loads(json.dumps(graph.history)) == graph.history
    last = graph.history[-1]
    assert last["iteration"] == graph.iterations == len(graph.history)
    assert last["num_components"] == 5
    assert last["lam"] == graph.lam
    assert last["weights"] == graph.weights
    assert last["largest_component"] == int(graph.cluster.bincount().max())
    assert last["num_edges"] == graph.values.numel()
    assert last["eigenvalue_sum"] is None, "no eigenvectors are needed at the end"
    assert graph.history[0]["eigenvalue_sum"] > 0


def test_recovers_well_separated_groups():
    views, y = planted(240, 4, spread=8.0, seed=2)
    graph = search(views, 4, k=25)
    assert graph.converged
    pairs = {(int(a), int(b)) for a, b in zip(graph.cluster, y, strict=True)}
    assert len(pairs) == 4


def test_components_that_are_there_already():
    views, _ = planted(120, 2, spread=20.0)
    graph = search(views, 2, k=40)
    assert graph.converged and graph.iterations == 1
    assert graph.history[0]["residual"] is None


def test_one_cluster():
    views, _ = planted(80, 2, spread=0.2)
    graph = search(views, 1)
    assert graph.converged and graph.iterations == 1
    assert (graph.cluster == 0).all()


# --- what must not matter


def test_same_bits_twice(solver):
    views, _ = planted(300, 5, seed=4)
    first, second = search(views, 7), search(views, 7)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.indices, second.indices)
    assert first.history == second.history


def test_global_random_state_is_left_alone():
    views, _ = planted(60, 3)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    search(views, 4)
    assert (torch.rand(1), np.random.rand()) == expected


def test_order_of_the_rows():
    views, _ = planted(150, 4, seed=6)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    straight, turned = search(views, 5), search([x[order] for x in views], 5)
    expected = straight.to_dense()[order][:, order]
    torch.testing.assert_close(turned.to_dense(), expected, rtol=0, atol=1e-8)
    same = straight.cluster[order]
    assert torch.equal(same[:, None] == same, turned.cluster[:, None] == turned.cluster)


def test_order_of_the_views():
    views, _ = planted(150, 4, seed=6)
    first, second = search(views, 5), search(views[::-1], 5)
    torch.testing.assert_close(first.to_dense(), second.to_dense(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(first.weights, second.weights[::-1])


def test_rotation_and_origin_of_features():
    views, _ = planted(150, 4, seed=6)
    moved = []
    for x in views:
        turn = torch.linalg.qr(torch.randn(x.size(1), x.size(1), dtype=torch.float64))[0]
        moved.append(x.double() @ turn + 3.0)
    first, second = search([x.double() for x in views], 5), search(moved, 5)
    torch.testing.assert_close(first.to_dense(), second.to_dense(), rtol=0, atol=1e-7)


def test_scale_of_features_where_weights_play_no_part():
    # the first graphs do not depend on the scale (Eq. 4), the S-step does: b against w z
    views, _ = planted(200, 2, spread=20.0, seed=1)
    first, large, larger = (search([scale * x for x in views], 2, 40) for scale in (1, 1e4, 1e5))
    torch.testing.assert_close(large.to_dense(), larger.to_dense(), rtol=0, atol=1e-6)
    assert torch.equal(first.cluster, large.cluster)


def test_single_and_half_precision_features():
    views, _ = planted(100, 3, seed=3)
    half = [x.half() for x in views]
    first, second = search(half, 4), search([x.float() for x in half], 4)
    torch.testing.assert_close(first.to_dense(), second.to_dense(), rtol=0, atol=1e-8)


def test_identical_views():
    (x, _), _ = planted(120, 3, seed=3)
    # their weights grow without bound, so no lambda moves Z away from them: that is Eq. 19
    with pytest.warns(UserWarning, match="3 components after 20 turns instead of 4"):
        graph = search([x, x], 4)
    assert graph.weights[0] == graph.weights[1] < np.inf
    common = neighbour_weights(squared_distances(x), 5)
    np.testing.assert_allclose(graph.to_dense(), common, atol=1e-2)


def test_three_views():
    views, _ = planted(200, 4, seed=3, widths=(9, 7, 5))
    graph, expected = search(views, 5), dense_affinity(views, 5)
    assert np.abs(graph.to_dense().numpy() - expected.z).max() < 1e-6
    assert len(graph.weights) == 3


def test_a_view_of_noise_weighs_less():
    (x, y), _ = planted(300, 3, seed=3)
    noise = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    graph = search([x, y, noise * (10**0.5) / noise.norm(dim=1, keepdim=True)], 3)
    assert graph.weights[2] < min(graph.weights[:2])


def test_duplicates():
    views, _ = planted(120, 3, seed=3)
    for x in views:
        x[40:60] = x[40]  # twenty equal pairs: their neighbours are all at distance zero
    graph = search(views, 4)
    assert bool(torch.isfinite(graph.values).all())
    np.testing.assert_allclose(graph.to_dense().sum(1), 1.0, atol=1e-10)


# --- neighbours that are given


def test_given_neighbours():
    views, _ = planted(150, 4, seed=2)
    expected = search(views, 5)
    mixed = search([nearest_neighbours(views[0], 5), views[1]], 5)
    assert torch.equal(mixed.values, expected.values)


def test_memory_is_linear():
    m = 2500
    views, _ = planted(m, 5, spread=6.0, seed=0)
    given = [nearest_neighbours(x, 5) for x in views]
    tracemalloc.start()
    with pytest.warns(UserWarning, match="after 2 turns"):
        search(given, 40, max_iter=2, tol=1e-5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * m * m * 8, "a part of one dense matrix"
