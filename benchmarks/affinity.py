"""SGEH's stage 1 at 20,000 pairs: time and extra memory, with a dense search beside it.

    python -m benchmarks.affinity [--short]

Features are planted: groups in a latent space, seen through a random ReLU layer with noise,
centred and of equal length, in two modalities (128 and 64 columns). k = 5, 20 turns at most,
float64, all other settings are the defaults. Neighbours are given: their search has a column of its
own. Each search runs in a process of its own, with features and neighbours in memory. The dense
search holds m x m float64 matrices: all pairs of distances, full rows in every step and LAPACK for
the c smallest eigenvectors. It takes the same steps, so its graph must be the same.
"""

import time
import warnings

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import pdist, squareform
from torch.nn.functional import normalize

import pyg_hash.transforms.affinity as sgeh
from benchmarks.measure import alone
from benchmarks.record import benchmark

K, MAX_ITER, WIDTHS, LATENT = 5, 20, (128, 64), 16
PLANTED = {  # pairs, groups, how far apart, clusters
    "20k, overlapping groups": (20_000, 20, 1.0, 10),
    "20k, groups that touch": (20_000, 20, 2.0, 20),
    "20k, hardly any groups": (20_000, 20, 0.3, 30),
    "2k": (2_000, 10, 1.0, 10),
    "400": (400, 6, 1.0, 6),
}
SHORT = {"tiny": (120, 3, 1.0, 4)}
DENSE = 2_000  # the most pairs that the dense search gets


def features(m, groups, spread, seed=0):
    """Two modalities of planted groups, float32 ``[m, d]``, rows of squared length 10."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(groups, (m,), generator=g)
    latent = spread * torch.randn(groups, LATENT, generator=g)[y]
    latent += torch.randn(m, LATENT, generator=g)
    views = []
    for width in WIDTHS:
        layer = torch.randn(LATENT, width, generator=g) / LATENT**0.5
        x = torch.relu(latent @ layer) + 0.6 * torch.randn(m, width, generator=g)
        views.append(10.0**0.5 * normalize(x - x.mean(0)))
    return views


def dense_search(views, c):
    """The same search with m x m matrices throughout: Z and the components of each turn."""
    found, m = [], len(views[0])
    support = np.zeros((m, m), dtype=bool)
    for x in views:
        b = squareform(pdist(x.double().numpy(), "sqeuclidean"))
        np.fill_diagonal(b, np.inf)
        order = np.argsort(b, axis=1, kind="stable")[:, : K + 1]
        np.put_along_axis(support, order[:, :K], True, axis=1)
        found.append((b, order))
    z = np.mean([sgeh.neighbour_weights(b, K) for b, _ in found], axis=0)
    weights, counts, lam = [0.5, 0.5], [], 1.0
    d = embedding_distances(z, c)
    for _ in range(MAX_ITER):
        s = [sgeh.update_view(*of, z, w) for of, w in zip(found, weights, strict=True)]
        weights = [sgeh.view_weight(z, view) for view in s]
        z = sgeh.update_unified(s, weights, d, lam, support)
        counts.append(sgeh.components(sp.csr_array(z))[0])
        if counts[-1] == c:
            break
        if counts[-1] < c:
            d = embedding_distances(z, c)
        lam *= 2.0 if counts[-1] < c else 0.5
    return z, counts


def embedding_distances(z, c):
    """All squared distances between the rows of the c smallest eigenvectors."""
    f = scipy.linalg.eigh(laplacian((z + z.T) / 2), subset_by_index=[0, c - 1])[1]
    return squareform(pdist(f, "sqeuclidean"))


def sparse_search(views, c):
    """The library's; the tables say whether c was reached."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sgeh.unified_affinity(views, c, K, max_iter=MAX_ITER, progress=False)


def prepare(kind, m, groups, spread, c):
    """A search with its neighbours found; the case tells how it went."""
    sparse_search(features(120, 3, 1.0), 4)
    views = features(m, groups, spread)
    start = time.perf_counter()
    given = [sgeh.nearest_neighbours(x, K) for x in views]
    searched = time.perf_counter() - start

    def sparse():
        graph = sparse_search(given, c)
        return {
            "components": [turn["num_components"] for turn in graph.history],
            "edges": len(graph.values),
            "worst residual": max(turn["residual"] or 0.0 for turn in graph.history),
            "kNN seconds, not included": searched,
        }

    return sparse if kind == "sparse" else lambda: {"components": dense_search(views, c)[1]}


@benchmark("The unified affinity graph", picture=False)
def main(record, args):
    rows, beside = [], []
    for name, case in (SHORT if args.short else PLANTED).items():
        m, *planted, c = case
        spent = alone(prepare, "sparse", *case)
        counts = spent.value.pop("components")
        row = {"case": name, "pairs": m, "clusters": c, "turns": len(counts)}
        row |= {"components": counts[-1], "seconds": spent.wall_seconds}
        row |= {"CPU seconds": spent.cpu_seconds, "extra MiB": spent.extra_bytes / 2**20}
        rows.append(row | spent.value)
        if m > DENSE:
            continue
        dense = alone(prepare, "dense", *case)
        views = features(m, *planted)
        graphs = sparse_search(views, c).to_dense().numpy(), dense_search(views, c)[0]
        parts = [sgeh.components(sp.csr_array(z))[1] for z in graphs]
        same = np.equal(*parts).all() and dense.value["components"] == counts
        seconds, size = dense.wall_seconds, dense.extra_bytes
        row = {"pairs": m, "dense seconds": seconds, "times as fast": seconds / spent.wall_seconds}
        row |= {"dense extra MiB": size / 2**20, "times as small": size / max(spent.extra_bytes, 1)}
        row["same components"] = "in every turn" if same else "no"
        beside.append(row | {"largest difference of Z": float(np.abs(np.subtract(*graphs)).max())})
    record.table("Searches", rows)
    record.table("Against the dense search", beside)
