"""ScaleFeatures: fitted on train alone, exact directions, and the same for new items."""

import math
import warnings

import numpy as np
import pytest
import torch
from toy import toy_data

from pyg_hash.metrics import OddDataWarning
from pyg_hash.transforms import IntraKNN, ScaleFeatures
from pyg_hash.transforms.scale import principal_directions
from pyg_hash.utils.scaling import apply_scaling


def test_queries_choose_nothing():
    data = toy_data()
    train = data["image"].train_mask
    scale = ScaleFeatures(center=("image", "text"), text_components=4)
    before = scale(data)
    for m in ("image", "text"):
        data[m].x = data[m].x.clone()
        data[m].x[~train] = 1e3 * torch.randn(int((~train).sum()), data[m].x.size(1))
    after = scale(data)
    for m in ("image", "text"):
        assert torch.equal(before[m].x[train], after[m].x[train])
        for key, value in before.scaling[m].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(after.scaling[m][key]))


def test_one_query_row_changes_only_itself():
    data = toy_data()
    before = ScaleFeatures()(data)
    data["image"].x = data["image"].x.clone()
    data["image"].x[-1] *= -3
    after = ScaleFeatures()(data)
    assert torch.equal(before["image"].x[:-1], after["image"].x[:-1])
    assert not torch.equal(before["image"].x[-1], after["image"].x[-1])


def test_formula():
    data = toy_data(features=(12, 20))
    train = data["image"].train_mask
    scaled = ScaleFeatures(text_components=6, norm=4.0)(data)
    image = data["image"].x.double()
    image = image - image[train].mean(0)
    expected = 2 * image / image.norm(dim=1, keepdim=True)
    torch.testing.assert_close(scaled["image"].x.double(), expected, rtol=0, atol=1e-5)
    text = data["text"].x.double()
    right = np.linalg.svd(text[train].numpy(), full_matrices=False)[2][:6].T
    text = text @ torch.from_numpy(right)
    expected = 2 * text / text.norm(dim=1, keepdim=True)
    got = scaled["text"].x.double()
    signs = (got * expected).sum(0).sign()
    torch.testing.assert_close(got * signs, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (20, 20)])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_principal_directions_equal_numpy(shape, count):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * torch.linspace(
        1, 5, shape[1]
    )
    got = principal_directions(x, count)
    assert got.shape == (shape[1], count)
    assert got.dtype == torch.float32
    expected = torch.from_numpy(np.linalg.svd(x.double().numpy())[2][:count].T)
    overlap = got.double().T @ expected
    torch.testing.assert_close(overlap.abs(), torch.eye(count).double(), rtol=0, atol=1e-5)
    peak = got.gather(0, got.abs().argmax(0, keepdim=True))
    assert bool((peak > 0).all())
    assert torch.equal(got, principal_directions(x, count))


@pytest.mark.parametrize("shape", [(9, 40), (40, 9)])
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e4])
def test_directions_end_at_the_rank(shape, magnitude):
    generator = torch.Generator().manual_seed(0)
    low = torch.randint(-3, 4, (shape[0], 3), generator=generator).float()
    x = magnitude * (low @ torch.randint(-3, 4, (3, shape[1]), generator=generator).float())
    got = principal_directions(x, 8).double()
    assert got.shape == (shape[1], 3)
    torch.testing.assert_close(got.T @ got, torch.eye(3).double(), rtol=0, atol=1e-5)
    projected = x.double() @ got @ got.T
    torch.testing.assert_close(projected, x.double(), rtol=1e-4, atol=1e-5 * magnitude)


def test_duplicate_texts_and_more_words_than_texts():
    """Sparse texts with copies have a rank below both sizes: no direction may be rounding."""
    data = toy_data(40, num_queries=8, features=(5, 90))
    data["text"].x = (data["text"].x > 1.0).float()
    data["text"].x[16:32] = data["text"].x[:16]
    data["text"].x[:, 0] = 1.0
    scaled = ScaleFeatures(text_components=80)(data)
    components = scaled.scaling["text"]["components"]
    assert components.size(1) <= 16
    gram = (components.T @ components).double()
    torch.testing.assert_close(gram, torch.eye(len(gram)).double(), rtol=0, atol=1e-5)
    copies, rows = scaled["text"].x[16:32], scaled["text"].x[:16]
    torch.testing.assert_close(copies, rows)  # a product may round by the place of a row


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "text: training rows: all rows are zero vectors"),
        (3.0, "text: training rows: all rows are equal"),
    ],
)
def test_nothing_to_learn_from(value, message):
    data = toy_data(features=(4, 30))
    data["text"].x = torch.full((60, 30), value)
    with pytest.raises(ValueError, match=message):
        ScaleFeatures(text_components=7)(data)


@pytest.mark.parametrize("factor", [1e30, 1e-30])
def test_features_beyond_the_squares_of_float32(factor):
    data = toy_data()
    data["image"].x = data["image"].x * factor
    with pytest.raises(
        ValueError, match="image: training rows: rows have lengths of about 1?[0-9]e"
    ):
        ScaleFeatures()(data)


def test_an_outlier_is_left_out_and_named():
    data, clean = toy_data(), toy_data()
    rows = clean["image"].train_mask.nonzero().flatten()
    clean["image"].train_mask[rows[3]] = False
    data["image"].x[rows[3]] *= 1e5
    with pytest.warns(OddDataWarning, match="image: 1 of 60 rows are over 20 times"):
        scaled = ScaleFeatures()(data)
    expected = ScaleFeatures()(clean)
    assert torch.equal(scaled.scaling["image"]["mean"], expected.scaling["image"]["mean"])
    others = torch.arange(60) != rows[3]
    assert torch.equal(scaled["image"].x[others], expected["image"].x[others])


@pytest.mark.parametrize("center", [(), ("image",), ("text",)])
def test_whoever_subtracts_means_is_not_told_to(center):
    data = toy_data()
    for m in ("image", "text"):
        data[m].x[:, 0] += 200
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", OddDataWarning)
        ScaleFeatures(center=center)(data)
    assert all("subtract their means" in str(w.message) for w in said)
    assert {str(w.message).partition(":")[0] for w in said} == {"image", "text"} - {*center}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_becomes_float32(dtype):
    data = toy_data()
    for m in ("image", "text"):
        data[m].x = data[m].x.to(dtype)
    assert ScaleFeatures()(data)["image"].x.dtype == torch.float32


def test_statistics_keep_no_gradient():
    data = toy_data()
    for m in ("image", "text"):
        data[m].x.requires_grad_()
    scaled = ScaleFeatures(("image", "text"), 3)(data)
    fitted = [x for m in ("image", "text") for x in scaled.scaling[m].values()]
    assert not any(x.requires_grad for x in fitted if isinstance(x, torch.Tensor))
    assert scaled["text"].x.requires_grad


@pytest.mark.parametrize("center", [(), ("image",), ("text",), ("image", "text")])
@pytest.mark.parametrize("text_components", [None, 3, 500])
@pytest.mark.parametrize("norm", [None, 10.0])
def test_apply_scaling_reproduces(center, text_components, norm):
    data = toy_data()
    scaled = ScaleFeatures(center, text_components, norm)(data)
    for m in ("image", "text"):
        scaling = scaled.scaling[m]
        assert ("mean" in scaling) == (m in center)
        assert ("components" in scaling) == (m == "text" and text_components == 3)
        assert ("norm" in scaling) == (norm is not None)
        assert torch.equal(apply_scaling(data[m].x, scaling), scaled[m].x)
        one = apply_scaling(data[m].x[7:8], scaling)
        torch.testing.assert_close(one, scaled[m].x[7:8], rtol=0, atol=1e-5)
        if norm is not None:
            lengths = scaled[m].x.norm(dim=1)
            torch.testing.assert_close(lengths, torch.full((60,), math.sqrt(norm)))


def test_nothing_to_do():
    data = toy_data()
    scaled = ScaleFeatures((), None, None)(data)
    assert torch.equal(scaled["image"].x, data["image"].x)
    assert torch.equal(scaled["text"].x, data["text"].x)
    assert apply_scaling(data["text"].x, None) is data["text"].x


def test_rows_that_nothing_is_left_of_are_exactly_zero():
    data = toy_data(features=(4, 6))
    mean = data["image"].x[data["image"].train_mask].mean(0)
    data["image"].x = data["image"].x + 1000 - mean
    data["text"].x[:48, 5] = 0  # a word that no training text has
    scaled = ScaleFeatures(text_components=3)(data)
    image = torch.cat((scaled.scaling["image"]["mean"][None], torch.zeros(1, 4)))
    out = apply_scaling(image, scaled.scaling["image"])
    assert torch.equal(out[0], torch.zeros(4))
    torch.testing.assert_close(out[1].norm(), torch.tensor(math.sqrt(10.0)))
    unknown = torch.zeros(2, 6)
    unknown[0, 5] = 7.0
    assert torch.equal(apply_scaling(unknown, scaled.scaling["text"]), torch.zeros(2, 3))


def test_errors():
    data = toy_data()
    with pytest.raises(ValueError, match="scaled already"):
        ScaleFeatures()(ScaleFeatures()(data))
    with pytest.raises(ValueError, match="ScaleFeatures: the graph exists already"):
        ScaleFeatures()(IntraKNN(k=3)(data))
    with pytest.raises(ValueError, match="center: 'class'"):
        ScaleFeatures(center=("class",))
    with pytest.raises(ValueError, match="text_components"):
        ScaleFeatures(text_components=0)
    with pytest.raises(TypeError, match="text_components"):
        ScaleFeatures(text_components=2.5)
    for norm in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="norm: expected a positive, finite"):
            ScaleFeatures(norm=norm)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_features(bad):
    data = toy_data()
    data["text"].x[3, 2] = bad
    with pytest.raises(ValueError, match=r"data\['text'\].x: 1 of 60 rows contain NaN or inf"):
        ScaleFeatures()(data)


def test_no_training_nodes():
    data = toy_data(num_queries=60)
    with pytest.raises(ValueError, match="train_mask: no training node"):
        ScaleFeatures()(data)


def test_rounding_is_no_direction():
    """A relative rest of 1e-7 is rounding of float32; one of 1e-4 is a direction."""
    mean = torch.full((4,), 1000.0)
    x = mean.repeat(2, 1)
    x[0, 1] += 1.3e-4
    x[1, 1] += 0.3
    out = apply_scaling(x, {"mean": mean, "norm": 2.0})
    assert not torch.equal(x[0], mean), "the rest survives in float32"
    assert torch.equal(out, torch.tensor([[0.0] * 4, [0.0, 2.0, 0.0, 0.0]]))
