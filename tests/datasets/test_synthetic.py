import pytest
import torch

from pyg_hash.datasets import SyntheticCrossModal
from pyg_hash.transforms import LabelRate


def test_interface():
    dataset = SyntheticCrossModal(200, num_classes=5, num_features=(16, 8), num_queries=40)
    data = dataset[0]
    assert data["image"].x.shape == (200, 16) and data["text"].x.shape == (200, 8)
    assert dataset.num_classes == data.num_classes == 5 and len(dataset.class_names) == 5
    assert data["image"].query_mask.sum() == 40
    assert torch.equal(data["text"].database_mask, ~data["text"].query_mask)
    assert len(dataset.ids) == len(dataset.texts) == len(dataset.image_paths) == 200


def test_every_split_has_equal_shares_of_classes():
    store = SyntheticCrossModal(200, num_classes=5, num_queries=40)[0]["image"]
    assert store.y[store.query_mask].bincount().tolist() == [8] * 5
    assert store.y[store.train_mask].bincount().tolist() == [32] * 5


def test_seed():
    a, b, c = (SyntheticCrossModal(50, seed=seed)[0] for seed in (0, 0, 1))
    for modality in ("image", "text"):
        assert torch.equal(a[modality].x, b[modality].x)
        assert not torch.equal(a[modality].x, c[modality].x)
    assert torch.equal(a["image"].query_mask, b["image"].query_mask)


@pytest.mark.parametrize("multi_label", [False, True])
def test_defaults_of_torch_change_nothing(multi_label):
    def made():
        return LabelRate(0.5)(SyntheticCrossModal(50, 3, (8, 4), multi_label=multi_label)[0])

    plain, was = made(), torch.get_default_dtype()
    with torch.device("meta"):
        others = [made()]
    try:
        torch.set_default_dtype(torch.float64)
        others.append(made())
    finally:
        torch.set_default_dtype(was)
    for key in ("x", "y", "labeled_mask"):
        assert all(torch.equal(plain["text"][key], other["text"][key]) for other in others)
        assert all(plain["text"][key].dtype == other["text"][key].dtype for other in others)


def test_noise_is_the_spread_around_the_centres():
    data = SyntheticCrossModal(3000, num_classes=3, num_features=(50, 40), noise=0.5)[0]
    for modality in ("image", "text"):
        x, y = data[modality].x, data[modality].y
        centres = torch.stack([x[y == c].mean(dim=0) for c in range(3)])
        assert abs((x - centres[y]).std().item() - 0.5) < 0.01
        nearest = torch.cdist(x, centres).argmin(dim=1)
        assert (nearest == y).float().mean() > 0.99
    exact = SyntheticCrossModal(30, num_classes=3, noise=0.0)[0]["image"]
    assert all(len(exact.x[exact.y == c].unique(dim=0)) == 1 for c in range(3))


def test_multi_label():
    data = SyntheticCrossModal(300, num_classes=6, multi_label=True, noise=0.0)[0]
    y, x = data["text"].y, data["text"].x
    assert y.shape == (300, 6) and y.dtype == torch.float32
    sizes = y.sum(dim=1)
    assert set(sizes.tolist()) == {1.0, 2.0, 3.0}
    centres = torch.linalg.lstsq(y / sizes[:, None], x).solution  # rows are means of centres
    torch.testing.assert_close((y / sizes[:, None]) @ centres, x, atol=1e-4, rtol=1e-4)


def test_default_number_of_queries():
    for n, expected in ((5, 1), (200, 20), (20000, 1000)):
        data = SyntheticCrossModal(n, num_classes=2, num_features=(2, 2))[0]
        assert data["image"].query_mask.sum() == expected


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"n": 0}, ValueError, "n"),
        ({"n": 1.5}, TypeError, "n"),
        ({"n": 10, "num_classes": 0}, ValueError, "num_classes"),
        ({"n": 10, "num_features": (3,)}, ValueError, "num_features"),
        ({"n": 10, "num_features": (3, 0)}, ValueError, "num_features"),
        ({"n": 10, "noise": -1.0}, ValueError, "noise"),
        ({"n": 10, "noise": float("nan")}, ValueError, "noise"),
        ({"n": 10, "noise": 1e19}, ValueError, "noise"),
        ({"n": 10, "num_queries": 10}, ValueError, "num_queries"),
        ({"n": 1}, ValueError, "num_queries"),
        ({"n": 10, "num_queries": 0}, ValueError, "num_queries"),
    ],
)
def test_bad_arguments(options, error, name):
    with pytest.raises(error, match=f"^{name}:"):
        SyntheticCrossModal(**options)
