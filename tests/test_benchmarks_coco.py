"""COCO as benchmark data: the split, and the files against it."""

import gzip
import json
import re

import h5py
import numpy as np
import pytest
import torch

from benchmarks import coco
from benchmarks.coco import iterative_split
from pyg_hash.datasets import FeatureFile, check_feature_file
from pyg_hash.utils.files import load_json, save_json

NAMES = ["person", "cat", "dog", "bus"]
N = 40


@pytest.fixture
def folder(tmp_path):
    """Forty pairs; row 3 has no label but person, row 4 none at all."""
    generator = np.random.default_rng(0)
    labels = (generator.random((N, 4)) < 0.4).astype(np.uint8)
    labels[np.arange(N), 1 + np.arange(N) % 3] = 1
    labels[3], labels[4] = [1, 0, 0, 0], 0
    with h5py.File(tmp_path / "coco15k.h5", "w") as file:
        file["id"] = np.arange(N, dtype=np.int32)
        file["image"] = generator.random((N, 6)).astype(np.float16)
        file["labels"] = labels
        file.attrs["label_names"] = NAMES
    words = ["tree", "street", "river", "house", "hill"]
    with gzip.open(tmp_path / "coco15k_captions.jsonl.gz", "wt", encoding="utf-8") as file:
        for i in range(N):
            caption = f"a {words[i % 5]} near the {words[(i * 3 + 1) % 5]} and {words[i % 2]}"
            file.write(json.dumps({"id": i, "caption": caption}) + "\n")
    return tmp_path


@pytest.fixture
def manifest(folder):
    path = folder / "split.json"
    save_json(path, coco.make_manifest(coco.read(folder), num_queries=10, num_train=20, seed=0))
    return path


def load(folder, manifest):
    return coco.load_coco(folder, manifest, folder / "cache")


def test_rows_labels_and_splits(folder, manifest):
    data = load(folder, manifest)
    assert data.num_classes == 3
    assert data.num_features["image"] == 6
    assert data["image"].x.dtype == torch.float32
    rows = [i for i in range(N) if i not in (3, 4)]
    with h5py.File(folder / "coco15k.h5") as file:
        assert np.array_equal(data["image"].y.numpy(), file["labels"][:][rows, 1:])
        assert np.array_equal(data["image"].x.numpy(), file["image"][:][rows].astype(np.float32))
    for modality in ("image", "text"):
        store = data[modality]
        assert (int(store.query_mask.sum()), int(store.train_mask.sum())) == (10, 20)
        assert torch.equal(store.database_mask, ~store.query_mask)
        assert torch.equal(store.labeled_mask, store.train_mask)
        assert not (store.train_mask & store.query_mask).any()


def test_words_are_learnt_from_train_alone(folder, manifest):
    """A word that only queries use has no column."""
    data = load(folder, manifest)
    kept = [i for i in range(N) if i not in (3, 4)]
    query = {kept[i] for i in data["text"].query_mask.nonzero().flatten().tolist()}
    path = folder / "coco15k_captions.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        row["caption"] += " unheard" if row["id"] in query else ""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    again = load(folder, manifest)
    torch.testing.assert_close(again["text"].x, data["text"].x)


def test_the_feature_file_holds_all_there_is(folder, manifest):
    before = {path.name for path in folder.iterdir()}
    dataset = FeatureFile(coco.feature_file(folder, manifest, folder / "cache"))
    assert {path.name for path in folder.iterdir()} == before | {"cache"}
    assert dataset.class_names == NAMES[1:]
    assert dataset.ids == [str(i) for i in range(N) if i not in (3, 4)]
    assert dataset.texts[3] == "a tree near the street and street"  # of row 5
    assert check_feature_file(dataset.path).ok


def test_the_feature_file_is_made_once_for_the_same_files_and_code(folder, manifest, monkeypatch):
    cache = folder / "cache"
    written = coco.feature_file(folder, manifest, cache).stat()
    again = coco.feature_file(folder, manifest, str(cache)).stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    with h5py.File(folder / "coco15k.h5", "a") as file:
        file["image"][0, 0] += 1
    coco.feature_file(folder, manifest, cache)
    save_json(manifest, {**load_json(manifest), "about": "another"})
    coco.feature_file(folder, manifest, cache)
    script = folder / "script.py"
    script.write_text("WORDS = {}")
    monkeypatch.setattr(coco, "CODE", (script,))
    coco.feature_file(folder, manifest, cache)
    monkeypatch.setattr(coco, "version", lambda package: "0")
    coco.feature_file(folder, manifest, cache)
    found = [path.name for path in cache.iterdir()]
    assert len(found) == 5
    assert all(re.fullmatch(r"split-[0-9a-f]{12}\.h5", name) for name in found)


def test_manifest_is_deterministic_and_belongs_to_the_labels(folder, manifest):
    again = coco.make_manifest(coco.read(folder), num_queries=10, num_train=20, seed=0)
    assert again == load_json(manifest)
    with h5py.File(folder / "coco15k.h5", "a") as file:
        file["labels"][0, 1] ^= 1
    with pytest.raises(ValueError, match=r"not the labels that split\.json splits"):
        load(folder, manifest)


def test_missing_and_mixed_up_files(folder, manifest):
    captions = folder / "coco15k_captions.jsonl.gz"
    with gzip.open(captions, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    with gzip.open(captions, "wt", encoding="utf-8") as file:
        file.writelines(reversed(lines))
    with pytest.raises(ValueError, match="its ids are not those"):
        load(folder, manifest)
    captions.unlink()
    with pytest.raises(FileNotFoundError, match="coco15k_captions"):
        load(folder, manifest)


def test_committed_manifest():
    split = load_json(coco.MANIFEST)
    letters = "".join(split["rows"])
    assert len(letters) == 15_000
    counts = {"q": 2000, "t": 5000, "d": 880, ".": 7120}
    assert {letter: letters.count(letter) for letter in "qtd."} == counts
    assert re.fullmatch(r"[0-9a-f]{64}", split["labels_sha256"])


def test_real_files_fit_the_manifests(shared_data, tmp_path, monkeypatch):
    found = coco.read(shared_data / "coco")
    assert "person" not in found.names
    monkeypatch.setattr(coco, "read", lambda folder: found)
    for manifest, sizes in coco.SIZES.items():
        assert coco.make_manifest(found, *sizes) == load_json(manifest)
        data = coco.load_coco(shared_data / "coco", manifest, tmp_path)
        share = data["image"].y.mean(dim=0)
        for mask in ("train_mask", "query_mask"):
            part = data["image"].y[data["image"][mask]].mean(dim=0)
            assert (part / share - 1).abs().max() < 0.15  # no label is rarer or more frequent there
        assert not (data["text"].x == 0).all(dim=1).any()


def test_iterative_split_has_exact_sizes_and_even_shares():
    generator = np.random.default_rng(1)
    labels = (generator.random((600, 5)) < [0.5, 0.2, 0.1, 0.05, 0.3]).astype(np.uint8)
    labels[labels.sum(axis=1) == 0, 0] = 1
    sizes = {"a": 300, "b": 200, "c": 100}
    parts = iterative_split(labels, sizes, seed=0)
    assert {part: len(rows) for part, rows in parts.items()} == sizes
    assert sorted(row for rows in parts.values() for row in rows) == list(range(600))
    for part, rows in parts.items():
        expected = labels.sum(axis=0) * sizes[part] / 600
        assert np.abs(labels[rows].sum(axis=0) - expected).max() <= max(3, 0.1 * expected.max())
        assert rows == sorted(rows)
    assert iterative_split(labels, sizes, seed=0) == parts
    assert iterative_split(labels, sizes, seed=1) != parts


def test_iterative_split_serves_the_rarest_label_first():
    labels = np.zeros((100, 2), dtype=np.uint8)
    labels[:, 0] = 1
    labels[:4, 1] = 1  # four rows: two for each half, whatever the order
    for seed in range(5):
        parts = iterative_split(labels, {"a": 50, "b": 50}, seed=seed)
        assert [labels[rows, 1].sum() for rows in parts.values()] == [2, 2]


def test_iterative_split_rejects_bad_input():
    labels = np.ones((4, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="sum to 3, expected 4"):
        iterative_split(labels, {"a": 1, "b": 2}, seed=0)
    labels[2] = 0
    with pytest.raises(ValueError, match="first: row 2"):
        iterative_split(labels, {"a": 2, "b": 2}, seed=0)
