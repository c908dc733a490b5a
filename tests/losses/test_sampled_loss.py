"""sampled_pairwise_nll: exact with all samples, unbiased with fewer, seeded by torch."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.testing import withCUDA

from pyg_hash.losses import pairwise_nll, sampled_pairwise_nll
from pyg_hash.losses._pairs import _some_tiles


def case(n, m, kind="index", bits=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, bits, generator=generator, dtype=torch.float64).requires_grad_()
    text = torch.randn(m, bits, generator=generator, dtype=torch.float64).requires_grad_()
    if kind == "multi":
        image_y, text_y = ((torch.rand(k, 3, generator=generator) < 0.4).float() for k in (n, m))
    else:
        image_y, text_y = (torch.randint(3, (k,), generator=generator) for k in (n, m))
    return image, text, image_y, text_y


def met(n, m, size, samples):
    """How often each pair is in a tile."""
    count = torch.zeros(n, m, dtype=torch.int64)
    for rows, columns in _some_tiles(n, m, size, samples):
        count[rows, columns] += 1
    return count


@pytest.mark.parametrize(("n", "m"), [(7, 5), (5, 7), (12, 12), (1, 1)])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_each_row_meets_its_number_of_different_columns(n, m, size):
    for samples in range(1, m + 1):
        count = met(n, m, size, samples)
        assert int(count.max()) == 1 and bool((count.sum(1) == samples).all())
        blocks = met(n, m, 1, samples).sum(0)
        assert int(blocks.max() - blocks.min()) <= 1  # columns take turns


@pytest.mark.parametrize("kind", ["index", "multi"])
@pytest.mark.parametrize("match", ["shared", "equal"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_samples_are_exact(kind, match, reduction):
    image, text, *labels = case(9, 6, kind)
    options = {"match": match, "reduction": reduction, "chunk_size": 4}
    expected = pairwise_nll(image, text, *labels, **options)
    for num_samples in (6, 100):
        value = sampled_pairwise_nll(image, text, *labels, num_samples=num_samples, **options)
        torch.testing.assert_close(value, expected)
        got = torch.autograd.grad(value, (image, text))
        want = torch.autograd.grad(expected, (image, text), retain_graph=True)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("kind", ["index", "multi"])
@pytest.mark.parametrize("num_samples", [1, 2])
def test_unbiased_in_value_and_gradient(kind, num_samples):
    """The mean of many estimates is within its standard errors of the exact one."""
    image, text, *labels = case(5, 4, kind, bits=2)
    torch.manual_seed(0)
    samples = []
    for _ in range(1000):
        value = sampled_pairwise_nll(image, text, *labels, num_samples=num_samples, chunk_size=2)
        grads = torch.autograd.grad(value, (image, text))
        samples.append(torch.cat([value.detach().view(1), *(g.flatten() for g in grads)]))
    exact = pairwise_nll(image, text, *labels)
    grads = torch.autograd.grad(exact, (image, text))
    want = torch.cat([exact.detach().view(1), *(g.flatten() for g in grads)])
    found = torch.stack(samples)
    error = found.std(0) / len(samples) ** 0.5
    assert float(error[0]) > 0
    assert bool(((found.mean(0) - want).abs() < 4.5 * error + 1e-12).all())


def test_more_samples_are_closer():
    image, text, *labels = case(60, 60)
    exact = pairwise_nll(image, text, *labels).item()
    torch.manual_seed(1)

    def spread(num_samples):
        options = {"num_samples": num_samples, "chunk_size": 8}
        values = [sampled_pairwise_nll(image, text, *labels, **options) for _ in range(100)]
        return float((torch.stack(values).detach() - exact).square().mean())

    assert spread(32) < spread(4) / 3


def test_seeded_by_torch():
    given = case(20, 20)
    torch.manual_seed(3)
    one, two = (sampled_pairwise_nll(*given, num_samples=2).item() for _ in range(2))
    torch.manual_seed(3)
    assert sampled_pairwise_nll(*given, num_samples=2).item() == one != two


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_pairs(n, m):
    image, text, *labels = case(n, m)
    value = sampled_pairwise_nll(image, text, *labels, num_samples=2)
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(image.grad, torch.zeros_like(image))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"num_samples": 0}, ValueError, "num_samples: expected a positive"),
        ({"num_samples": 1.5}, TypeError, "num_samples"),
        ({"match": "same"}, ValueError, "match"),
        ({"reduction": "none"}, ValueError, "reduction"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
        ({"text_y": torch.zeros(4, dtype=torch.long)}, ValueError, "text_y: has 4 rows"),
    ],
)
def test_errors(change, error, words):
    arguments = dict(zip(("image", "text", "image_y", "text_y"), case(3, 3), strict=True))
    with pytest.raises(error, match=words):
        sampled_pairwise_nll(**(arguments | {"num_samples": 1} | change))


@withCUDA
def test_device(device):
    given = [x.detach().to(device) for x in case(9, 8)]
    torch.manual_seed(0)
    value = sampled_pairwise_nll(*given, num_samples=3, chunk_size=4)
    torch.manual_seed(0)
    assert value.device.type == device.type
    expected = sampled_pairwise_nll(*(x.cpu() for x in given), num_samples=3, chunk_size=4)
    torch.testing.assert_close(value.cpu(), expected)
