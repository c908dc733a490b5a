"""IMH against a dense eigenproblem."""

import numpy as np
import pytest
import scipy.linalg
import torch
from oracles import neighbours
from toy import toy_data

from pyg_hash.models import IMH, latent
from pyg_hash.models.latent import knn_laplacian, ridge_regression

BITS, K, WEIGHT, RIDGE = 6, 5, 0.3, 0.4


def dense_solution(data):
    """Eigenvectors of the matrix in the docstring, and both maps, with N x N matrices."""
    train = data["image"].train_mask
    views = [data[m].x[train].double() for m in ("image", "text")]
    n = len(views[0])
    matrix, inverses = torch.zeros(n, n).double(), []
    for x in views:
        near = neighbours(x, K, torch.ones(n, dtype=torch.bool))
        edges = torch.maximum(near, near.T)
        x = x - x.mean(dim=0)
        gram = x.T @ x
        inverse = torch.linalg.inv(gram + RIDGE * gram.trace() / len(gram) * torch.eye(len(gram)))
        matrix += torch.eye(n) - x @ inverse @ x.T
        matrix += WEIGHT * (torch.diag(edges.sum(dim=1)) - edges)
        inverses.append(inverse @ x.T)
    values, vectors = scipy.linalg.eigh(matrix.numpy())
    latent = torch.from_numpy(vectors[:, :BITS])
    return values, latent, [inverse @ latent for inverse in inverses]


def model_of(data, bits=BITS, **options):
    return IMH(data.num_features, bits, **{"k": K, "weight": WEIGHT, "ridge": RIDGE, **options})


def test_maps_are_those_of_the_dense_eigenproblem():
    data = toy_data(noise=0.7)
    model = model_of(data).solve(data)
    values, _, maps = dense_solution(data)
    assert np.diff(values[: BITS + 1]).min() > 1e-4  # no ties: each vector is one of its own
    for m, expected in zip(("image", "text"), maps, strict=True):
        ours = model.weight[m]
        flip = (ours * expected).sum(dim=0).sign()
        torch.testing.assert_close(ours.data, expected * flip, atol=1e-7, rtol=1e-5)


def test_signs_of_both_modalities_belong_together():
    data = toy_data(noise=0.7)
    model = model_of(data).solve(data)
    _, _, maps = dense_solution(data)
    bits = maps[0].abs().amax(dim=0) > 1e-9  # the constant eigenvector is all rounding
    assert bits.sum() >= BITS - 1
    flips = [
        (model.weight[m] * e).sum(dim=0).sign()[bits]
        for m, e in zip(("image", "text"), maps, strict=True)
    ]
    assert torch.equal(*flips)


def test_bits_of_training_items_are_balanced():
    data = toy_data(noise=0.7)
    model = model_of(data).solve(data)
    train = data["image"].train_mask
    for m in ("image", "text"):
        bits = model(data)[m].abs().amax(dim=0) > 1e-9  # the constant eigenvector is all rounding
        assert bits.sum() >= BITS - 1
        balance = model.encode(data, m)[train][:, bits].sum(dim=0)
        assert torch.equal(balance, torch.zeros_like(balance))


def test_laplacian():
    x = toy_data()["image"].x
    laplacian = knn_laplacian(x, 4, "cosine").toarray()
    near = neighbours(x, 4, torch.ones(60, dtype=torch.bool))
    edges = torch.maximum(near, near.T).numpy()
    np.testing.assert_array_equal(laplacian, np.diag(edges.sum(axis=1)) - edges)


def test_ridge_regression():
    x = toy_data()["text"].x.double()
    root, low_rank = ridge_regression(x, 0.5)
    gram = x.T @ x
    expected = torch.linalg.inv(gram + 0.5 * gram.trace() / len(gram) * torch.eye(len(gram)))
    torch.testing.assert_close(root @ root.T, expected)
    torch.testing.assert_close(low_rank, x @ root)


def test_the_graph_matters():
    data = toy_data()
    codes = [model_of(data, weight=w).solve(data).encode(data, "image") for w in (0.0, 1.0)]
    assert not torch.equal(*codes)


def test_thousands_of_rows_need_no_matrix_of_pairs():
    data = toy_data(6000, noise=2.0)
    model = model_of(data)
    largest, solver = [], latent.smallest_eigenvectors

    def spy(laplacian, scores, count):
        largest.extend([laplacian.nnz, *(q.size for q in scores)])
        return solver(laplacian, scores, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent, "smallest_eigenvectors", spy)
        model.solve(data)
    assert max(largest) < 6000 * 40


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k"), ({"weight": -1.0}, "weight"), ({"ridge": 0.0}, "ridge: expected a positive")],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        IMH((12, 9), 6, **options)


def test_too_few_pairs():
    data = toy_data()
    for options in ({"bits": 48}, {"k": 48}):
        with pytest.raises(ValueError, match="only 48 training pairs"):
            model_of(data, **options).solve(data)
