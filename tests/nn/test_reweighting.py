"""Fusion by reweighting, against dense float64 references."""

import pytest
import torch

from pyg_hash.nn import reweighted_fusion


def features(n=11, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(n, width, generator=generator).double() for _ in range(2)]
    return [x.requires_grad_() for x in draw]


def dense(image, text, norm):
    relation = image @ text.T  # Eq. 6: f^x f^y^T
    if norm == "softmax":
        scaled = relation / image.size(1) ** 0.5
        return 0.5 * (scaled.T.softmax(1) @ image + scaled.softmax(1) @ text)
    weights = relation / relation.max() if relation.max() > 0 else relation
    return 0.5 * (weights.T @ image + weights @ text)


def test_by_hand():
    fused = reweighted_fusion(torch.eye(2), torch.diag(torch.tensor([2.0, 1.0])))
    assert torch.equal(fused, torch.diag(torch.tensor([1.5, 0.5])))


@pytest.mark.parametrize("norm", ["max", "softmax"])
@pytest.mark.parametrize("chunk_size", [1, 4, 1024])
def test_equals_the_dense_formula(norm, chunk_size):
    image, text = features()
    got = reweighted_fusion(image, text, norm=norm, chunk_size=chunk_size)
    want = dense(image, text, norm)
    assert torch.allclose(got, want, atol=1e-12, rtol=0)
    weight = torch.randn(got.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((y * weight).sum(), [image, text]) for y in (got, want)]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-12, rtol=0)
    with torch.no_grad():
        assert torch.equal(reweighted_fusion(image, text, norm=norm, chunk_size=chunk_size), got)


def test_each_modality_is_weighted_by_the_other():
    """Row i of a modality's part is a sum over rows j by the relation of its pair to them."""
    image, text = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    # W = [[1, 1], [0, 0]]: both texts relate to image 0; image 1 relates to no text
    expected = 0.5 * (
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]) + torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    )
    assert torch.equal(reweighted_fusion(image, text), expected)


@pytest.mark.parametrize("scale", [-1.0, 0.0])
def test_without_a_positive_relation_nothing_is_divided(scale):
    image = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    fused = reweighted_fusion(image, scale * image)
    assert torch.allclose(fused, dense(image, scale * image, "max"))
    assert torch.isfinite(fused).all()


def test_max_of_many_rows_needs_no_square_array():
    """20,000 rows: their relation would take 1.6 GB."""
    image = torch.zeros(20_000, 2)
    image[-1] = 1
    fused = reweighted_fusion(image[:, :1].expand(-1, 2) * 3, image, chunk_size=256)
    assert torch.isfinite(fused).all()


def test_errors():
    image, text = features()
    with pytest.raises(ValueError, match=r"image and text: shapes \[11, 4\] and \[11, 3\]"):
        reweighted_fusion(image, text[:, 1:])
    with pytest.raises(ValueError, match="norm: 'l2'"):
        reweighted_fusion(image, text, norm="l2")
    with pytest.raises(ValueError, match="chunk_size"):
        reweighted_fusion(image, text, chunk_size=0)
