"""Files in the layouts that repositories of the field hand on, imported without code."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re

import h5py
import numpy as np
import pytest
import scipy.io as sio
import scipy.sparse as sp
import torch

from pyg_hash.cli import main
from pyg_hash.datasets import FeatureFile, import_files
from pyg_hash.datasets.raw import open_matrix
from pyg_hash.typing import MODALITIES

N, C = 24, 4
RNG = np.random.default_rng(1)
IMAGE = RNG.random((N, 7)).astype("f4")
TEXT = RNG.integers(0, 2, (N, 5), np.uint8)
TEXT[:, 0] = 1
HOT = np.eye(C, dtype=np.uint8)[np.arange(N) % C]
MULTI = HOT | np.roll(HOT, 1, axis=1)
PIXELS = RNG.integers(0, 255, (N, 3, 8, 8), np.uint8)
DB, TR, TE = slice(0, 16), slice(4, 12), slice(16, N)


def matlab73(path, **arrays):
    """As MATLAB writes -v7.3: behind a header of 512 bytes, axes in reverse, the class beside."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in arrays.items():
            if isinstance(value, list):  # a cell of texts
                refs = []
                for number, text in enumerate(value):
                    units = np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None]
                    cell = file.create_dataset(f"#refs#/{name}{number}", data=units)
                    cell.attrs["MATLAB_class"] = np.bytes_("char")
                    refs.append(cell.ref)
                node = file.create_dataset(name, data=np.array([refs], h5py.ref_dtype))
                node.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                kind = {"f": "single", "u": "uint8"}[value.dtype.kind]
                file.create_dataset(name, data=value.T).attrs["MATLAB_class"] = np.bytes_(kind)


def hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value


def cells(texts):
    found = np.empty((1, len(texts)), object)
    for place, text in enumerate(texts):
        found[0, place] = np.array(text, dtype=object)
    return found


def one_by_one(folder, writer, **arrays):
    for name, value in arrays.items():
        writer(folder / name, value)


def split(names, labels=MULTI, turned=False):
    """``names``: three names of each of query, train, database, or none."""
    found = {}
    for rows, part in zip((TE, TR, DB), names, strict=True):
        values = (IMAGE[rows], TEXT[rows].astype("f4"), labels[rows])
        found |= dict(zip(part, (v.T if turned else v for v in values), strict=False))
    return found


# what is written; and the command: files, options
LAYOUTS = {
    "DCMH, MATLAB 7.3": lambda d: matlab73(
        d / "a.mat", images=PIXELS, YAll=TEXT, LAll=MULTI, XAll=IMAGE
    ),
    "h5, rows first": lambda d: hdf5(d / "a.h5", IAll=IMAGE, TAll=TEXT, LAll=MULTI),
    "turned: h5": lambda d: hdf5(d / "a.h5", IAll=IMAGE.T, TAll=TEXT.T, LAll=MULTI.T),
    "turned: MATLAB 5, a variable a file, -1 and 1": lambda d: one_by_one(
        d,
        sio.savemat,
        **{
            "x-lall.mat": {"LAll": MULTI.astype("i2") * 2 - 1},
            "x-yall.mat": {"YAll": sp.csr_matrix(TEXT.astype("f8"))},
            "x-xall.mat": {"XAll": IMAGE.T},
        },
    ),
    "npz": lambda d: np.savez(d / "a.npz", image=IMAGE, text=TEXT, label=MULTI),
    "npy": lambda d: one_by_one(
        d, np.save, **{"img.npy": IMAGE, "txt.npy": TEXT, "lab.npy": MULTI}
    ),
}


def options_of(folder):
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("name", LAYOUTS)
def test_one_matrix_each(name, tmp_path, capsys):
    LAYOUTS[name](tmp_path)
    out = tmp_path / "out.h5"
    assert main(["data", "import", *options_of(tmp_path), f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "query: none is named, so 2 rows are drawn (seed 0)" in printed
    assert f"labels: 4 columns of {'-1' if '-1' in name else '0'} and 1, 2.00" in printed
    assert ("turned" in printed) == (
        name in ("turned: h5", "turned: MATLAB 5, a variable a file, -1 and 1")
    )
    data = FeatureFile(out)[0]
    assert torch.equal(data["image"].x, torch.from_numpy(IMAGE))
    assert torch.equal(data["text"].x, torch.from_numpy(TEXT).float())
    assert torch.equal(data["image"].y, torch.from_numpy(MULTI).float())
    assert int(data["image"].query_mask.sum()) == 2
    assert torch.equal(data["image"].train_mask, ~data["image"].query_mask)


def test_what_is_no_feature_file_is_not_replaced(tmp_path, capsys):
    LAYOUTS["npy"](tmp_path)
    files = options_of(tmp_path)
    for theirs in (b"mine", None):
        out = tmp_path / "x.h5"
        if theirs is None:
            with h5py.File(out, "w") as file:
                file["pyg_hash"] = IMAGE
        else:
            out.write_bytes(theirs)
        before = out.read_bytes()
        assert main(["data", "import", *files, f"--out={out}"]) == 2
        assert "x.h5 is there already" in capsys.readouterr().err and out.read_bytes() == before
    for _ in range(2):
        assert main(["data", "import", *files, f"--out={tmp_path}/new.h5"]) == 0


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("kind", ["h5", "mat", "7.3"])
def test_a_square_matrix_lies_as_its_siblings_do(kind, turned, tmp_path):
    square = RNG.random((N, N)).astype("f4")
    arrays = {"IAll": square, "TAll": TEXT, "LAll": MULTI}
    arrays = {name: value.T if turned else value for name, value in arrays.items()}
    path = tmp_path / ("a.h5" if kind == "h5" else "a.mat")
    if kind == "mat":
        sio.savemat(path, arrays | {"ids": np.arange(N)})
    else:
        (hdf5 if kind == "h5" else matlab73)(path, **arrays)
    done = import_files([path], tmp_path / "x.h5")
    assert f"square; its {'columns' if turned else 'rows'} are taken" in str(done)
    assert torch.equal(FeatureFile(done.path)[0]["image"].x, torch.from_numpy(square))


@pytest.mark.parametrize("files", [("img", "short"), ("img", "same"), ("nan", "txt")])
def test_a_file_that_was_named_for_nothing_is_refused(files, tmp_path, capsys):
    values = {"img": IMAGE, "txt": TEXT, "same": TEXT, "short": TEXT[:20], "nan": IMAGE * np.nan}
    paths = [str(tmp_path / f"{name}.npy") for name in files]
    for name, path in zip(files, paths, strict=True):
        np.save(path, values[name])
    assert main(["build", *paths, f"--out={tmp_path}/run"]) == 1
    error = capsys.readouterr().err
    unknown = next(name for name in files if name not in ("img", "txt"))
    assert f"nothing of {tmp_path}/{unknown}.npy is used" in error
    assert "whose name says nothing" in error and "--text_column VAR" in error
    assert not (tmp_path / "run").exists()


AMBIGUOUS = {  # arrays, and what each command says of them
    "nothing tells": (
        {"a": IMAGE, "b": TEXT},
        "{files}: nothing tells .*say --image{} VAR, --text",
    ),
    "two": ({"image": IMAGE, "visual": IMAGE, "text": TEXT}, "image: .*with --image{} FILE:NAME"),
    "two labels": ({"image": IMAGE, "text": TEXT, "label": HOT, "category": HOT}, "--{label} FILE"),
    "two texts": ({"image": IMAGE, "text": [*"ab"] * 12, "tag": [*"ab"] * 12}, "--{texts} FILE"),
    "rows": ({"image": IMAGE, "text": TEXT[:20]}, "{files}: these have no number of rows"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_each_command_is_told_its_own_options(name, tmp_path, capsys):
    arrays, words = AMBIGUOUS[name]
    np.savez(tmp_path / "a.npz", **arrays)
    own = {"files": "files", "label": "labels", "texts": "texts"}
    build = {"files": "source", "label": "label_column", "texts": "text_column"}
    for command, end, named in (("data import", "", own), ("build", "_column", build)):
        out = ["--out", str(tmp_path / "x.h5")]
        assert main([*command.split(), str(tmp_path / "a.npz"), *out]) == 1
        error = capsys.readouterr().err.replace("\n", " ")
        assert re.search(words.format(end, **named), error), error
    told = ["build", str(tmp_path / "a.npz"), *out, "--label_column=none"]
    assert main(told) == 1
    assert "label_column: 'none' is not there" in capsys.readouterr().err


SPLIT = {
    "I_tr": [("I_te", "T_te", "L_te"), ("I_tr", "T_tr", "L_tr"), ("I_db", "T_db", "L_db")],
    "no train": [("VTest", "YTest", "testL"), (), ("VDatabase", "YDatabase", "databaseL")],
    "no database": [("I_te", "T_te", "L_te"), ("I_tr", "T_tr", "L_tr"), ()],
}


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("labels", ["columns", "one column 1..C"])
def test_parts(name, labels, tmp_path):
    y = (np.arange(N) % C + 1).reshape(N, 1) if labels != "columns" else MULTI
    sio.savemat(tmp_path / "a.mat", split(SPLIT[name], y))
    done = import_files([tmp_path / "a.mat"], tmp_path / "a.h5")
    dataset = FeatureFile(done.path)
    store = dataset[0]["image"]
    train = TR if name != "no train" else DB
    base = DB if name != "no database" else TR
    for mask, rows in (
        (store.query_mask, TE),
        (store.train_mask, train),
        (store.database_mask, base),
    ):
        assert torch.equal(store.x[mask], torch.from_numpy(IMAGE[rows]))
    assert len(store.x) == len(IMAGE[base]) + len(IMAGE[TE])
    assert ("8 of 8 rows are repeated in the database" in str(done)) == (name == "I_tr")
    if labels != "columns":
        assert dataset.class_names == ["1", "2", "3", "4"]
        assert torch.equal(store.y[store.query_mask], torch.from_numpy(y[TE, 0] - 1))
        assert "one column of classes 1 .. 4" in str(done)


def test_training_rows_that_the_database_lacks_are_added_and_twins_are_told_apart(tmp_path):
    image, text = np.repeat([[1.0], [1.0], [2.0], [3.0]], 2, axis=1), np.ones((4, 3))
    base = {"I_db": image[:3], "T_db": text[:3], "I_te": image[3:] + 5, "T_te": text[3:]}
    np.savez(tmp_path / "a.npz", I_tr=image[[0, 1, 3]], T_tr=text[[0, 1, 3]], **base)
    data = FeatureFile(import_files([tmp_path / "a.npz"], tmp_path / "a.h5").path)[0]["image"]
    assert data.x[:, 0].tolist() == [1, 1, 2, 3, 8]
    assert data.train_mask.tolist() == [True, True, False, True, False]
    assert data.database_mask.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("kind", ["matlab5", "matlab73"])
def test_captions_paths_and_words_for_labels(kind, tmp_path):
    pytest.importorskip("sklearn")
    if importlib.util.find_spec("wordllama") is None:  # it need not be imported
        pytest.skip("wordllama is not installed")
    captions = [f"a photo of {['cat', 'dog', 'car', 'sky'][i % 4]}" for i in range(N)]
    words = [["cat", "dog", "car", "sky"][i % 4] for i in range(N)]
    paths = [f"/data/{i}.jpg" for i in range(N)]
    if kind == "matlab5":
        sio.savemat(tmp_path / "index.mat", {"index": np.array(paths)})
        sio.savemat(
            tmp_path / "caption.mat", {"caption": cells([[c, "picture"] for c in captions])}
        )
        sio.savemat(tmp_path / "label.mat", {"category": HOT})
    else:
        matlab73(tmp_path / "all.mat", index=paths, caption=captions, label=words)
    np.save(tmp_path / "img.npy", IMAGE)
    done = import_files(options_of(tmp_path), tmp_path / "x.h5")
    dataset = FeatureFile(done.path)
    more = " picture" if kind == "matlab5" else ""
    assert dataset.texts[5] == captions[5] + more
    assert dataset.image_paths[3] == "/data/3.jpg"
    assert torch.equal(dataset.text_encoder()(dataset.texts), dataset[0]["text"].x)
    assert dataset[0]["image"].y.tolist() == [
        i % 4 if kind == "matlab5" else sorted(set(words)).index(words[i]) for i in range(N)
    ]


@pytest.mark.parametrize("first", ["rows", "reversed"])
def test_pixels_are_encoded_upright(first, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    from PIL import Image

    files = []
    for row in range(4):
        files.append(tmp_path / f"{row}.png")
        Image.fromarray(np.moveaxis(PIXELS[row], 0, -1)).save(files[-1])
    if first == "rows":
        hdf5(tmp_path / "a.h5", IAll=PIXELS[:4], TAll=TEXT[:4])
    else:  # height, width, channels, items in MATLAB
        matlab73(tmp_path / "a.h5", images=np.transpose(PIXELS[:4], (2, 3, 1, 0)), YAll=TEXT[:4])
    dataset = FeatureFile(import_files([tmp_path / "a.h5"], tmp_path / "x.h5").path)
    torch.testing.assert_close(dataset[0]["image"].x, dataset.image_encoder()(files))


def test_row_numbers_captions_in_json_and_names_that_are_told(tmp_path):
    np.save(tmp_path / "clip_a.npy", IMAGE)
    np.save(tmp_path / "clip_b.npy", TEXT)
    np.save(tmp_path / "idx_test.npy", np.arange(16, N))
    sio.savemat(tmp_path / "more.mat", {"idx_train": np.arange(1, 9), "foo": MULTI})
    content = {
        "images": [{"id": 7 * i, "file_name": f"{i}.jpg"} for i in range(N)],
        "annotations": [{"image_id": 7 * i, "caption": f"a {i}"} for i in reversed(range(N))],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    files = options_of(tmp_path)
    with pytest.raises(ValueError, match=r"say --image VAR(.|\n)*clip_a \[24, 7\] of clip_a.npy"):
        import_files([f for f in files if "json" not in f], tmp_path / "x.h5")
    told = {"image": "clip_a", "text": "clip_b.npy:clip_b", "labels": "foo", "database": "0:16"}
    for odd in ("16", "0:25", "8:8", "30:", "all", ":"):
        with pytest.raises(ValueError, match=f"database: .*START:STOP.*{odd}|'{odd}' is no var"):
            import_files(files, tmp_path / "x.h5", **(told | {"database": odd}))
    done = import_files(files, tmp_path / "x.h5", **told)
    dataset = FeatureFile(done.path)
    store = dataset[0]["image"]
    assert store.query_mask.nonzero().flatten().tolist() == list(range(16, N))
    assert store.train_mask.nonzero().flatten().tolist() == list(range(8))
    assert int(store.database_mask.sum()) == 16
    assert dataset.texts[2] == "a 2"
    assert "row numbers from 1" in str(done) and "row numbers from 0" in str(done)


ROWS = np.arange(N)
NAMED = [f"item {row}" for row in ROWS]
OWN = {  # arrays under names of this library -> what is of the rows, and what is printed of them
    "train query": ({"train": ROWS < 12, "query": ROWS >= 18}, (12, 6, 18), "query = query [24]"),
    "numbers": (
        {"train": ROWS[:12], "test": ROWS[18:], "database": ROWS[:16]},
        (12, 6, 16),
        "test",
    ),
    "masks": (
        {"train_mask": ROWS < 9, "query_mask": ROWS > 20, "database_mask": ROWS < 20},
        (9, 3, 20),
        "database = database_mask",
    ),
    "labeled": (
        {"labeled": ROWS < 2, "train": ROWS < 9, "y": HOT},
        (9, 15, 9),
        "labeled = labeled",
    ),
    "counts": (
        {"num_train": np.array([9]), "query": ROWS > 20},
        (21, 3, 21),
        "not used: num_train",
    ),
    "y": ({"y": MULTI, "query": ROWS > 20}, (21, 3, 21), "labels = y [24, 4]"),
    "y, one column": ({"y": ROWS % C, "query": ROWS > 20}, (21, 3, 21), "labels = y [24]"),
    "no labels": ({"y": TEXT * 0.5, "query": ROWS > 20}, (21, 3, 21), "not used: y [24, 5]"),
    "names of rows": ({"names": NAMED, "query": ROWS > 20}, (21, 3, 21), "ids = names"),
    "twice": ({"names": ["a"] * N, "query": ROWS > 20}, (21, 3, 21), "not used: names"),
    "no classes": ({"names": ["a", "b"], "query": ROWS > 20}, (21, 3, 21), "not used: names [2]"),
    "classes": (
        {"names": [*"abcd"], "labels": HOT, "query": ROWS > 20},
        (21, 3, 21),
        "class_names = names [4]",
    ),
    "words": ({"train": NAMED, "query": ROWS > 20}, (21, 3, 21), "not used: train"),
}


@pytest.mark.parametrize("name", OWN)
def test_names_of_this_library(name, tmp_path):
    arrays, counts, printed = OWN[name]
    np.savez(tmp_path / "a.npz", image=IMAGE, text=TEXT, **arrays)
    done = import_files([tmp_path / "a.npz"], tmp_path / "x.h5")
    assert printed in str(done) and "are drawn" not in str(done)
    dataset = FeatureFile(done.path)
    store = dataset[0]["image"]
    masks = (store.train_mask, store.query_mask, store.database_mask)
    assert tuple(int(mask.sum()) for mask in masks) == counts
    assert (dataset.ids == NAMED) == (name == "names of rows")
    assert (dataset.class_names == [*"abcd"]) == (name == "classes")
    known = name in ("y", "y, one column", "classes", "labeled")
    assert bool(dataset.num_classes) == known
    assert int(store.labeled_mask.sum()) == (2 if name == "labeled" else counts[0] * known)


@pytest.mark.parametrize("odd", [IMAGE, IMAGE[:, 0], NAMED], ids=["matrix", "floats", "words"])
def test_what_is_no_row_numbers_is_refused_where_it_is_told(odd, tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGE, text=TEXT, own=odd)
    with pytest.raises(ValueError, match=r"own \[24.*: expected row numbers or a mask"):
        import_files([tmp_path / "a.npz"], tmp_path / "x.h5", query="own")


def test_pictures_without_a_caption_are_left_out(tmp_path):
    pytest.importorskip("sklearn")
    if importlib.util.find_spec("wordllama") is None:
        pytest.skip("wordllama is not installed")
    bare = [0, 5]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(N)],
        "annotations": [
            {"image_id": i, "caption": f"a dog {i}"} for i in range(N) if i not in bare
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(content))
    np.save(tmp_path / "img.npy", IMAGE)
    np.save(tmp_path / "lab.npy", MULTI)
    files = options_of(tmp_path)
    done = import_files(files, tmp_path / "x.h5", query="4:8")
    assert "left out: 2 of 24 rows have no text (first: 0.jpg)" in str(done)
    dataset, kept = FeatureFile(done.path), np.delete(np.arange(N), bare)
    store = dataset[0]["image"]
    assert torch.equal(store.x, torch.from_numpy(IMAGE[kept]))
    assert torch.equal(store.y, torch.from_numpy(MULTI[kept]).float())
    assert dataset.texts == [f"a dog {i}" for i in kept]
    assert store.query_mask.nonzero()[:, 0].tolist() == [3, 4, 5]
    (tmp_path / "captions.json").write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match=r"text: 24 of 24 rows have no text"):
        import_files(files, tmp_path / "x.h5")


def test_what_is_not_used_is_said_and_what_may_be_either_is_refused(tmp_path):
    values = {"image": IMAGE, "text": TEXT, "label": MULTI}
    np.savez(tmp_path / "a.npz", **values, foo=TEXT)
    done = import_files([tmp_path / "a.npz"], tmp_path / "x.h5")
    assert "not used: foo [24, 5] of a.npz" in str(done)
    np.savez(tmp_path / "a.npz", **values, category=HOT)
    with pytest.raises(ValueError, match=r"labels: may be label .* or category .*say which"):
        import_files([tmp_path / "a.npz"], tmp_path / "x.h5")
    import_files([tmp_path / "a.npz"], tmp_path / "x.h5", labels="category")
    assert FeatureFile(tmp_path / "x.h5")[0]["image"].y.dim() == 1
    with pytest.raises(TypeError, match="lables: is no argument"):
        import_files([tmp_path / "a.npz"], tmp_path / "x.h5", lables="category")


def opaque(path):
    """A MATLAB 5 file with an object of a class, as MATLAB writes a ``table``."""

    def element(kind, data):
        return np.array([kind, len(data)], "<u4").tobytes() + data + b"\0" * (-len(data) % 8)

    body = element(6, np.array([17, 0], "<u4").tobytes()) + element(1, b"t")
    body += element(1, b"MCOS") + element(1, b"table")
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + element(14, body))


REFUSED = {
    "train.pkl": (lambda p: p.write_bytes(pickle.dumps({"image": [1]})), "is a pickle"),
    "objects.npy": (lambda p: np.save(p, np.array([{}, {}], object)), "holds Python objects"),
    "objects.npz": (lambda p: np.savez(p, a=np.array([{}], object)), "holds Python objects"),
    "disguised.npy": (lambda p: p.write_bytes(pickle.dumps([1])), "holds Python objects"),
    "table.mat": (opaque, "object of a MATLAB class"),
    "short.npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01"), "cannot be read"),
    "short.mat": (lambda p: p.write_bytes(b"MATLAB 5.0"), "cannot be read"),
    "words.csv": (lambda p: p.write_text("a,b"), "none of .mat, .h5"),
    "odd.json": (lambda p: p.write_text("[1]"), "MS-COCO's layout"),
    "sizes.npz": (lambda p: np.savez(p, image=IMAGE[:20], text=TEXT), "number of rows in common"),
    "widths.npz": (lambda p: np.savez(p, image=TEXT[:20], text=TEXT), "different numbers of rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path, capsys):
    write, words = REFUSED[name]
    write(tmp_path / name)
    assert main(["data", "import", str(tmp_path / name), f"--out={tmp_path}/x.h5"]) == 1
    error = capsys.readouterr().err
    assert words in error and "unexpected" not in error
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize("kind", ["matlab5", "matlab73"])
def test_structs_are_read_to_any_depth(kind, tmp_path):
    values = {"XAll": IMAGE, "YAll": TEXT}
    rows = {"indexTrain": TR, "indexQuery": TE, "indexDatabase": DB}
    numbers = {name: np.arange(1, N + 1, dtype="f4")[of][None] for name, of in rows.items()}
    if kind == "matlab5":
        odd = np.empty((1, 2), object)
        odd[0, 0] = odd[0, 1] = np.eye(2)
        param = {**numbers, "grid": odd, "more": {"LAll": MULTI}}
        sio.savemat(tmp_path / "a.mat", {**values, "param": param})
    else:
        inner = {f"param/{name}": row for name, row in numbers.items()}
        matlab73(tmp_path / "a.mat", **values, **inner, **{"param/more/LAll": MULTI})
    done = import_files([tmp_path / "a.mat"], tmp_path / "x.h5")
    store = FeatureFile(done.path)[0]["image"]
    for mask, of in ((store.train_mask, TR), (store.query_mask, TE), (store.database_mask, DB)):
        assert torch.equal(store.x[mask], torch.from_numpy(IMAGE[of]))
    assert torch.equal(store.y, torch.from_numpy(MULTI).float())
    labels = open_matrix(tmp_path / "a.mat", "param/more/LAll").read()
    assert torch.equal(labels, torch.from_numpy(MULTI).float())
    assert ("not used: param/grid [2] (not read) of a.mat" in str(done)) == (kind == "matlab5")
    own = {"label": np.array([[1, "a"]], object)}
    sio.savemat(tmp_path / "a.mat", {**values, "own": own})
    with pytest.raises(ValueError, match="own/label holds cells that are no texts"):
        import_files([tmp_path / "a.mat"], tmp_path / "x.h5")
    sio.savemat(tmp_path / "a.mat", {**values, "LAll": MULTI, "own": own})
    assert "own/label [2] (not read)" in str(import_files([tmp_path / "a.mat"], tmp_path / "x.h5"))


@pytest.mark.parametrize(
    "extra",
    [
        {"raw": {"text": np.ones((N, 30))}},
        {"old": {"image": np.zeros((N, 6))}, "result": {"labels": np.ones((N, 1))}},
        {"opts": {"labels": 24.0, "T": 10.0, "image": np.eye(3)}, "param": {"text": "bow"}},
        {"params": {"images": "/data/img"}, "info": {"id": "v1", "query": 200.0}},
        {"train": 80.0, "test": 20.0, "db": 1.0, "opts": {"train": 50.0}},
        {"train_mask": np.arange(N - 1) < 4, "valid": np.ones(N), "val": 0.1},
        {"query": np.linspace(0, 1, N), "database_mask": np.zeros(N), "mask": np.ones(N)},
        {"y": 3.0},
        {"y": np.zeros((0, 0))},
        {"y": np.linspace(0, 1, N)},
        {"image_mask": np.ones(N), "text_mask": np.ones(N)},
    ],
    ids=lambda extra: "-".join(extra),
)
def test_what_is_guessed_has_to_fit(extra, tmp_path):
    values = {"XAll": IMAGE, "YAll": TEXT, "LAll": MULTI}
    if "y" in extra:
        values = {"image": IMAGE, "text": TEXT}
    sio.savemat(tmp_path / "plain.mat", values)
    sio.savemat(tmp_path / "a.mat", {**values, **extra})
    plain, done = (
        FeatureFile(import_files([tmp_path / f"{name}.mat"], tmp_path / f"{name}.h5").path)[0]
        for name in ("plain", "a")
    )
    for m in MODALITIES:
        assert torch.equal(plain[m].x, done[m].x)
    for name in {"y", "train_mask", "query_mask", "database_mask"} & {*plain["image"].keys()}:
        assert torch.equal(plain["image"][name], done["image"][name])
    assert ("y" in plain["image"]) == ("y" in done["image"])


def test_splits_that_are_told_twice_and_alike(tmp_path):
    values = {"image": IMAGE, "text": TEXT, "labels": MULTI}
    mask = np.isin(np.arange(N), np.arange(N)[TE])
    twice = {"test_mask": mask, "query_mask": mask, "train_mask": ~mask, "train_idx": [0, 1, 2]}
    np.savez(tmp_path / "a.npz", **values, **twice)
    store = FeatureFile(import_files([tmp_path / "a.npz"], tmp_path / "x.h5").path)[0]["image"]
    assert store.train_mask.nonzero().flatten().tolist() == [0, 1, 2]  # indices say more
    assert torch.equal(store.query_mask, torch.from_numpy(mask))
    wide = {"image": np.ones((N, 4)) * np.arange(N)[:, None], "class_names": np.array(list("abcd"))}
    np.savez(tmp_path / "a.npz", **wide, text=np.eye(N, 4), label=np.eye(4)[np.arange(N) % 4])
    assert (
        len(FeatureFile(import_files([tmp_path / "a.npz"], tmp_path / "x.h5").path)[0]["image"].x)
        == N
    )


@pytest.mark.parametrize("kind", ["hdf5", "matlab5", "npz"])
@pytest.mark.parametrize("base", ["retrieval", "database"])
def test_groups_of_a_split_each(kind, base, tmp_path):
    parts = {
        name: {"image": IMAGE[of], "text": TEXT[of], "label": MULTI[of], "index": np.arange(3)}
        for name, of in (("train", TR), ("test", TE), (base, DB))
    }
    flat = {f"{name}/{own}": x for name, part in parts.items() for own, x in part.items()}
    path = tmp_path / {"hdf5": "a.h5", "matlab5": "a.mat", "npz": "a.npz"}[kind]
    if kind == "matlab5":
        sio.savemat(path, parts)
    else:
        (hdf5 if kind == "hdf5" else np.savez)(path, **flat)
    done = import_files([path], tmp_path / "x.h5")
    store = FeatureFile(done.path)[0]["image"]
    assert len(store.x) == N and "8 of 8 rows are repeated in the database" in str(done)
    for mask, of in ((store.train_mask, TR), (store.query_mask, TE), (store.database_mask, DB)):
        assert torch.equal(store.x[mask], torch.from_numpy(IMAGE[of]))
        assert torch.equal(store.y[mask], torch.from_numpy(MULTI[of]).float())


def test_captions_of_matlab_are_utf16(tmp_path):
    texts = [f"Café 🎈 {row}" for row in range(N)]
    matlab73(tmp_path / "a.mat", caption=texts, image=IMAGE, text=TEXT)
    assert FeatureFile(import_files([tmp_path / "a.mat"], tmp_path / "x.h5").path).texts == texts
