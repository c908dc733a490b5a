"""DCMH: its objective pair by pair, and what each step of an epoch holds constant."""

import math

import pytest
import torch
from small import graph_for, model_for
from toy import toy_data

from pyg_hash.metrics import evaluate
from pyg_hash.models import DCMH
from pyg_hash.training import fit
from pyg_hash.typing import HashOutput


def equation_1(f, g, similar, b, gamma, eta):
    """Eq. 1 with loops over the pairs."""
    n, bits = f.shape
    likelihood = quantization = 0.0
    for i in range(n):
        for j in range(n):
            theta = 0.5 * sum(float(f[i, t]) * float(g[j, t]) for t in range(bits))
            likelihood += math.log1p(math.exp(theta)) - float(similar[i, j]) * theta
        for t in range(bits):
            quantization += float(b[i, t] - f[i, t]) ** 2 + float(b[i, t] - g[i, t]) ** 2
    balance = sum(float(f[:, t].sum()) ** 2 + float(g[:, t].sum()) ** 2 for t in range(bits))
    return likelihood, quantization, balance, likelihood + gamma * quantization + eta * balance


def similarity(data, rows):
    y = data["image"].y[rows]
    if y.dim() == 1:
        return y[:, None] == y[None]
    return y @ y.T > 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_loss_is_equation_1(multi_label):
    data = graph_for(DCMH, multi_label=multi_label)
    model = model_for(DCMH, data, gamma=0.7, eta=0.3).double().eval()
    generator = torch.Generator().manual_seed(0)
    codes = [2 * torch.rand(60, 12, generator=generator).double() - 1 for _ in range(2)]
    terms = model.loss(HashOutput(*codes), data)
    rows = data["image"].labeled_mask.nonzero().flatten()
    f, g = (c[rows] for c in codes)
    b = torch.where(f + g >= 0, 1.0, -1.0)
    expected = equation_1(f, g, similarity(data, rows), b, 0.7, 0.3)
    for name, value in zip(
        ("likelihood", "quantization", "balance", "loss"), expected, strict=True
    ):
        assert float(terms[name]) == pytest.approx(value / len(rows) ** 2), name


def test_steps_of_one_batch_have_the_gradient_of_equation_1():
    """With all items in one batch: dJ/dF for the images' step, dJ/dG for the texts'."""
    data = graph_for(DCMH)
    model = model_for(DCMH, data, gamma=0.7, eta=0.3, dropout=0.0, batch_size=100).double()
    for m in ("image", "text"):
        data[m].x = data[m].x.double()
    whole = model.loss(model(data), data)["loss"]
    gradients = {}
    for m, parameters in model.parts().items():
        gradients[m] = torch.autograd.grad(whole, parameters, retain_graph=True)
    for terms, part in model.objectives(data, 0):
        ours = torch.autograd.grad(terms["loss"], model.parts()[part])
        for found, expected in zip(ours, gradients[part], strict=True):
            torch.testing.assert_close(found, expected)


def test_batches_divide_by_their_pairs():
    """A step's likelihood is the mean over its rows against all items of the other modality."""
    data = graph_for(DCMH)
    model = model_for(DCMH, data, dropout=0.0, batch_size=5).eval()
    rows = data["image"].labeled_mask.nonzero().flatten()
    torch.manual_seed(0)
    order = torch.randperm(len(rows))
    torch.manual_seed(0)
    first = next(iter(model.objectives(data, 0)))
    known = model(data)
    f, g = known.image[rows].detach().double(), known.text[rows].detach().double()
    batch = order[:5]
    theta = 0.5 * f[batch] @ g.T
    similar = similarity(data, rows)[batch]
    pairs = 5 * len(rows)
    likelihood = (torch.nn.functional.softplus(theta) - similar * theta).sum() / pairs
    code = torch.where(f + g >= 0, 1.0, -1.0)[batch]
    expected = {
        "likelihood": likelihood,
        "quantization": (code - f[batch]).square().sum() / pairs,
        "balance": f.sum(dim=0).square().sum() / pairs,
    }
    assert first.part == "image"
    for name, value in expected.items():
        assert float(first.terms[name].detach()) == pytest.approx(
            float(value.detach()), rel=1e-5
        ), name


def test_an_epoch_is_the_images_then_the_texts():
    data = graph_for(DCMH)
    model = model_for(DCMH, data, batch_size=10)
    count = math.ceil(int(data["image"].labeled_mask.sum()) / 10)
    parts = [part for _, part in model.objectives(data, 0)]
    assert parts == ["image"] * count + ["text"] * count


def test_it_learns():
    data = graph_for(DCMH, rate=1.0, noise=0.5)
    model = model_for(DCMH, data)
    fit(model, data, torch.optim.Adam(model.parameters(), lr=5e-3), epochs=30, progress=False)
    result = evaluate(model, data)
    assert min(result.i2t, result.t2i) > 0.6  # chance is .25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"eta": float("inf")}, "eta"),
        ({"batch_size": 1}, "batch_size: a batch of one"),
        ({"dropout": 2.0}, "dropout"),
        ({"num_classes": 0}, "num_classes"),
        ({"hidden_channels": 0}, "hidden_channels"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DCMH((12, 9), **{"num_classes": 4, **options})


def test_bad_data():
    data = toy_data()
    model = model_for(DCMH, data)
    for m in ("image", "text"):
        data[m].labeled_mask = torch.zeros(60, dtype=torch.bool)
    with pytest.raises(ValueError, match="labeled_mask: selects no node"):
        next(iter(model.objectives(data, 0)))
    with pytest.raises(ValueError, match="num_features is 9"):
        next(iter(DCMH((9, 9), 4).objectives(data, 0)))
