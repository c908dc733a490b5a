import numpy as np
import pytest
import torch
from published_sets import (
    LENGTHS,
    MIR_CLASSES,
    MIR_COMMON,
    MIR_ROWS,
    SIZES,
    WORDS,
    mir_kept,
    shrink,
    shrink_mir,
    write_matrices,
    write_mir,
    write_pictures,
)

from pyg_hash.datasets import MIRFlickr25K
from pyg_hash.datasets.published import load_manifest
from pyg_hash.features import OwnEncoder
from pyg_hash.utils.files import CorruptFileError

PICTURES = [f"mirflickr/im{i + 1}.jpg" for i in range(MIR_ROWS)]


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    arrays = write_mir(tmp_path / "raw")
    write_pictures(tmp_path / "raw", PICTURES)
    shrink_mir(monkeypatch, len(mir_kept(arrays)))
    return arrays


def test_rows_are_those_with_a_common_tag_and_a_label(tmp_path, arrays):
    rows = mir_kept(arrays)
    assert 0 < len(rows) < MIR_ROWS
    dataset = MIRFlickr25K(tmp_path, image=SIZES)
    data = dataset[0]
    assert dataset.ids == [f"im{row + 1}" for row in rows]
    assert np.array_equal(data["image"].y.numpy(), arrays["labels"][rows])
    assert np.array_equal(data["text"].x.numpy(), arrays["tags"][rows])
    assert torch.equal(data["image"].x[:, 0], torch.from_numpy(rows + 1).float())
    assert dataset.class_names == MIR_CLASSES and data.num_classes == 3
    assert dataset.image_paths[0] == str(tmp_path / "raw" / PICTURES[rows[0]])
    assert dataset.texts[0].split()[-1] == f"only{rows[0]}"  # a rare tag is a word of the text


def test_default_pictures_are_encoded_by_efficientnet(tmp_path, arrays):
    pytest.importorskip("efficientnet_lite_pytorch")
    with pytest.raises(ValueError, match=r"items cannot be encoded.*\n  image 0 \(.*/im"):
        MIRFlickr25K(tmp_path)  # the pictures of this test are none
    with pytest.raises(ValueError, match="use one of 'efficientnet_lite0'"):
        MIRFlickr25K(tmp_path, image="vgg")


def test_pictures_are_encoded_once(tmp_path, arrays):
    calls = []

    def counted(paths):
        calls.append(len(paths))
        return SIZES(paths)

    encoder = OwnEncoder(counted, 2)
    first = MIRFlickr25K(tmp_path, image=encoder)[0]["image"].x
    again = MIRFlickr25K(tmp_path, image=encoder, text=LENGTHS, protocol="djsrh", seed=3)
    assert torch.equal(first, again[0]["image"].x) and sum(calls) == len(first)
    assert again.image_encoder() is encoder and again.text_encoder() is LENGTHS
    with open(again.image_paths[0], "a") as file:
        file.write("x")
    changed = MIRFlickr25K(tmp_path, image=encoder, force_reload=True)[0]["image"].x
    assert changed[0, 0] == first[0, 0] + 1 and sum(calls) == 2 * len(first)


def test_every_missing_file_is_listed(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as error:
        MIRFlickr25K(tmp_path, image=SIZES)
    message = str(error.value)
    assert "  mirflickr/doc/common_tags.txt\n" in message
    tags = "mirflickr/meta/tags/tags{}.txt"
    assert f"  {tags.format(1)} ... {tags.format(25000)}  (25,000 files)\n" in message
    for name in load_manifest("mirflickr25k")["classes"]:
        assert f"  mirflickr25k_annotations_v080/{name}.txt\n" in message
    assert "  mirflickr/im*.jpg  (25,000 files)\n" in message
    assert "_r1" not in message and "press.liacs.nl/mirflickr" in message


def test_pictures_are_asked_for_where_they_are_encoded(tmp_path, monkeypatch, arrays):
    raw, place = tmp_path / "raw", "mirflickr/im*.jpg  (60 files)"
    (raw / "mirflickr/doc/common_tags.txt").unlink()

    def message(**choice):
        with pytest.raises(FileNotFoundError) as error:
            MIRFlickr25K(tmp_path, **choice)
        return str(error.value)

    assert place not in message(image=SIZES)  # all there
    (raw / PICTURES[0]).unlink()
    assert place in message(image=SIZES)
    assert place not in message(image="own.npy")


def no_number(raw):
    (raw / "mirflickr25k_annotations_v080/baby.txt").write_text("1\nx\n")


def large_number(raw):
    (raw / "mirflickr25k_annotations_v080/baby.txt").write_text(f"1\n{MIR_ROWS + 1}\n")


def no_labels(raw):
    (raw / "mirflickr25k_annotations_v080/baby.txt").write_text("")


def tag_more(raw):
    (raw / "mirflickr/doc/common_tags.txt").write_text("".join(f"{t} 20\n" for t in WORDS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_number, r"baby.txt: 'x' is not the number of a picture"),
        (large_number, r"baby.txt: '61' is not the number of a picture"),
        (no_labels, "rows with a class .and a tag., the published files have"),
        (tag_more, "8 tags in mirflickr/doc/common_tags.txt, the published files have 4"),
    ],
)
def test_damaged_or_other_files(tmp_path, arrays, change, message):
    change(tmp_path / "raw")
    with pytest.raises(CorruptFileError, match=message):
        MIRFlickr25K(tmp_path, image=SIZES)


def test_feature_files(tmp_path, monkeypatch):
    stem = "mirflickr25k-"
    names = {"XAll": f"{stem}iall-vgg.mat", "YAll": f"{stem}yall.mat", "LAll": f"{stem}lall.mat"}
    image, text, labels = write_matrices(tmp_path / "raw", names, 50, (16, len(MIR_COMMON), 3))
    shrink_mir(monkeypatch, 50)
    data = MIRFlickr25K(tmp_path, "features")[0]
    assert np.array_equal(data["image"].x.numpy(), image)
    assert np.array_equal(data["text"].x.numpy(), text)
    assert np.array_equal(data["text"].y.numpy(), labels)
    code = MIRFlickr25K(tmp_path, "features", protocol="dcmh_code")[0]["image"]
    assert code.query_mask.nonzero().flatten().tolist() == list(range(6))
    assert code.train_mask.nonzero().flatten().tolist() == list(range(6, 18))
    last = MIRFlickr25K(tmp_path, "features", protocol="ucch")[0]["image"]
    assert last.query_mask.nonzero().flatten().tolist() == list(range(44, 50))
    shrink(monkeypatch, kept=[50], counts={"classes": 4})
    with pytest.raises(CorruptFileError, match="3 classes, the published files have 4"):
        MIRFlickr25K(tmp_path, "features", force_reload=True)
