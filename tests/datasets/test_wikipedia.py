import gzip
import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from pyg_hash.datasets import Wikipedia
from pyg_hash.datasets import published as module
from pyg_hash.datasets.published import load_manifest
from pyg_hash.features import BagOfWords, Concatenated, OwnEncoder, Translated, load_encoder
from pyg_hash.utils.files import CorruptFileError

pytest.importorskip("sklearn")
FILES = load_manifest("wikipedia")["archives"]
MAT = "raw_features.mat"
TRAIN, TEST = 7, 3
N = TRAIN + TEST


@pytest.fixture
def root(tmp_path):
    """The official layout in small: ten rows, two classes, the stray letter included."""
    raw = tmp_path / "raw"
    raw.mkdir()
    rng = np.random.default_rng(0)
    ids = [f"{i:032x}-{i}.1" for i in range(N)]
    labels = [1 + i % 2 for i in range(N)]
    lines = [f"{ids[i]}\tpicture{i}\t{labels[i]}" for i in range(N)]
    (raw / module.WIKI_LISTS["train"]).write_text("A" + "\n".join(lines[:TRAIN]) + "\n")
    (raw / module.WIKI_LISTS["test"]).write_text("\n".join(lines[TRAIN:]))
    (raw / module.WIKI_CATEGORIES).write_text("art\nbiology\n")
    parts = {"tr": TRAIN, "te": TEST}
    widths = {"I": 128, "T": 10, "T_tfidf": 1000}
    matrices = {f"{m}_{p}": rng.random((n, d)) for m, d in widths.items() for p, n in parts.items()}
    savemat(raw / MAT, matrices)
    with h5py.File(raw / module.WIKI_IMAGE128, "w") as file:
        file["image"] = rng.random((N, 128)).astype(np.float32)
        file["labels"] = np.array(labels, dtype=np.uint8)
    words = ["paint canvas colour", "cell gene plant"]
    with gzip.open(raw / module.WIKI_ARTICLES, "wt") as file:
        for i in range(N):
            stray = "A" if i == 0 else ""
            text = f"The {words[i % 2]} of row number{i}"
            record = {"text_id": stray + ids[i], "label": labels[i], "text": text}
            file.write(json.dumps(record) + "\n")
    return tmp_path


def test_split_and_labels(root):
    dataset = Wikipedia(root, "sift", "lda")
    store = dataset[0]["image"]
    assert store.y.tolist() == [i % 2 for i in range(N)] and dataset.num_classes == 2
    assert store.train_mask.tolist() == [True] * TRAIN + [False] * TEST
    assert torch.equal(store.database_mask, store.train_mask)
    assert torch.equal(store.query_mask, ~store.train_mask)
    assert dataset.class_names == ["art", "biology"]


def test_stray_letter_is_dropped(root):
    dataset = Wikipedia(root, "sift", "lda")
    assert dataset.ids[0] == f"{0:032x}-0.1" and dataset.ids[-1] == f"{N - 1:032x}-{N - 1}.1"
    assert dataset.texts[0] == "The paint canvas colour of row number0"
    assert dataset.image_paths == [None] * N


def test_features_are_those_of_the_files(root):
    from scipy.io import loadmat

    content = loadmat(root / "raw" / MAT)
    data = Wikipedia(root, "sift", "tfidf")[0]
    expected = np.concatenate([content["I_tr"], content["I_te"]]).astype(np.float32)
    assert np.array_equal(data["image"].x.numpy(), expected)
    expected = np.concatenate([content["T_tfidf_tr"], content["T_tfidf_te"]]).astype(np.float32)
    assert np.array_equal(data["text"].x.numpy(), expected)
    with h5py.File(root / "raw" / module.WIKI_IMAGE128) as file:
        expected = file["image"][:]
    assert np.array_equal(Wikipedia(root, "image128", "lda")[0]["image"].x.numpy(), expected)


def test_bag_of_words_is_fitted_on_train_only(root):
    dataset = Wikipedia(root, "sift", "bow3000")
    encoder = dataset.text_encoder()
    known = {"paint", "canvas", "colour", "cell", "gene", "plant", "row"}
    assert set(encoder.vocabulary) == known | {f"number{i}" for i in range(TRAIN)}
    assert torch.equal(encoder(dataset.texts), dataset[0]["text"].x)
    assert load_encoder(dataset.base_dir / "text_encoder").config["max_features"] == 3000


def test_lsa(root, monkeypatch):
    monkeypatch.setattr(Wikipedia, "words", {"lsa200": {"mode": "tfidf", "lsa": 2}})
    dataset = Wikipedia(root, "sift", "lsa200")
    assert dataset[0]["text"].x.shape == (N, 2)
    again = Wikipedia(root, "sift", "lsa200", force_reload=True)
    assert torch.equal(dataset[0]["text"].x, again[0]["text"].x)


def test_a_matrix_and_an_encoder_of_your_own(root):
    x = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    np.save(root / "raw" / "mine.npy", x)
    lengths = OwnEncoder(lambda texts: [[len(text)] for text in texts], 1, "lengths")
    dataset = Wikipedia(root, "mine.npy", lengths)
    assert np.array_equal(dataset[0]["image"].x.numpy(), x)
    assert dataset[0]["text"].x.flatten().tolist() == [len(text) for text in dataset.texts]
    assert dataset.text_encoder() is lengths
    with pytest.raises(ValueError, match="image: .* no raw items to encode; use one of image128"):
        Wikipedia(root, lengths)


def test_encoders_of_other_parts_are_other_data(root):
    fitted_on = ["paint canvas", "paint", "cell gene", "cell"]
    bags = [BagOfWords(mode).fit(fitted_on) for mode in ("count", "tfidf")]
    for wrapped in (
        lambda bag: Concatenated([bag]),
        lambda bag: Translated(bag, {"alt": "old"}),
    ):
        one, other = (Wikipedia(root, "sift", wrapped(bag)) for bag in bags)
        assert one.base_dir != other.base_dir
        assert not torch.equal(one[0]["text"].x, other[0]["text"].x)


def test_ready_made_features_have_no_encoder(root):
    dataset = Wikipedia(root, "sift", "lda")
    for encoder in (dataset.text_encoder, dataset.image_encoder):
        with pytest.raises(ValueError, match="Wikipedia: its .* features came ready-made"):
            encoder()


def test_optional_files_are_needed_only_when_chosen(root):
    (root / "raw" / module.WIKI_ARTICLES).unlink()
    (root / "raw" / module.WIKI_IMAGE128).unlink()
    assert Wikipedia(root, "sift", "lda").texts == [None] * N
    with pytest.raises(FileNotFoundError) as error:
        Wikipedia(root, "image128", "lsa200")
    message = str(error.value)
    assert module.WIKI_ARTICLES in message and module.WIKI_IMAGE128 in message
    assert MAT not in message


def test_download_lists_files_sizes_hashes_and_source(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Wikipedia(tmp_path, "sift", "lda")
    message = str(error.value)
    for name in (*module.WIKI_LISTS.values(), module.WIKI_CATEGORIES, MAT):
        _, size, digest = FILES[name].values()
        assert f"{name}  {size} bytes  SHA-256 {digest}" in message
        assert message.count(f"  {name}") == 1
    assert "svcl.ucsd.edu" in message and str(tmp_path / "raw") in message


def test_changed_raw_files_are_noticed(root):
    before = Wikipedia(root, "image128", "lda")[0]["image"].x
    with h5py.File(root / "raw" / module.WIKI_IMAGE128, "r+") as file:
        file["image"][...] = 0.5
    after = Wikipedia(root, "image128", "lda")[0]["image"].x
    assert not torch.equal(before, after) and (after == 0.5).all()


def damage(name):
    def cut(raw):
        content = (raw / name).read_bytes()
        (raw / name).write_bytes(content[: len(content) // 2])

    return cut


def other_labels(raw):
    with h5py.File(raw / module.WIKI_IMAGE128, "r+") as file:
        file["labels"][0] = 2


def other_order(raw):
    path = raw / module.WIKI_ARTICLES
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    with gzip.open(path, "wt") as file:
        file.write("\n".join(reversed(lines)))


def bad_line(raw):
    (raw / module.WIKI_LISTS["train"]).write_text("one two\n")


def fewer_rows(raw):
    lines = (raw / module.WIKI_LISTS["test"]).read_text().splitlines()
    (raw / module.WIKI_LISTS["test"]).write_text("\n".join(lines[:-1]))
    (raw / module.WIKI_ARTICLES).unlink()


@pytest.mark.parametrize(
    ("change", "image", "text", "message"),
    [
        (damage(MAT), "sift", "tfidf", "raw_features.mat: cannot be read"),
        (damage(module.WIKI_IMAGE128), "image128", "lda", "image128.h5: truncated or damaged"),
        (damage(module.WIKI_ARTICLES), "sift", "bow3000", "articles.jsonl.gz: cannot be read"),
        (other_labels, "image128", "lda", "its labels are not those of the lists"),
        (other_order, "sift", "bow3000", "its text ids are not those of the lists"),
        (bad_line, "sift", "lda", "line 1 is not 'text-id image-id class'"),
        (fewer_rows, "sift", "lda", "10 rows in raw_features.mat"),
    ],
)
def test_damaged_or_mixed_files(root, change, image, text, message):
    change(root / "raw")
    with pytest.raises(CorruptFileError, match=message):
        Wikipedia(root, image, text)


@pytest.mark.parametrize(("image", "text"), [("vgg", "lda"), ("sift", "bert")])
def test_unknown_choice(tmp_path, image, text):
    with pytest.raises(ValueError, match="is not known; use one of"):
        Wikipedia(tmp_path, image, text)


@pytest.fixture
def real(shared_data, tmp_path):
    (tmp_path / "raw").symlink_to(shared_data / "wikipedia")
    return tmp_path


def test_hashes_of_the_real_files(real):
    for name, (_, size, digest) in ((name, known.values()) for name, known in FILES.items()):
        content = (Path(real) / "raw" / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest), name


def test_real_rows(real):
    from sklearn.linear_model import LogisticRegression

    dataset = Wikipedia(real, "image128", "tfidf")
    data = dataset[0]
    assert data["image"].x.shape == (2866, 128) and data["text"].x.shape == (2866, 1000)
    assert data["image"].train_mask.sum() == 2173 and data["image"].query_mask.sum() == 693
    assert data["image"].y.bincount().numel() == dataset.num_classes == 10
    assert len(dataset.texts) == 2866 and dataset.ids[0].startswith("b3150b0c")
    train = data["text"].train_mask.numpy()
    x, y = data["text"].x.numpy(), data["text"].y.numpy()
    probe = LogisticRegression(C=100, max_iter=200).fit(x[train], y[train])
    assert probe.score(x[~train], y[~train]) > 0.8  # rows of text and labels belong together
