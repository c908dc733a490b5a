"""AttentionFusion and ConcatFusion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch_geometric.testing import withCUDA

from pyg_hash.nn import AttentionFusion, ConcatFusion


def pair(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(n, d, generator=generator, dtype=torch.float64) * 2 - 1 for _ in "ab")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_equal_scores_give_halves() -> None:
    specific, shared = pair(5, 4)
    fusion = AttentionFusion(4).double()
    torch.nn.init.zeros_(fusion.lin.weight)
    fused, weights = fusion(specific, shared), fusion.weights(specific, shared)
    assert torch.equal(weights, torch.full((5, 2), 0.5, dtype=torch.float64))
    torch.testing.assert_close(fused, (specific + shared) / 2)
    weights = AttentionFusion(4).double().weights(specific, specific)
    torch.testing.assert_close(weights, torch.full((5, 2), 0.5, dtype=torch.float64))


def test_extreme_scores_reach_the_bounds() -> None:
    fusion = AttentionFusion(1)
    with torch.no_grad():
        fusion.lin.weight.fill_(1e4)
        fusion.lin.bias.zero_()
    one = torch.ones(1, 1)
    weights = fusion.weights(-one, one)
    assert weights.tolist() == [[pytest.approx(0.268941421), pytest.approx(0.731058579)]]
    weights = fusion.weights(one, -one)
    assert weights.tolist() == [[pytest.approx(0.731058579), pytest.approx(0.268941421)]]


def test_equals_equations_4_and_5_node_by_node() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        specific, shared = pair(6, 3, seed)
        fusion = AttentionFusion(3).double()
        theta, bias = fusion.lin.weight[0].tolist(), fusion.lin.bias.item()
        fused, weights = fusion(specific, shared), fusion.weights(specific, shared)
        for n in range(6):
            scores = [
                math.exp(
                    sigmoid(sum(t * v for t, v in zip(theta, z[n].tolist(), strict=True)) + bias)
                )
                for z in (specific, shared)
            ]
            a, b = (score / sum(scores) for score in scores)
            assert weights[n].tolist() == [pytest.approx(a), pytest.approx(b)]
            torch.testing.assert_close(fused[n], a * specific[n] + b * shared[n])


def test_attention_bounds_hold_and_codes_stay_relaxed() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        specific, shared = pair(50, 8, seed)
        fusion = AttentionFusion(8).double()
        with torch.no_grad():
            fusion.lin.weight.mul_(20)
        fused, weights = fusion(specific, shared), fusion.weights(specific, shared)
        assert weights.min() >= 0.2689 and weights.max() <= 0.7311
        torch.testing.assert_close(weights.sum(1), torch.ones(50, dtype=torch.float64))
        assert bool((fused >= torch.minimum(specific, shared) - 1e-12).all())
        assert bool((fused <= torch.maximum(specific, shared) + 1e-12).all())


def test_one_theta_for_both_so_swapping_changes_nothing() -> None:
    specific, shared = pair(4, 3)
    fusion = AttentionFusion(3).double()
    torch.testing.assert_close(fusion(specific, shared), fusion(shared, specific))
    assert sum(p.numel() for p in fusion.parameters()) == 3 + 1


def test_concat_by_hand() -> None:
    fusion = ConcatFusion(2).double()
    with torch.no_grad():
        fusion.lin.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [0, 0, 1, 0]]))
        fusion.lin.bias.copy_(torch.tensor([0.5, -0.5]))
    specific = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    shared = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    expected = [math.tanh(0.1 + 0.4 + 0.9 - 1.6 + 0.5), math.tanh(0.3 - 0.5)]
    assert fusion(specific, shared)[0].tolist() == [pytest.approx(v) for v in expected]


@pytest.mark.parametrize("kind", [AttentionFusion, ConcatFusion])
def test_gradcheck(kind: type) -> None:
    specific, shared = (x.requires_grad_() for x in pair(3, 2))
    fusion = kind(2).double()
    parameters = tuple(fusion.parameters())

    def run(a: Tensor, b: Tensor, *_: Tensor) -> Tensor:
        return fusion(a, b)

    assert torch.autograd.gradcheck(run, (specific, shared, *parameters))


@pytest.mark.parametrize("kind", [AttentionFusion, ConcatFusion])
def test_nodes_do_not_mix(kind: type) -> None:
    specific, shared = pair(6, 4)
    fusion = kind(4).double()
    full = fusion(specific, shared)
    torch.testing.assert_close(fusion(specific[2:4], shared[2:4]), full[2:4])
    specific[0] = float("nan")
    torch.testing.assert_close(fusion(specific, shared)[1:], full[1:])


@withCUDA
@pytest.mark.parametrize("kind", [AttentionFusion, ConcatFusion])
def test_device(device: torch.device, kind: type) -> None:
    fusion, x = kind(4).to(device), torch.rand(3, 4, device=device)
    assert fusion(x, x).shape == (3, 4) and fusion(x, x).device.type == device.type
    assert fusion(x[:0], x[:0]).shape == (0, 4)
