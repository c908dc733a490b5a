import numpy as np
import pytest
import torch
from published_sets import (
    CORR_AE,
    EACH,
    NUS_ROWS,
    NUS_TAGS,
    TEN,
    shrink,
    shrink_nus10k,
    write_corr_ae,
    write_nus10k,
)

from pyg_hash.datasets import NUSWIDE10K
from pyg_hash.datasets.published import NUS_LABELS as LABELS
from pyg_hash.utils.files import CorruptFileError


def test_ten_thousand_rows_of_one_concept_each(tmp_path, monkeypatch):
    arrays = write_nus10k(tmp_path / "raw")
    shrink_nus10k(monkeypatch)
    dataset = NUSWIDE10K(tmp_path)
    data = dataset[0]
    y = data["image"].y
    assert y.dtype == torch.long and y.bincount().tolist() == [EACH, EACH]
    assert dataset.class_names == TEN and data.num_classes == 2
    rows = np.array([int(name[8:12]) for name in dataset.ids])
    assert (np.diff(rows) > 0).all()
    assert (arrays["labels"][rows].sum(axis=1) == 1).all()
    assert np.array_equal(arrays["labels"][rows].argmax(axis=1), y.numpy())
    assert np.array_equal(data["text"].x.numpy(), arrays["tags"][rows])
    assert data["text"].x.any(dim=1).all() and data["text"].x.size(1) == NUS_TAGS
    assert NUSWIDE10K(tmp_path, seed=3).ids == dataset.ids  # the rows are no matter of the split


def test_split_of_ten_thousand(tmp_path, monkeypatch):
    write_nus10k(tmp_path / "raw")
    shrink_nus10k(monkeypatch)
    for protocol in ("mcgcn", "acmr"):
        store = NUSWIDE10K(tmp_path, protocol=protocol)[0]["image"]
        assert store.y[store.query_mask].bincount().tolist() == [2, 2]
        assert torch.equal(store.train_mask, ~store.query_mask)
        assert torch.equal(store.database_mask, store.train_mask)
    store = NUSWIDE10K(tmp_path, protocol="dscmr")[0]["image"]
    assert len(store.y) == 17 and store.query_mask.sum() == 3 and store.train_mask.sum() == 14


def test_too_few_rows_of_a_concept(tmp_path, monkeypatch):
    write_nus10k(tmp_path / "raw")
    shrink_nus10k(monkeypatch)
    path = tmp_path / "raw" / LABELS.format("sky")
    path.write_text("1\n" + "0\n" * (NUS_ROWS - 1))
    with pytest.raises(CorruptFileError, match="rows of sky alone, the published files have 10"):
        NUSWIDE10K(tmp_path)


@pytest.mark.parametrize("first", [0, 1])
def test_corr_ae_file(tmp_path, monkeypatch, first):
    arrays = write_corr_ae(tmp_path / "raw", first)
    shrink_nus10k(monkeypatch)
    dataset = NUSWIDE10K(tmp_path, "features")
    data = dataset[0]
    parts = ("train", "valid", "test")
    for modality, name in (("image", "imgs_deep"), ("text", "texts")):
        expected = np.concatenate([arrays[f"{part}_{name}"] for part in parts])
        assert np.array_equal(data[modality].x.numpy(), expected.astype(np.float32))
    expected = np.concatenate([arrays[f"{part}_imgs_labels"] for part in parts]) - first
    assert data["image"].y.tolist() == expected.tolist()
    assert data["image"].query_mask.sum() == 4

    own = NUSWIDE10K(tmp_path, "features", protocol="dscmr")
    store = own[0]["text"]
    assert store.train_mask.tolist() == [True] * 14 + [False] * 3
    expected = np.concatenate([arrays["train_texts"], arrays["test_texts"]])
    assert np.array_equal(store.x.numpy(), expected.astype(np.float32))
    assert own.ids == [str(i) for i in [*range(14), 17, 18, 19]]


def test_other_corr_ae_file(tmp_path, monkeypatch):
    write_corr_ae(tmp_path / "raw")
    with pytest.raises(CorruptFileError, match="14 rows in .*:train_imgs_labels"):
        NUSWIDE10K(tmp_path, "features")
    shrink_nus10k(monkeypatch)
    shrink(monkeypatch, counts={"train": 14, "valid": 3, "test": 3, "classes": 1})
    with pytest.raises(CorruptFileError, match="labels are not 1 numbers in one column"):
        NUSWIDE10K(tmp_path, "features")


def test_corr_ae_file_is_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=CORR_AE):
        NUSWIDE10K(tmp_path, "features")
