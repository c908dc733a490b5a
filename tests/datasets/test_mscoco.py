import json

import h5py
import numpy as np
import pytest
import torch
from published_sets import (
    COCO_CLASSES,
    COCO_FEATURES,
    COCO_SIZES,
    LENGTHS,
    SIZES,
    shrink,
    shrink_coco,
    write_coco,
    write_pictures,
)

from pyg_hash.datasets import MSCOCO
from pyg_hash.datasets.published import COCO_CAPTIONS as CAPTIONS
from pyg_hash.datasets.published import COCO_FOLDERS as FOLDERS
from pyg_hash.datasets.published import COCO_INSTANCES as INSTANCES
from pyg_hash.datasets.published import load_manifest
from pyg_hash.utils.files import CorruptFileError

FILES = [name.format(folder) for name in (INSTANCES, CAPTIONS) for folder in FOLDERS]


@pytest.fixture
def content(tmp_path, monkeypatch):
    content = write_coco(tmp_path / "raw")
    write_pictures(tmp_path / "raw", content["names"])
    shrink_coco(monkeypatch, int(content["labels"].any(axis=1).sum()))
    return content


def test_rows_are_those_with_a_category(tmp_path, content):
    rows = np.flatnonzero(content["labels"].any(axis=1))
    assert 0 < len(rows) < 60
    dataset = MSCOCO(tmp_path, image=SIZES, text=LENGTHS)
    data = dataset[0]
    assert dataset.ids == [content["names"][row] for row in rows]
    assert dataset.class_names == list(COCO_CLASSES.values())
    assert np.array_equal(data["image"].y.numpy(), content["labels"][rows])
    assert torch.equal(data["image"].x[:, 0], torch.from_numpy(rows + 1).float())
    assert dataset.texts == [" ".join(content["captions"][row]) for row in rows]
    assert data["text"].x[:, 0].tolist() == [len(text) for text in dataset.texts]
    assert dataset.image_paths[0] == str(tmp_path / "raw" / dataset.ids[0])
    assert data["image"].query_mask.sum() == 6 and data["image"].train_mask.sum() == 12
    assert torch.equal(data["image"].database_mask, ~data["image"].query_mask)


def test_words_of_the_training_captions(tmp_path, content):
    pytest.importorskip("sklearn")
    dataset = MSCOCO(tmp_path, image=SIZES)
    encoder = dataset.text_encoder()
    assert encoder.config["max_features"] == 2000 and encoder.config["mode"] == "count"
    assert "near" in encoder.vocabulary and "the" not in encoder.vocabulary
    expected = encoder.transform(dataset.texts, allow_unknown=True)
    assert torch.equal(dataset[0]["text"].x, expected)


def test_rows_without_a_known_word_are_left_out(tmp_path, content):
    pytest.importorskip("sklearn")
    whole = MSCOCO(tmp_path, image=SIZES, text=LENGTHS)
    store, lost = whole[0]["image"], {}
    for kind in ("query_mask", "train_mask"):
        lost[kind] = int(store[kind].nonzero()[-1])
    names = [whole.ids[row] for row in lost.values()]
    unseen = {int(name[-16:-4]): "the" for name in names}  # a stop word
    for folder in FOLDERS:
        change(tmp_path / "raw", CAPTIONS.format(folder), lambda w: replace_captions(w, unseen))
    with pytest.warns(UserWarning, match=f"text: 2 of {len(whole.ids)} rows have no known word"):
        dataset = MSCOCO(tmp_path, image=SIZES)
    data = dataset[0]
    assert data["text"].x.any(dim=1).all() and len(data["text"].x) == len(whole.ids) - 2
    assert dataset.ids == [name for name in whole.ids if name not in names]
    assert data["image"].query_mask.sum() == 5 and data["image"].train_mask.sum() == 11
    kept = [row for row, name in enumerate(whole.ids) if name not in names]
    assert torch.equal(data["image"].x, store.x[kept])
    again = MSCOCO(tmp_path, image=SIZES)  # from its file
    assert again.ids == dataset.ids and again.texts == dataset.texts


def replace_captions(whole, texts):
    for entry in whole["annotations"]:
        entry["caption"] = texts.get(entry["image_id"], entry["caption"])


def test_acmr_takes_all_of_train2014(tmp_path, content):
    dataset = MSCOCO(tmp_path, image=SIZES, text=LENGTHS, protocol="acmr")
    store = dataset[0]["image"]
    assert dataset.ids == content["names"][: COCO_SIZES["train2014"]]
    assert store.query_mask.sum() == 10 and store.train_mask.sum() == 30
    assert not store.y.any(dim=1).all()  # those without a category stay


def test_every_missing_file_is_listed(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        MSCOCO(tmp_path, image=SIZES)
    message = str(error.value)
    for name in FILES:
        assert f"  {name}\n" in message
    for name, known in load_manifest("mscoco")["archives"].items():
        assert f"  {name}  {known['bytes']} bytes  SHA-256 {known['sha256']}" in message
    assert "cocodataset.org" in message
    places = ["  train2014/*.jpg  (82,783 files)\n", "  val2014/*.jpg  (40,504 files)\n"]
    assert all(place in message for place in places)
    with pytest.raises(FileNotFoundError) as error:
        MSCOCO(tmp_path, image=SIZES, protocol="acmr")
    assert places[0] in str(error.value) and places[1] not in str(error.value)


def test_a_file_is_listed_once(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        MSCOCO(tmp_path, "features")
    assert str(error.value).count(COCO_FEATURES) == 1
    assert "*.jpg" not in str(error.value)


def test_archives_are_named_where_they_help(tmp_path, content):
    raw = tmp_path / "raw"

    def message(**choice):
        with pytest.raises(FileNotFoundError) as error:
            MSCOCO(tmp_path, **choice)
        return str(error.value)

    row = int(content["labels"].any(axis=1).nonzero()[0][0])
    (raw / content["names"][row]).unlink()
    missing = message(image=SIZES, text=LENGTHS)
    assert "  train2014.zip  13510573713 bytes" in missing and "  val2014.zip" not in missing
    (raw / FILES[0]).unlink()
    assert "  annotations_trainval2014.zip  " in message(image=SIZES, text=LENGTHS)
    assert ".zip  " not in message(layout="features")


def change(raw, name, edit):
    path = raw / name
    whole = json.loads(path.read_text())
    edit(whole)
    path.write_text(json.dumps(whole))


def other_picture(whole):
    whole["annotations"][0]["image_id"] = -1


def other_category(whole):
    whole["annotations"][0]["category_id"] = 90


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (FILES[0], lambda w: w["images"].pop(), "39 pictures of train2014"),
        (FILES[1], lambda w: w["images"].pop(), "19 pictures of val2014"),
        (FILES[0], lambda w: w["categories"].pop(), "2 categories .*, the published files have 3"),
        (
            FILES[0],
            lambda w: w["annotations"].clear(),
            "rows with a class .and a tag., the published files have",
        ),
        (FILES[0], lambda w: w.pop("annotations"), "train2014.json: cannot be read .'annotations'"),
        (FILES[0], other_picture, r"unknown picture or category .-1"),
        (FILES[1], other_category, r"unknown picture or category .90"),
        (FILES[2], lambda w: w["annotations"].clear(), "20 pictures with captions"),
        (FILES[3], other_picture, r"unknown picture or category .-1"),
    ],
)
def test_damaged_or_other_files(tmp_path, content, name, edit, message):
    change(tmp_path / "raw", name, edit)
    with pytest.raises(CorruptFileError, match=message):
        MSCOCO(tmp_path, image=SIZES, text=LENGTHS)


def test_feature_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    x = {"XAll": rng.random((50, 16)), "YAll": rng.random((50, 5))}
    x["LAll"] = (rng.random((50, 3)) < 0.5).astype(np.uint8)
    with h5py.File(tmp_path / "raw" / COCO_FEATURES, "w") as file:
        for name, value in x.items():
            file[name] = value
    shrink_coco(monkeypatch, 1)
    data = MSCOCO(tmp_path, "features")[0]
    assert np.array_equal(data["image"].x.numpy(), x["XAll"].astype(np.float32))
    assert np.array_equal(data["text"].x.numpy(), x["YAll"].astype(np.float32))
    assert np.array_equal(data["text"].y.numpy(), x["LAll"])
    last = MSCOCO(tmp_path, "features", protocol="ucch")[0]["image"]
    assert last.query_mask.nonzero().flatten().tolist() == list(range(43, 50))
    with pytest.raises(ValueError, match="protocol: 'acmr' is not known"):
        MSCOCO(tmp_path, "features", protocol="acmr")
    shrink(monkeypatch, counts={"classes": 80})
    with pytest.raises(CorruptFileError, match="3 classes, the published files have 80"):
        MSCOCO(tmp_path, "features", force_reload=True)
