import numpy as np
import pytest
import torch
from published_sets import (
    BOW,
    LENGTHS,
    LOW_LEVEL,
    NUS_CONCEPTS,
    NUS_ROWS,
    SIZES,
    WORDS,
    nus_kept,
    shrink,
    shrink_nus,
    write_matrices,
    write_nus,
    write_pictures,
    write_text,
)
from scipy.io import savemat

from pyg_hash.datasets import NUSWIDE, published
from pyg_hash.datasets.published import NUS_LABELS as LABELS
from pyg_hash.datasets.published import NUS_PICTURES as PICTURES
from pyg_hash.datasets.published import NUS_TAG_NAMES as TAG_NAMES
from pyg_hash.datasets.published import NUS_TAGS as TAGS
from pyg_hash.datasets.published import load_manifest
from pyg_hash.utils.files import CorruptFileError


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    arrays = write_nus(tmp_path / "raw")
    shrink_nus(monkeypatch, arrays)
    return arrays


def tagged(arrays):
    """The rows with one of the classes and one of the tags."""
    _, rows = nus_kept(arrays["labels"])
    return rows[arrays["tags"][rows].any(axis=1)]


def test_labels_are_the_most_frequent_concepts(tmp_path, arrays):
    columns, rows = nus_kept(arrays["labels"])
    dataset = NUSWIDE(tmp_path, drop_textless=False)
    data = dataset[0]
    assert dataset.class_names == [NUS_CONCEPTS[c] for c in columns] == ["animal", "person", "sky"]
    assert np.array_equal(data["image"].y.numpy(), arrays["labels"][rows][:, columns])
    assert data["image"].y.dtype == torch.float32 and data.num_classes == 3
    assert len(rows) < NUS_ROWS  # some have none of them


def test_features_are_those_of_the_files(tmp_path, arrays):
    rows = tagged(arrays)
    data = NUSWIDE(tmp_path)[0]
    expected = np.concatenate([arrays[name][rows] for name in LOW_LEVEL], axis=1)
    assert data["image"].x.shape == (len(rows), 634)
    assert np.array_equal(data["image"].x.numpy(), expected.astype(np.float32))
    assert np.array_equal(data["text"].x.numpy(), arrays["tags"][rows])
    bow = NUSWIDE(tmp_path, image="bow")[0]["image"].x
    assert np.array_equal(bow.numpy(), arrays["bow"][rows])


@pytest.mark.parametrize(("protocol", "query", "train"), [("dcmh", 10, 40), ("per_label", 12, 30)])
def test_split(tmp_path, arrays, protocol, query, train):
    store = NUSWIDE(tmp_path, protocol=protocol)[0]["text"]
    assert store.query_mask.sum() == query and store.train_mask.sum() == train
    assert torch.equal(store.database_mask, ~store.query_mask)
    other = NUSWIDE(tmp_path, protocol=protocol, seed=1)[0]["text"]
    assert not torch.equal(store.query_mask, other.query_mask)
    assert torch.equal(store.x, other.x)


def test_textless_rows(tmp_path, arrays):
    rows, all_rows = tagged(arrays), nus_kept(arrays["labels"])[1]
    assert 3 in all_rows and 3 not in rows
    text = NUSWIDE(tmp_path)[0]["text"].x
    assert text.any(dim=1).all() and np.array_equal(text.numpy(), arrays["tags"][rows])
    text = NUSWIDE(tmp_path, drop_textless=False)[0]["text"].x
    assert not text.any(dim=1).all() and np.array_equal(text.numpy(), arrays["tags"][all_rows])


def test_items(tmp_path, arrays):
    _, rows = nus_kept(arrays["labels"])
    write_pictures(tmp_path / "raw", [f"Flickr/folder{i % 3}/{i:04d}_{i}.jpg" for i in rows[:4]])
    dataset = NUSWIDE(tmp_path, drop_textless=False)
    first = rows[0]
    assert dataset.ids[0] == f"folder{first % 3}/{first:04d}_{first}.jpg"
    assert dataset.image_paths[0] == str(tmp_path / "raw/Flickr" / dataset.ids[0])
    assert dataset.image_paths[5] is None
    own = [word for word, has in zip(WORDS, arrays["tags"][first], strict=True) if has]
    assert dataset.texts[0] == " ".join(own)
    assert dataset.texts[rows.tolist().index(3)] is None
    (tmp_path / "raw" / TAG_NAMES).unlink()
    assert NUSWIDE(tmp_path, drop_textless=False).texts == [None] * len(rows)


def test_tags_as_words_and_pictures_encoded(tmp_path, arrays):
    pytest.importorskip("sklearn")
    rows = tagged(arrays)
    raw = tmp_path / "raw"
    write_pictures(raw, [f"Flickr/folder{i % 3}/{i:04d}_{i}.jpg" for i in range(NUS_ROWS)])
    dataset = NUSWIDE(tmp_path, image=SIZES, text="bow2000")
    data = dataset[0]
    assert torch.equal(data["image"].x[:, 0], torch.from_numpy(rows + 1).float())
    known = [WORDS.index(word) for word in dataset.text_encoder().vocabulary]
    assert np.array_equal(data["text"].x.numpy(), arrays["tags"][rows][:, known])
    assert dataset.image_encoder() is SIZES
    assert NUSWIDE(tmp_path, image="bow", text=LENGTHS)[0]["text"].x.shape == (len(rows), 2)


def test_of_many_missing_pictures_some_are_listed(tmp_path, monkeypatch, arrays):
    monkeypatch.setattr(published, "_LISTED", 40)
    folders = [chr(97 + i // 26) + chr(97 + i % 26) for i in range(NUS_ROWS)]  # no two lines alike
    lines = [f"{folder}\\{i:04d}_{i}.jpg\r\n" for i, folder in enumerate(folders)]
    write_text(tmp_path / "raw" / PICTURES, "".join(lines))
    rows = tagged(arrays)
    with pytest.raises(FileNotFoundError, match="pictures are missing") as error:
        NUSWIDE(tmp_path, image=SIZES)
    lines = str(error.value).splitlines()
    assert len(rows) > 40 and sum(line.startswith("  Flickr/") for line in lines) == 40
    assert f"  and more, {len(rows)} files in all" in lines
    assert "NUS-WIDE.html" in lines[-1]


def test_own_features(tmp_path, arrays):
    rows = tagged(arrays)
    x = np.random.default_rng(5).random((NUS_ROWS, 7)).astype(np.float32)
    np.save(tmp_path / "raw" / "all.npy", x)
    np.save(tmp_path / "raw" / "kept.npy", x[rows])
    savemat(tmp_path / "raw" / "x.mat", {"VGG": x})
    np.save(tmp_path / "raw" / "other.npy", x[:50])
    for name in ("all.npy", "kept.npy", "x.mat:VGG", str(tmp_path / "raw" / "all.npy")):
        data = NUSWIDE(tmp_path, image=name, text=name)[0]
        assert np.array_equal(data["image"].x.numpy(), x[rows]), name
        assert np.array_equal(data["text"].x.numpy(), x[rows]), name
    with pytest.raises(ValueError, match="50 rows; give one for each of the 120 rows"):
        NUSWIDE(tmp_path, image="other.npy")
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        NUSWIDE(tmp_path, image="gone.npy")


def test_every_missing_file_is_listed(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        NUSWIDE(tmp_path, text="bow2000")
    message = str(error.value)
    concepts = load_manifest("nuswide-21")["classes"]
    for name in (*map(LABELS.format, concepts), PICTURES, TAGS, TAG_NAMES, *LOW_LEVEL):
        assert f"  {name}\n" in message
    assert next(iter(BOW)) not in message and "NUS-WIDE.html" in message
    assert "*.jpg" not in message
    assert str(tmp_path / "raw") in message


def test_only_what_is_needed_is_asked_for(tmp_path, arrays):
    for name in LOW_LEVEL:
        (tmp_path / "raw" / name).unlink()
    (tmp_path / "raw" / LABELS.format("grass")).unlink()
    with pytest.raises(FileNotFoundError) as error:
        NUSWIDE(tmp_path, image="bow")
    assert "Labels_grass" in str(error.value) and "Labels_sky" not in str(error.value)
    assert "Normalized" not in str(error.value)


def cut(name):
    def change(raw):
        content = (raw / name).read_text().splitlines(keepends=True)
        (raw / name).write_text("".join(content[:-1]))

    return change


def spoil(name, line):
    def change(raw):
        content = (raw / name).read_text().splitlines(keepends=True)
        (raw / name).write_text("".join([line + "\n", *content[1:]]))

    return change


def one_label_more(raw):
    rows = (raw / LABELS.format("sky")).read_text().splitlines()
    (raw / LABELS.format("sky")).write_text("1\n" * len(rows))


FIRST = next(iter(LOW_LEVEL))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut(LABELS.format("sky")), "119 rows in .*Labels_sky.txt, the published files have 120"),
        (cut(TAGS), "119 rows in .*AllTags1k.txt"),
        (cut(PICTURES), "119 rows in .*Imagelist.txt"),
        (cut(FIRST), "119 rows in .*Normalized_CH.dat"),
        (spoil(FIRST, "1 2 3"), "3 columns in .*Normalized_CH.dat, the published files have 64"),
        (spoil(TAGS, "0 1 1"), r"AllTags1k.txt: lines 1 to 120 are not 8 times 0 or 1"),
        (
            spoil(LABELS.format("sky"), "-1130179"),
            "sky.txt: lines 1 to 120 are not 1 times .*1130179",
        ),
        (one_label_more, "rows with a class .and a tag., the published files have"),
    ],
)
def test_damaged_or_other_files(tmp_path, arrays, change, message):
    change(tmp_path / "raw")
    with pytest.raises(CorruptFileError, match=message):
        assert NUSWIDE(tmp_path).ids


def test_changed_files_are_noticed(tmp_path, arrays):
    before = NUSWIDE(tmp_path)[0]["image"].x
    np.savetxt(tmp_path / "raw" / FIRST, np.full((NUS_ROWS, 64), 0.25), fmt="%.2f")
    after = NUSWIDE(tmp_path)[0]["image"].x
    assert (after[:, :64] == 0.25).all() and torch.equal(after[:, 64:], before[:, 64:])


@pytest.mark.parametrize(
    "arguments",
    [
        {"concepts": 81},
        {"layout": "mat"},
        {"image": "vgg"},
        {"text": "doc2vec"},
        {"protocol": "djsrh"},  # of the ten concepts
        {"protocol": "ucch", "concepts": 10},  # of the other layout
    ],
)
def test_unknown_choice(tmp_path, arguments):
    with pytest.raises(ValueError, match="is not known; use one of"):
        NUSWIDE(tmp_path, **arguments)


def test_not_an_encoder(tmp_path):
    with pytest.raises(TypeError, match="image: expected a name, a file's name or an encoder"):
        NUSWIDE(tmp_path, image=3)
    with pytest.raises(ValueError, match="image: the layout 'features' has no raw items"):
        NUSWIDE(tmp_path, layout="features", image=SIZES)


@pytest.mark.parametrize("concepts", [21, 10])
def test_feature_files(tmp_path, monkeypatch, concepts):
    stem = f"nus-wide-tc{concepts}"
    names = {
        f"{c}All": f"{stem}-{n}.mat" for c, n in [("X", "xall-vgg"), ("Y", "yall"), ("L", "lall")]
    }
    image, text, labels = write_matrices(tmp_path / "raw", names, 50, (16, 6, concepts))
    names = ("gch", "dcmh", "djsrh")
    small = dict.fromkeys(names, {"query": 5, "train": 9})
    shrink(monkeypatch, kept=[50], protocols=small | {"ucch": {"query": 4}})
    dataset = NUSWIDE(tmp_path, concepts, "features")
    data = dataset[0]
    assert np.array_equal(data["image"].x.numpy(), image)
    assert np.array_equal(data["text"].x.numpy(), text)
    assert np.array_equal(data["text"].y.numpy(), labels)
    assert data["text"].query_mask.sum() == 5 and data["text"].train_mask.sum() == 9
    assert dataset.class_names[0] == "class 0" and dataset.ids[-1] == "49"
    assert dataset.texts == dataset.image_paths == [None] * 50
    if concepts == 10:
        with pytest.raises(ValueError, match="use drop_textless=False"):
            NUSWIDE(tmp_path, 10, "features", protocol="ucch")
        kept = NUSWIDE(tmp_path, 10, "features", protocol="ucch", drop_textless=False)
        mask = kept[0]["text"].query_mask
        assert mask.nonzero().flatten().tolist() == [46, 47, 48, 49]
    text[[2, 7]] = 0
    savemat(tmp_path / "raw" / f"{stem}-yall.mat", {"YAll": text})
    data = NUSWIDE(tmp_path, concepts, "features")[0]
    some = text.any(axis=1)
    assert np.array_equal(data["image"].x.numpy(), image[some]) and some.sum() == 48
    assert np.array_equal(data["text"].x.numpy(), text[some])
    assert np.array_equal(data["text"].y.numpy(), labels[some])
    whole = NUSWIDE(tmp_path, concepts, "features", drop_textless=False)[0]
    assert np.array_equal(whole["text"].x.numpy(), text)
    shrink(monkeypatch, kept=[51])
    with pytest.raises(CorruptFileError, match="50 rows in .*LAll, the published files have 51"):
        NUSWIDE(tmp_path, concepts, "features", force_reload=True)


def test_feature_files_that_do_not_belong_together(tmp_path, monkeypatch):
    names = {"XAll": "nus-wide-tc21-xall-vgg.mat", "YAll": "nus-wide-tc21-yall.mat"}
    names["LAll"] = "nus-wide-tc21-lall.mat"
    image, _, labels = write_matrices(tmp_path / "raw", names, 50, (16, 6, 21))
    shrink(monkeypatch, kept=[50], protocols={"gch": {"query": 5, "train": 9}})
    savemat(tmp_path / "raw" / names["XAll"], {"XAll": image[:49]})
    with pytest.raises(CorruptFileError, match="49 rows in nus-wide-tc21-xall-vgg.mat"):
        NUSWIDE(tmp_path, layout="features")
    savemat(tmp_path / "raw" / names["LAll"], {"LAll": labels * 2.0})
    with pytest.raises(CorruptFileError, match="labels are not 0 and 1"):
        NUSWIDE(tmp_path, layout="features")
