"""SCM against matrices of all pairs, which it never makes itself."""

import pytest
import scipy.linalg
import torch
from toy import toy_data

from pyg_hash.models import SCM
from pyg_hash.models.canonical import orthogonal_directions, sequential_directions, whitener
from pyg_hash.transforms import LabelRate


def views(multi_label=False, n=60, widths=(7, 6), seed=0):
    """Whitened views and labels."""
    data = toy_data(n, multi_label=multi_label, features=widths, seed=seed)
    y = data["image"].y
    labels = (torch.nn.functional.one_hot(y) if y.dim() == 1 else y).double()
    white = []
    for m in ("image", "text"):
        x = data[m].x.double() - data[m].x.double().mean(dim=0)
        white.append(x @ whitener(x.T @ x / n, 0.3))
    return tuple(white), labels


def similarity(labels):
    """2 L L^T - 1 of rows of length one."""
    unit = labels / labels.norm(dim=1, keepdim=True)
    return 2 * unit @ unit.T - 1


def sign(x):
    return torch.where(x >= 0, 1.0, -1.0).double()


@pytest.mark.parametrize("multi_label", [False, True])
def test_sequential_bits_are_those_of_the_dense_residual(multi_label):
    (x, y), labels = views(multi_label)
    bits = 10
    ours = sequential_directions((x, y), labels, bits)
    residual = bits * similarity(labels)
    for t in range(bits):
        left, values, right = torch.linalg.svd(x.T @ residual @ y)
        for found, expected in ((ours[0][:, t], left[:, 0]), (ours[1][:, t], right[0])):
            assert abs(float(found @ expected)) == pytest.approx(1.0, abs=1e-8)
        # as a pair the sign is fixed: the product of both is
        assert float(ours[0][:, t] @ (x.T @ residual @ y) @ ours[1][:, t]) == pytest.approx(
            float(values[0])
        )
        residual = residual - sign(x @ ours[0][:, t])[:, None] * sign(y @ ours[1][:, t])[None]


def test_every_bit_takes_from_the_residual():
    (x, y), labels = views(n=200)
    target = 8 * similarity(labels)
    u, v = sequential_directions((x, y), labels, 8)
    image, text = sign(x @ u), sign(y @ v)
    errors = [float((target - image[:, :t] @ text[:, :t].T).square().sum()) for t in range(9)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("multi_label", [False, True])
def test_orthogonal_directions_solve_the_generalised_eigenproblem(multi_label):
    """C_xy C_yy^-1 C_yx w = lambda^2 C_xx w, on features that are not whitened."""
    data = toy_data(multi_label=multi_label)
    model = SCM(data.num_features, 4, 3, variant="orthogonal", ridge=0.2).solve(data)
    train = data["image"].train_mask
    y = data["image"].y[train]
    labels = (torch.nn.functional.one_hot(y) if y.dim() == 1 else y).double()
    views, covariances = [], []
    for m in ("image", "text"):
        x = data[m].x[train].double()
        x = x - x.mean(dim=0)
        c = x.T @ x / len(x)
        views.append(x)
        covariances.append(c + 0.2 * c.trace() / len(c) * torch.eye(len(c)).double())
    cross = views[0].T @ similarity(labels) @ views[1]
    matrix = cross @ torch.linalg.solve(covariances[1], cross.T)
    values, vectors = scipy.linalg.eigh(matrix.numpy(), covariances[0].numpy())
    for t in range(3):
        expected = torch.from_numpy(vectors[:, -1 - t])
        ours = model.weight["image"][:, t]
        cosine = torch.cosine_similarity(ours, expected, dim=0)
        assert abs(float(cosine)) == pytest.approx(1.0, abs=1e-4)  # the order of ties costs a bit
        value = float(ours @ cross @ model.weight["text"][:, t]) ** 2
        assert value == pytest.approx(values[-1 - t], rel=1e-4)


def test_beyond_the_classes_the_correlation_decides():
    (x, y), labels = views()
    u, v = orthogonal_directions((x, y), labels, 6)
    torch.testing.assert_close(u.T @ u, torch.eye(6).double(), atol=1e-10, rtol=0)
    product = u.T @ x.T @ y @ v
    left = product[4:, 4:].diagonal()
    assert bool((left > 0).all()) and float(left[0]) > float(left[1])


def test_no_matrix_of_pairs_is_made():
    (x, y), labels = views(n=40)
    many = 4000  # its pairs would take 128 MB
    x, y, labels = (t.repeat(many // 40, 1) for t in (x, y, labels))
    sizes = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in [out] if isinstance(t, torch.Tensor))
            return out

    with Spy():
        sequential_directions((x, y), labels, 4)
        orthogonal_directions((x, y), labels, 4)
    assert max(sizes) <= many * 7


def test_only_labelled_rows_take_part():
    data = LabelRate(0.5, seed=1)(toy_data())
    model = SCM(data.num_features, 4, 8).solve(data)
    for m in ("image", "text"):
        data[m].x = torch.where(data[m].labeled_mask[:, None], data[m].x, -9.0)
    again = SCM(data.num_features, 4, 8).solve(data)
    assert torch.equal(model.weight["image"], again.weight["image"])


def test_bad_arguments():
    with pytest.raises(ValueError, match="variant"):
        SCM((12, 9), 4, variant="both")
    with pytest.raises(ValueError, match="ridge"):
        SCM((12, 9), 4, ridge=-1.0)
    data = toy_data()
    with pytest.raises(ValueError, match=r"10 orthogonal directions.* only 9.*'sequential'"):
        SCM(data.num_features, 4, 10, variant="orthogonal").solve(data)
    assert SCM(data.num_features, 4, 40).solve(data).encode(data, "text").shape == (60, 40)
