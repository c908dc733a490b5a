"""linear_similarity_loss against the double sum, with its gradients."""

import pytest
import torch
from torch import Tensor

from pyg_hash.losses import linear_similarity_loss


def codes(rows, seed, bits=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, bits, generator=generator, dtype=torch.float64) * 2 - 1


def labels(rows, seed, kind):
    generator = torch.Generator().manual_seed(seed)
    if kind == "index":
        return torch.randint(3, (rows,), generator=generator)
    return (torch.rand(rows, 4, generator=generator) < 0.4).float()


def double_sum(image: Tensor, text: Tensor, image_y: Tensor, text_y: Tensor, match: str) -> Tensor:
    total = image.new_zeros(())
    for p in range(len(image)):
        for q in range(len(text)):
            if image_y.dim() == 1 or match == "equal":
                similar = bool((image_y[p] == text_y[q]).all())
            else:
                similar = bool((image_y[p] * text_y[q]).any())
            total = total - (1 if similar else -1) * image[p] @ text[q]
    return total


@pytest.mark.parametrize(
    ("kind", "match"), [("index", "shared"), ("hot", "shared"), ("hot", "equal")]
)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("chunk_size", [3, 1024])
def test_value_and_gradients(kind, match, reduction, chunk_size):
    image, text = codes(7, 0).requires_grad_(), codes(5, 1).requires_grad_()
    image_y, text_y = labels(7, 2, kind), labels(5, 3, kind)
    got = linear_similarity_loss(
        image, text, image_y, text_y, match=match, reduction=reduction, chunk_size=chunk_size
    )
    expected = double_sum(image, text, image_y, text_y, match)
    expected = expected / (7 * 5 * 6) if reduction == "mean" else expected
    torch.testing.assert_close(got, expected)
    for a, b in zip(
        torch.autograd.grad(2 * got, (image, text)),
        torch.autograd.grad(2 * expected, (image, text)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_closed_form():
    image = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    y = torch.tensor([0, 1])
    # similar pairs agree in 2 bits, the others in none
    assert linear_similarity_loss(image, image, y, y, reduction="sum") == -4
    assert linear_similarity_loss(image, image, y, y) == -0.5
    # one code for everybody gains nothing with S in {-1, 1}, and would with S in {0, 1}
    same = torch.ones(2, 2)
    assert linear_similarity_loss(same, same, y, y) == 0


@pytest.mark.parametrize("name", ["nothing", "image", "text"])
def test_no_rows(name):
    image = torch.zeros(0 if name != "text" else 2, 4, requires_grad=True)
    text = torch.zeros(0 if name != "image" else 2, 4, requires_grad=True)
    y, z = torch.zeros(len(image), dtype=torch.long), torch.zeros(len(text), dtype=torch.long)
    loss = linear_similarity_loss(image, text, y, z)
    assert loss == 0
    loss.backward()
    assert not image.grad.any() and not text.grad.any()


def test_only_what_needs_a_gradient_gets_one():
    image, text = codes(3, 0), codes(4, 1).requires_grad_()
    y, z = torch.tensor([0, 1, 0]), torch.tensor([1, 1, 0, 2])
    linear_similarity_loss(image, text, y, z).backward()
    assert text.grad.abs().sum() > 0
    assert image.grad is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"text": torch.zeros(2, 3)}, ValueError, "image and text: 2 and 3 bits"),
        ({"text": torch.zeros(2, 2).double()}, TypeError, "both float32 or both float64"),
        ({"image": torch.zeros(2)}, ValueError, "image"),
        ({"image_y": torch.zeros(3).long()}, ValueError, "image_y"),
        ({"text_y": torch.zeros(2)}, TypeError, "text_y"),
        ({"text_y": torch.zeros(2, 2)}, ValueError, "image_y and text_y"),
        ({"match": "count"}, ValueError, "match"),
        ({"reduction": "none"}, ValueError, "reduction"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
    ],
)
def test_errors(change, error, message):
    y = torch.zeros(2, dtype=torch.long)
    given = {"image": torch.zeros(2, 2), "text": torch.zeros(2, 2), "image_y": y, "text_y": y}
    with pytest.raises(error, match=message):
        linear_similarity_loss(**(given | change))
