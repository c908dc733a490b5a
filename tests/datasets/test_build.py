import pytest
import torch

from pyg_hash.datasets import build as module
from pyg_hash.datasets.build import as_mask, build_hetero, row_chunks

N = 6
TRAIN, QUERY = torch.arange(4), torch.tensor([4, 5])


def build(**changes):
    arguments = {
        "image": torch.randn(N, 3),
        "text": torch.randn(N, 2),
        "train": TRAIN,
        "query": QUERY,
        "y": torch.tensor([0, 1, 2, 0, 1, 2]),
    }
    arguments |= changes
    return build_hetero(arguments.pop("image"), arguments.pop("text"), **arguments)


def test_schema():
    data = build()
    assert data.num_classes == 3 and set(data.node_types) == {"image", "text"}
    for modality, width in (("image", 3), ("text", 2)):
        store = data[modality]
        assert store.x.shape == (N, width) and store.y.dtype == torch.long
        assert store.train_mask.tolist() == [True] * 4 + [False] * 2
        assert store.query_mask.tolist() == [False] * 4 + [True] * 2
        assert torch.equal(store.database_mask, ~store.query_mask)
        assert torch.equal(store.labeled_mask, store.train_mask)
    assert data.num_features == {"image": 3, "text": 2}


def test_changing_one_mask_leaves_the_others():
    data = build()
    data["image"].labeled_mask[0] = False
    assert data["image"].train_mask[0]


def test_multi_hot():
    y = torch.eye(3, dtype=torch.uint8).repeat(2, 1)
    data = build(y=y)
    assert data["text"].y.dtype == torch.float32 and data.num_classes == 3


def test_rows_without_a_label_are_labeled_only_if_declared():
    y = torch.eye(3).repeat(2, 1)
    y[2] = 0
    labeled = build(y=y)["image"].labeled_mask
    assert torch.equal(labeled, build()["image"].labeled_mask & (torch.arange(6) != 2))
    assert build(y=y, labeled=torch.tensor([2]))["image"].labeled_mask[2]


def test_without_labels():
    data = build(y=None)
    assert "y" not in data["image"] and data.num_classes == 0
    assert not data["image"].labeled_mask.any()


def test_own_database_and_labeled_rows():
    data = build(database=torch.tensor([0, 1]), labeled=torch.tensor([3]))
    assert data["image"].database_mask.sum() == 2
    assert data["text"].labeled_mask.nonzero().tolist() == [[3]]


def nan_at(row, value=float("nan")):
    x = torch.randn(N, 3)
    x[row, 1] = value
    return x


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image": nan_at(2)}, ValueError, r"image: 1 of 6 rows contain NaN or inf \(first: row 2"),
        ({"text": nan_at(1, float("inf"))}, ValueError, "text: 1 of 6 rows contain NaN or inf"),
        ({"text": torch.randn(5, 3)}, ValueError, "image and text: 6 and 5 rows"),
        ({"image": torch.randn(N)}, ValueError, r"image: expected shape \[n, d\]"),
        ({"image": torch.randn(N, 0)}, ValueError, "image: expected shape"),
        ({"image": torch.randn(N, 3).double()}, TypeError, "image: expected float32"),
        ({"y": torch.zeros(5, dtype=torch.long)}, ValueError, "y: has 5 rows, expected 6"),
        ({"y": torch.zeros(N)}, TypeError, "y: class indices must be integers"),
        ({"y": torch.zeros(N, 2, 2)}, ValueError, r"y: expected shape \[N\] or \[N, C\]"),
        ({"num_classes": 2}, ValueError, r"y: class indices run from 0 to 2, outside 0\.\.1"),
        ({"y": torch.tensor([-1, 0, 0, 0, 0, 0])}, ValueError, "run from -1"),
        ({"y": torch.full((N, 2), 2.0)}, ValueError, "must be 0 or 1"),
        ({"y": torch.zeros(N, 2), "num_classes": 3}, ValueError, "2 columns, expected 3"),
        ({"train": torch.tensor([], dtype=torch.long)}, ValueError, "train: is empty"),
        ({"query": torch.zeros(N, dtype=torch.bool)}, ValueError, "query: is empty"),
        ({"database": torch.zeros(N, dtype=torch.bool)}, ValueError, "database: is empty"),
        ({"query": torch.tensor([3, 4])}, ValueError, "query: 1 query rows are also in train"),
        ({"database": torch.arange(5)}, ValueError, "query: 1 query rows are also in database"),
        ({"labeled": torch.tensor([4])}, ValueError, "labeled: 1 labeled rows are not in train"),
        ({"y": None, "labeled": torch.tensor([0])}, ValueError, "labeled: .* no labels"),
        ({"train": torch.ones(5, dtype=torch.bool)}, ValueError, "train: mask has 5 entries"),
        ({"train": torch.tensor([6])}, ValueError, r"train: row numbers .* outside 0\.\.5"),
        ({"train": torch.tensor([-1])}, ValueError, "train: row numbers run from -1"),
        ({"train": torch.tensor([0.0])}, TypeError, "train: expected a bool mask or integer"),
        ({"train": torch.ones(N, 1, dtype=torch.bool)}, ValueError, "train: expected one dim"),
    ],
)
def test_bad_input_names_the_argument(changes, error, message):
    with pytest.raises(error, match=message):
        build(**changes)


def test_all_split_problems_come_at_once():
    none = torch.zeros(N, dtype=torch.bool)
    with pytest.raises(ValueError) as error:
        build(train=none, database=torch.ones(N, dtype=torch.bool))
    assert "train: is empty" in str(error.value) and "also in database" in str(error.value)


def test_rows_that_are_not_finite_are_counted():
    x = nan_at(1)
    x[4:] = float("inf")
    with pytest.raises(ValueError, match=r"3 of 6 rows .*first: row 1"):
        build(image=x)


def test_row_chunks_cover_every_row_once(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 10)
    assert row_chunks(7, 3) == [(0, 3), (3, 6), (6, 7)]
    assert row_chunks(2, 100) == [(0, 1), (1, 2)]


def test_as_mask_copies():
    mask = torch.ones(3, dtype=torch.bool)
    as_mask(mask, 3, "train")[0] = False
    assert mask.all()


def test_as_mask_refuses_a_mask_of_integers():
    with pytest.raises(ValueError, match="train: the same row .* mask of zeros and ones"):
        as_mask(torch.tensor([0, 1, 1, 0]), 4, "train")
    with pytest.raises(ValueError, match="query: the same row number occurs more than once$"):
        as_mask(torch.tensor([1, 2, 2]), 4, "query")
