"""Squared errors of GCH and of its reproduction report."""

import pytest
import torch

from pyg_hash.losses import label_regression_loss, squared_distance_loss


def test_squared_distance_by_hand():
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert squared_distance_loss(a, b, "sum").item() == 4 + 9
    assert squared_distance_loss(a, b).item() == pytest.approx(13 / 4)
    assert squared_distance_loss(a, a).item() == 0  # equal features cost nothing (Eq. 12)


def test_label_regression_by_hand():
    logits = torch.tensor([[0.0, 100.0], [-100.0, 0.0]])
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert label_regression_loss(logits, labels, "sum").item() == pytest.approx(0.5)
    assert label_regression_loss(logits, labels).item() == pytest.approx(0.125)


def test_gradients():
    a = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = (torch.rand(4, 3) < 0.5).double()
    assert torch.autograd.gradcheck(lambda x: label_regression_loss(x, y), a)
    assert torch.autograd.gradcheck(lambda x: squared_distance_loss(x, y, "sum"), a)


@pytest.mark.parametrize("loss", [label_regression_loss, squared_distance_loss])
def test_no_rows_cost_nothing(loss):
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3)).item() == 0


def test_errors_name_the_argument():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"logits and labels: shapes \[2, 3\] and \[2, 2\]"):
        label_regression_loss(x, x[:, 1:])
    with pytest.raises(ValueError, match="a and b: shapes"):
        squared_distance_loss(x, x[1:])
    with pytest.raises(TypeError, match="labels: expected a floating-point"):
        label_regression_loss(x, x.long())
    with pytest.raises(TypeError, match="logits: expected a floating-point"):
        label_regression_loss(x.long(), x)
    with pytest.raises(ValueError, match=r"b: expected shape \[N, d\]"):
        squared_distance_loss(x, x[0])
    with pytest.raises(ValueError, match="reduction"):
        squared_distance_loss(x, x, "median")
