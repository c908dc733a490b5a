"""CMFH: every turn is the least-squares solution, and none raises the objective."""

import pytest
import torch
from small import assert_same_codes
from toy import toy_data

from pyg_hash.codes import binarize
from pyg_hash.models import CMFH


def views(n=48):
    data = toy_data(n)
    return tuple(data[m].x.double() - data[m].x.double().mean(dim=0) for m in ("image", "text"))


def objective(model, x, v, u, p):
    """As the docstring has it, entry by entry."""
    lambdas = {0: model.share, 1: 1 - model.share}
    total = model.gamma * sum(float(e) ** 2 for e in v.flatten())
    for m in (0, 1):
        total += lambdas[m] * torch.linalg.matrix_norm(x[m] - v @ u[m]).item() ** 2
        total += model.mu * torch.linalg.matrix_norm(v - x[m] @ p[m]).item() ** 2
        norms = [torch.linalg.matrix_norm(a[m]).item() ** 2 for a in (u, p)]
        total += model.gamma * sum(norms)
    return total


@pytest.mark.parametrize("share", [0.5, 0.8, 0.0])
@pytest.mark.parametrize(("mu", "gamma"), [(100.0, 0.01), (1.0, 1.0)])
def test_the_objective_never_rises(share, mu, gamma):
    model = CMFH((12, 9), 6, share=share, mu=mu, gamma=gamma, iterations=30, tolerance=0.0)
    x = views()
    latent, loadings, maps, objectives = model.factorise(x)
    assert all(b <= a * (1 + 1e-12) for a, b in zip(objectives, objectives[1:], strict=False))
    assert objectives[-1] < objectives[0]
    expected = objective(model, x, latent, loadings, maps)
    assert objectives[-1] == pytest.approx(expected)


def test_a_turn_is_the_minimum_for_what_it_had():
    """One turn from the seeded start: loadings and maps for that start, then V for them."""
    model = CMFH((12, 9), 6, share=0.5, mu=3.0, gamma=0.5, iterations=1, seed=2)
    x = views()
    found, loadings, maps, _ = model.factorise(x)
    start = torch.randn(48, 6, generator=torch.Generator().manual_seed(2)).double()

    def gradient(latent):
        leaves = {
            "latent": latent.clone(),
            "u0": loadings[0].clone(),
            "u1": loadings[1].clone(),
            "p0": maps[0].clone(),
            "p1": maps[1].clone(),
        }
        leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
        v = leaves["latent"]
        total = model.gamma * v.square().sum()
        for m in (0, 1):
            u, p = leaves[f"u{m}"], leaves[f"p{m}"]
            total = total + 0.5 * (x[m] - v @ u).square().sum()
            total = total + model.mu * (v - x[m] @ p).square().sum()
            total = total + model.gamma * (u.square().sum() + p.square().sum())
        total.backward()
        return {name: leaf.grad.abs().max().item() for name, leaf in leaves.items()}

    first = gradient(start)
    assert max(first[name] for name in ("u0", "u1", "p0", "p1")) < 1e-10
    assert first["latent"] > 1.0
    assert gradient(found)["latent"] < 1e-10


def test_it_stops_where_little_is_gained():
    short = CMFH((12, 9), 6, tolerance=0.5).factorise(views())[-1]
    long = CMFH((12, 9), 6, tolerance=1e-6).factorise(views())[-1]
    assert len(short) < len(long) <= 100
    assert (long[-2] - long[-1]) <= 1e-6 * long[-2] or len(long) == 100


def test_codes_are_the_maps_of_centred_features():
    data = toy_data()
    model = CMFH(data.num_features, 6, seed=4).solve(data)
    train = data["image"].train_mask
    centred = tuple(
        data[m].x[train].double() - data[m].x[train].double().mean(dim=0) for m in ("image", "text")
    )
    maps = model.factorise(centred)[2]
    mean = data["text"].x[train].double().mean(dim=0)
    relaxed = (data["text"].x.double() - mean) @ maps[1]
    assert_same_codes(model.encode(data, "text"), binarize(relaxed), relaxed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, "share"),
        ({"mu": 0.0}, "expected a positive, finite number"),
        ({"gamma": 0.0}, "expected a positive, finite number"),
        ({"gamma": -1.0}, "gamma"),
        ({"iterations": 0}, "iterations"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        CMFH((12, 9), 6, **options)
