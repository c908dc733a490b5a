"""pairwise_nll against closed forms, loops, a dense formula and finite differences."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch_geometric.testing import withCUDA

from pyg_hash.losses import pairwise_nll


def codes(n: int, m: int, bits: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(rows, bits, generator=generator, dtype=torch.float64).requires_grad_()
        for rows in (n, m)
    )


def labels(n: int, num_classes: int, kind: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if kind == "index":
        return torch.randint(num_classes, (n,), generator=generator)
    return (torch.rand(n, num_classes, generator=generator) < 0.4).float()


def similar(a: Tensor, b: Tensor, match: str) -> bool:
    """J of one pair, from the definition with Python sets."""
    if a.dim() == 0:
        return int(a) == int(b)
    first, second = (set(y.nonzero().flatten().tolist()) for y in (a, b))
    return first == second if match == "equal" else bool(first & second)


def relation(image_y: Tensor, text_y: Tensor, match: str = "shared") -> Tensor:
    rows = [[similar(a, b, match) for b in text_y] for a in image_y]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(image_y), len(text_y))


def dense(image: Tensor, text: Tensor, j: Tensor) -> Tensor:
    """Eq. (7) as it is printed, whole matrices, double precision."""
    w = 0.5 * image.double() @ text.double().t()
    return -(j.to(w.device) * w - torch.logaddexp(w, torch.zeros_like(w))).sum()


CASES = [("index", "shared"), ("index", "equal"), ("multi", "shared"), ("multi", "equal")]


@pytest.mark.parametrize(
    "w, same, expected",
    [
        (0.0, True, math.log(2)),
        (0.0, False, math.log(2)),
        (2.0, True, 0.12692801104297263),
        (2.0, False, 2.1269280110429727),
        (22.0, False, math.log1p(math.exp(22))),  # not yet 22 in float64
        (500.0, False, 500.0),
        (-500.0, True, 500.0),
        (500.0, True, 0.0),
        (30.0, True, math.exp(-30)),  # w - log(1 + e^w) would have cancelled to 0
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_pair(w: float, same: bool, expected: float, dtype: torch.dtype) -> None:
    image = torch.tensor([[2.0]], dtype=dtype, requires_grad=True)
    text = torch.tensor([[w]], dtype=dtype, requires_grad=True)  # omega = 2 w / 2 = w
    y = torch.tensor([0])
    loss = pairwise_nll(image, text, y, y if same else y + 1, reduction="sum")
    loss.backward()
    rel = 1e-12 if dtype == torch.float64 else 1e-6
    assert loss.item() == pytest.approx(expected, rel=rel, abs=1e-30)
    slope = 1 / (1 + math.exp(-w)) - same
    assert float(text.grad) == pytest.approx(slope, rel=rel, abs=1e-6)  # d omega / d text = 1
    assert float(image.grad) == pytest.approx(slope * w / 2, rel=rel, abs=1e-4)


def test_zero_codes() -> None:
    z, y = torch.zeros(2, 8), torch.tensor([0, 1])
    assert float(pairwise_nll(z, z, y, y, reduction="sum")) == pytest.approx(4 * math.log(2))
    assert float(pairwise_nll(z, z, y, y)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("kind, match", CASES)
def test_equals_a_python_loop(kind: str, match: str) -> None:
    image, text = codes(6, 4)
    image_y, text_y = labels(6, 3, kind, 1), labels(4, 3, kind, 2)
    expected = 0.0
    for p, q in product(range(6), range(4)):
        w = 0.5 * sum(a * b for a, b in zip(image[p].tolist(), text[q].tolist(), strict=True))
        expected -= similar(image_y[p], text_y[q], match) * w - math.log1p(math.exp(w))
    loss = pairwise_nll(image, text, image_y, text_y, match=match, reduction="sum")
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    mean = pairwise_nll(image, text, image_y, text_y, match=match)
    assert mean.item() == pytest.approx(expected / 24, rel=1e-12)


@pytest.mark.parametrize("kind, match", CASES)
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 11, 1000])
def test_value_and_gradients_equal_the_dense_formula(
    kind: str, match: str, chunk_size: int
) -> None:
    for seed in range(5):
        n, m = 3 + 2 * seed, 11 - seed
        image, text = codes(n, m, seed=seed)
        image_y, text_y = labels(n, 3, kind, seed), labels(m, 3, kind, seed + 50)
        loss = pairwise_nll(
            image, text, image_y, text_y, match=match, reduction="sum", chunk_size=chunk_size
        )
        expected = dense(image, text, relation(image_y, text_y, match))
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        for got, want in zip(
            torch.autograd.grad(3 * loss, (image, text)),
            torch.autograd.grad(3 * expected, (image, text)),
            strict=True,
        ):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind, match", CASES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradcheck(kind: str, match: str, reduction: str) -> None:
    image, text = codes(5, 4, bits=3)
    image_y, text_y = labels(5, 3, kind, 3), labels(4, 3, kind, 4)
    assert torch.autograd.gradcheck(
        lambda a, b: pairwise_nll(
            a, b, image_y, text_y, match=match, reduction=reduction, chunk_size=2
        ),
        (image, text),
    )


def test_float32_is_close_to_float64_on_a_larger_problem() -> None:
    image, text = codes(700, 650, bits=16)
    image_y, text_y = labels(700, 10, "index", 1), labels(650, 10, "index", 2)
    expected = dense(image, text, (image_y[:, None] == text_y[None]).double())
    want = torch.autograd.grad(expected, (image, text))
    a, b = (x.detach().float().requires_grad_() for x in (image, text))
    loss = pairwise_nll(a, b, image_y, text_y, reduction="sum", chunk_size=128)
    got = torch.autograd.grad(loss, (a, b))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.double(), w, rtol=1e-4, atol=1e-3)


def test_one_hot_labels_equal_class_indices() -> None:
    image, text = codes(7, 7)
    y = labels(7, 3, "index", 5)
    hot = torch.nn.functional.one_hot(y, 3)
    index = pairwise_nll(image, text, y, y)
    for match, multi in product(("shared", "equal"), (hot, hot.float(), hot.bool(), hot.double())):
        torch.testing.assert_close(pairwise_nll(image, text, multi, multi, match=match), index)


def test_empty_label_sets() -> None:
    z, y = torch.full((1, 4), 2.0), torch.zeros(1, 3)  # omega = 8
    assert float(pairwise_nll(z, z, y, y, match="shared")) == pytest.approx(8.000335406372896)
    assert float(pairwise_nll(z, z, y, y, match="equal")) == pytest.approx(math.log1p(math.exp(-8)))


def test_symmetry_and_permutation() -> None:
    image, text = codes(8, 8)
    image_y, text_y = labels(8, 3, "index", 1), labels(8, 3, "index", 2)
    loss = pairwise_nll(image, text, image_y, text_y)
    torch.testing.assert_close(pairwise_nll(text, image, text_y, image_y), loss)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pairwise_nll(image[order], text, image_y[order], text_y), loss)


@pytest.mark.parametrize("n, m", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("kind, match", CASES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_pairs_give_an_exact_zero_with_zero_gradients(
    n: int, m: int, kind: str, match: str, reduction: str
) -> None:
    image, text = codes(n, m)
    image_y, text_y = labels(n, 3, kind, 1), labels(m, 3, kind, 2)
    loss = pairwise_nll(image, text, image_y, text_y, match=match, reduction=reduction)
    assert loss.requires_grad and loss.item() == 0.0
    loss.backward()
    assert torch.equal(image.grad, torch.zeros_like(image))
    assert torch.equal(text.grad, torch.zeros_like(text))


def test_no_labelled_rows_of_a_larger_graph() -> None:
    relaxed, y = torch.randn(6, 4, requires_grad=True), torch.arange(6)
    mask = torch.zeros(6, dtype=torch.bool)
    pairwise_nll(relaxed[mask], relaxed[mask], y[mask], y[mask]).backward()
    assert torch.equal(relaxed.grad, torch.zeros(6, 4))


def test_gradient_only_where_it_is_wanted() -> None:
    image, text = codes(4, 5)
    y, z = labels(4, 2, "index", 0), labels(5, 2, "index", 1)
    both = torch.autograd.grad(pairwise_nll(image, text, y, z), (image, text))
    (left,) = torch.autograd.grad(pairwise_nll(image, text.detach(), y, z), image)
    (right,) = torch.autograd.grad(pairwise_nll(image.detach(), text, y, z), text)
    torch.testing.assert_close((left, right), both)
    assert not pairwise_nll(image.detach(), text.detach(), y, z).requires_grad
    with torch.no_grad():
        assert not pairwise_nll(image, text, y, z).requires_grad


def test_the_same_codes_on_both_sides() -> None:
    relaxed, _ = codes(6, 1)
    y = labels(6, 2, "index", 0)
    (got,) = torch.autograd.grad(pairwise_nll(relaxed, relaxed, y, y, reduction="sum"), relaxed)
    (want,) = torch.autograd.grad(dense(relaxed, relaxed, relation(y, y)), relaxed)
    torch.testing.assert_close(got, want)


def test_backward_twice_and_second_order() -> None:
    image, text = codes(3, 3)
    y = torch.arange(3)
    loss = pairwise_nll(image, text, y, y)
    first = torch.autograd.grad(loss, image, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, image), first)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(pairwise_nll(image, text, y, y), image, create_graph=True)


def test_inputs_stay_as_they_are() -> None:
    image, text = codes(5, 5)
    y = labels(5, 3, "multi", 0)
    before = [x.detach().clone() for x in (image, text, y)]
    pairwise_nll(image, text, y, y, match="equal").backward()
    for x, copy in zip((image, text, y), before, strict=True):
        assert torch.equal(x.detach(), copy)


def test_non_contiguous_codes() -> None:
    wide = torch.randn(5, 12, dtype=torch.float64)
    image, y = wide[:, ::2], torch.arange(5) % 2
    torch.testing.assert_close(
        pairwise_nll(image, image, y, y), pairwise_nll(image.clone(), image.clone(), y, y)
    )


def test_autocast_stays_exact() -> None:
    image, text = (x.detach().float().requires_grad_() for x in codes(6, 6))
    y = torch.arange(6) % 2
    expected = pairwise_nll(image, text, y, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pairwise_nll(image, text, y, y), expected)


def test_no_whole_similarity_matrix() -> None:
    """The largest temporary is a tile, whatever the number of rows."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    image, text = codes(300, 300, bits=2)
    y = labels(300, 3, "multi", 0)
    with Watch():
        pairwise_nll(image, text, y, y, chunk_size=20).backward()
    assert largest <= 300 * 3  # the labels; the full matrix would be 90,000


def test_descent_learns_similarity() -> None:
    y = torch.arange(6) % 2
    image, text = (x.detach().mul(0.1).requires_grad_() for x in codes(6, 6))
    optimizer = torch.optim.Adam([image, text], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        pairwise_nll(image, text, y, y).backward()
        optimizer.step()
    assert torch.equal((image @ text.t()) > 0, y[:, None] == y[None])


@withCUDA
def test_device(device: torch.device) -> None:
    image, text = codes(9, 8)
    image_y, text_y = labels(9, 3, "multi", 1), labels(8, 3, "multi", 2)
    expected = dense(image, text, relation(image_y, text_y))
    loss = pairwise_nll(
        image.to(device), text.to(device), image_y.to(device), text_y.to(device), reduction="sum"
    )
    assert loss.device.type == device.type
    torch.testing.assert_close(loss.cpu(), expected)
