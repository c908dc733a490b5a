import os
import shutil

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.transforms import BaseTransform

from pyg_hash.datasets import FeatureFile, write_feature_file
from pyg_hash.datasets import build as build_module
from pyg_hash.datasets.sources import open_source
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.locks import BusyError

N = 8
TRAIN, QUERY = np.arange(6), np.array([6, 7])


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return {
        "image": rng.standard_normal((N, 5)).astype(np.float32),
        "text": rng.standard_normal((N, 3)).astype(np.float32),
        "train": TRAIN,
        "query": QUERY,
        "labels": np.arange(N) % 3,
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.h5"


class Double(BaseTransform):
    def forward(self, data):
        data["image"].x = data["image"].x * 2
        return data

    def __repr__(self):
        return "Double()"


def test_round_trip(path, content):
    assert write_feature_file(path, **content) == path
    dataset = FeatureFile(path)
    data = dataset[0]
    for modality in ("image", "text"):
        assert np.array_equal(data[modality].x.numpy(), content[modality])
        assert data[modality].y.tolist() == content["labels"].tolist()
        assert data[modality].train_mask.nonzero().flatten().tolist() == TRAIN.tolist()
        assert torch.equal(data[modality].database_mask, data[modality].train_mask)
    assert dataset.num_classes == 3 and dataset.class_names == ["class 0", "class 1", "class 2"]
    assert dataset.ids == [str(i) for i in range(N)]
    assert dataset.texts == dataset.image_paths == [None] * N


def test_everything_optional(path, content, tmp_path):
    write_feature_file(
        path,
        **content,
        database=np.arange(3),
        labeled=np.arange(N) < 2,
        class_names=["a", "b", "c", "never"],
        ids=[f"id{i}" for i in range(N)],
        image_paths=["p/0.jpg", *[None] * (N - 1)],
        texts=["größe", *[""] * (N - 1)],
        compression="gzip",
    )
    dataset = FeatureFile(path)
    store = dataset[0]["text"]
    assert dataset.num_classes == 4 and dataset.class_names[3] == "never"
    assert store.database_mask.sum() == 3 and store.labeled_mask.sum() == 2
    assert dataset.ids[7] == "id7"
    assert dataset.image_paths == [str(tmp_path / "p" / "0.jpg"), *[None] * (N - 1)]
    assert dataset.texts == ["größe", *[None] * (N - 1)]


def test_a_file_may_say_what_made_its_features(path, content):
    write_feature_file(path, **content)
    assert FeatureFile(path).about is None
    write_feature_file(path, **content, about="vgg16-fc7 + größe")
    assert FeatureFile(path).about == "vgg16-fc7 + größe"
    with h5py.File(path, "r+") as file:
        file.attrs["about"] = np.bytes_("cnn-f")  # of fixed length, as MATLAB has it
    assert FeatureFile(path).about == "cnn-f"
    with h5py.File(path, "r+") as file:
        file.attrs["about"] = 3
    with pytest.raises(ValueError, match=r"features\.h5: attributes: about must be a text.*got.*3"):
        FeatureFile(path)
    path.unlink()
    with pytest.raises(TypeError, match="about: expected a text, got int"):
        write_feature_file(path, **content, about=3)
    with pytest.raises(ValueError, match="not written: about: must be a text that is not empty"):
        write_feature_file(path, **content, about=" ")
    assert not path.exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8])
def test_stored_types_become_float32(path, content, dtype):
    image = np.arange(N * 5).reshape(N, 5).astype(dtype)
    write_feature_file(path, **{**content, "image": image})
    x = FeatureFile(path)[0]["image"].x
    assert x.dtype == torch.float32 and np.array_equal(x.numpy(), image.astype(np.float32))


def test_tensors_can_be_written(path, content):
    tensors = {name: torch.as_tensor(value) for name, value in content.items()}
    write_feature_file(path, **tensors)
    assert torch.equal(FeatureFile(path)[0]["image"].x, tensors["image"])


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array])
def test_sparse_text(path, content, kind, monkeypatch):
    monkeypatch.setattr(build_module, "_CHUNK_ELEMENTS", 9)  # three rows a block
    dense = content["text"] * (content["text"] > 0)
    dense[4] = 0
    write_feature_file(path, **{**content, "text": kind(dense)})
    with h5py.File(path) as file:
        assert set(file["text"]) == {"data", "indices", "indptr"}
    assert np.array_equal(FeatureFile(path)[0]["text"].x.numpy(), dense)


def test_multi_hot_and_no_labels(path, content):
    y = np.eye(3, dtype=bool)[content["labels"]]
    write_feature_file(path, **{**content, "labels": y})
    assert np.array_equal(FeatureFile(path)[0]["text"].y.numpy(), y.astype(np.float32))
    write_feature_file(path, **{**content, "labels": None})
    dataset = FeatureFile(path)
    assert "y" not in dataset[0]["image"] and dataset.num_classes == 0
    assert dataset.class_names == [] and not dataset[0]["image"].labeled_mask.any()


def test_nothing_is_written_without_pre_transform(path, content, tmp_path):
    write_feature_file(path, **content)
    FeatureFile(path)
    assert list(tmp_path.iterdir()) == [path]


def test_pre_transform_is_stored_and_unchanged_features_are_not(path, content, tmp_path):
    write_feature_file(path, **content)
    first = FeatureFile(path, pre_transform=Double())
    (stored,) = tmp_path.rglob("data.safetensors")
    assert stored.is_relative_to(tmp_path / "features.h5.cache")
    again = FeatureFile(path, pre_transform=Double())
    for dataset in (first, again):
        assert np.array_equal(dataset[0]["image"].x.numpy(), content["image"] * 2)
        assert np.array_equal(dataset[0]["text"].x.numpy(), content["text"])
    assert again[0]["text"].y.tolist() == content["labels"].tolist()
    FeatureFile(path, pre_transform=Double(), root=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "processed").is_dir()


def test_a_new_version_of_the_file_is_noticed(path, content):
    write_feature_file(path, **content)
    FeatureFile(path, pre_transform=Double())
    write_feature_file(path, **{**content, "image": content["image"] + 1})
    os.utime(path, ns=(1, 1))
    x = FeatureFile(path, pre_transform=Double())[0]["image"].x
    np.testing.assert_allclose(x.numpy(), (content["image"] + 1) * 2)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_file_of_the_same_size_and_time_is_another(path, content, sealed):
    sizes = set()
    for more in (0, 1):  # as two archives give them
        write_feature_file(path, **{**content, "image": content["image"] + more})
        if not sealed:
            path.write_bytes(path.read_bytes()[:-30])
        os.utime(path, ns=(1, 1))
        sizes.add(path.stat().st_size)
        x = FeatureFile(path, pre_transform=Double())[0]["image"].x
        np.testing.assert_allclose(x.numpy(), (content["image"] + more) * 2)
    assert len(sizes) == 1
    stored = sorted(path.parent.rglob("data.safetensors"))
    os.utime(path, ns=(1, 1))
    FeatureFile(path, pre_transform=Double())
    assert sorted(path.parent.rglob("data.safetensors")) == stored and len(stored) == 2


def replacing(path, versions, monkeypatch):
    """Put the next of these versions into the file's place before each reading of its features."""
    build, left = FeatureFile.build, list(versions)

    def late(self):
        if left:
            shutil.copy2(left.pop(0), f"{path}.next")
            os.replace(f"{path}.next", path)
        return build(self)

    monkeypatch.setattr(FeatureFile, "build", late)


@pytest.fixture
def versions(path, content, tmp_path):
    found = [tmp_path / f"{number}.h5" for number in range(2)]
    for number, version in enumerate(found):
        image = content["image"] + number
        write_feature_file(version, **{**content, "image": image}, texts=[str(number)] * N)
        os.utime(version, ns=(number + 1, number + 1))
    shutil.copy2(found[0], path)
    return found


def test_a_file_replaced_while_read_is_read_again(path, content, versions, monkeypatch):
    replacing(path, versions[1:], monkeypatch)
    raced = FeatureFile(path, pre_transform=Double())
    np.testing.assert_allclose(raced[0]["image"].x.numpy(), (content["image"] + 1) * 2)
    assert raced.texts == ["1"] * N
    assert len(list(path.with_name(f"{path.name}.cache").glob("processed/*"))) == 1
    shutil.copy2(versions[0], path)  # with its size and its time
    again = FeatureFile(path, pre_transform=Double())
    np.testing.assert_allclose(again[0]["image"].x.numpy(), content["image"] * 2)


def test_a_file_replaced_at_each_reading_is_refused(path, versions, monkeypatch):
    replacing(path, versions[::-1] * 10, monkeypatch)
    with pytest.raises(BusyError, match=rf"{path.name}: was replaced while it was read"):
        FeatureFile(path, pre_transform=Double())
    assert not list(path.parent.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["texts", "ids", "about", "text_encoder", "row_prints"])
def test_a_file_replaced_since_gives_nothing_more(path, versions, name, monkeypatch):
    FeatureFile(path, pre_transform=Double())
    dataset = FeatureFile(path, pre_transform=Double())
    monkeypatch.setattr(dataset, "_prints", None)
    shutil.copy2(versions[1], path)
    with pytest.raises(BusyError, match="was replaced while it was read, or since"):
        found = getattr(dataset, name)
        found()


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: .*write_feature_file"):
        FeatureFile(tmp_path / "none.h5")
    with pytest.raises(FileNotFoundError):
        FeatureFile(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_truncated_file(path, content, share):
    path.write_bytes(b"something else")
    with pytest.raises(CorruptFileError, match="not an HDF5 file"):
        FeatureFile(path)
    write_feature_file(path, **content)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CorruptFileError, match="truncated.* damaged.* copy or write it again"):
        FeatureFile(path)


def change(path, name, value=None):
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value


NAN = np.full((N, 5), np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", None, "image: missing"),
        ("image", NAN, "image: 8 of 8 rows contain NaN or inf"),
        ("image", np.zeros((N, 5, 2)), r"image: expected a matrix \[N, d\]"),
        ("image", np.zeros((N, 5), dtype="S3"), "image: expected real numbers"),
        ("text", np.zeros((N + 1, 3)), "image and text: 8 and 9 rows"),
        ("text/data", np.zeros(3), "text: a CSR group needs data, indices, indptr"),
        ("labels", np.zeros(N + 1, dtype=int), "y: has 9 rows, expected 8"),
        ("labels", np.zeros(N), "labels: class indices must be integers"),
        ("class_names", ["a"], r"outside 0\.\.0"),
        ("class_names", np.arange(3), "class_names: expected a list of strings"),
        ("splits/train", None, "splits/train: missing"),
        ("splits/query", np.ones(N, dtype=bool), "query: 6 query rows are also in train"),
        ("splits/train", np.array([0, 1, 5]), "splits/train: expected a mask of 8"),
        ("splits/train", np.full(N, 2), "splits/train: expected a mask of 8"),
    ],
)
def test_broken_content_names_file_and_entry(path, content, name, value, message):
    write_feature_file(path, **content)
    if "/" in name and name.startswith("text"):
        change(path, "text")
    change(path, name, value)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        FeatureFile(path)
    assert str(path) in str(error.value) and not isinstance(error.value, CorruptFileError)


def test_not_this_format(path, content):
    write_feature_file(path, **content)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(ValueError, match="version 99 is not 'pyg_hash.features' version 1"):
        FeatureFile(path)


@pytest.mark.parametrize("part", ["indptr", "indices"])
def test_broken_csr(path, content, part):
    write_feature_file(path, **{**content, "text": sp.csr_matrix(content["text"])})
    with h5py.File(path, "r+") as file:
        file["text"][part][1] = 1000
    with pytest.raises(ValueError, match="text: (indptr|column numbers)"):
        FeatureFile(path)


@pytest.mark.parametrize("name", ["ids", "texts", "image_paths"])
def test_wrong_number_of_strings(path, content, name):
    write_feature_file(path, **content)
    change(path, name, ["one", "two"])
    dataset = FeatureFile(path)
    with pytest.raises(ValueError, match=f"{name}: has 2 entries, expected 8"):
        getattr(dataset, name)


def test_writing_is_checked_and_leaves_the_old_file(path, content):
    write_feature_file(path, **content)
    before = path.read_bytes()
    broken = {**content, "image": NAN, "labels": np.arange(N + 1)}
    with pytest.raises(ValueError, match="was not written") as error:
        write_feature_file(path, **broken)
    assert "image: 8 of 8 rows contain NaN" in str(error.value) and "labels: has 9 rows" in str(
        error.value
    )
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    with pytest.raises(ValueError, match="query: row numbers"):
        write_feature_file(path, **{**content, "query": [N]})
    with pytest.raises(ValueError, match="ids: has 1 entries"):
        write_feature_file(path, **content, ids=["a"])
    with pytest.raises(ValueError, match="image and text: 8 and 7 rows"):
        write_feature_file(path, **{**content, "text": content["text"][1:]})


def test_texts_that_are_not_in_utf_8_are_named_with_the_file(tmp_path):
    x = np.eye(4)
    path = write_feature_file(tmp_path / "a.h5", image=x, text=x, train=[0, 1], query=[2])
    with h5py.File(path, "r+") as file:
        file["ids"] = np.array([b"\xff"] * 4)
    for read in (lambda: FeatureFile(path).ids, lambda: open_source([path])):
        with pytest.raises(ValueError, match=r"a\.h5: ids: is not in UTF-8"):
            read()
