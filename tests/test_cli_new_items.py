"""Encoding and searching with new raw items: what is bad is named, the rest goes on."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
from small import assert_same_codes, relaxed_of_new

from pyg_hash.cli import main
from pyg_hash.cli.build import Coder, load_model, pictures, text_lines
from pyg_hash.runs import Run

pytestmark = pytest.mark.usefixtures("shapes")


def assert_twins(run, codes, modality, item):
    """Two codes of one item, which a product may round by its place among the others."""
    run = Run(run)
    coder = Coder(load_model(run), modality, run.encoder(modality))
    relaxed = relaxed_of_new(coder.model, coder.features([item]), modality)[0]
    assert_same_codes(*map(torch.from_numpy, codes), relaxed)


def test_bad_texts_are_named_by_line_and_the_rest_goes_on(shapes_run, tmp_path, capsys):
    texts, out = tmp_path / "texts.txt", tmp_path / "codes.h5"
    content = "red box\n\nzebra\nblue zebra\nblue fl\xe4g".encode("latin-1")
    texts.write_bytes(b"\xef\xbb\xbf" + content + b"\n   \nred\x0bbox\n")
    capsys.readouterr()
    assert main(["encode", str(shapes_run), f"--texts={texts}", f"--out={out}"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"text: 3 codes of 16 bits, 4 skipped -> {out}\n"
    lines = printed.err.splitlines()
    assert lines[0] == f"pyg-hash: skipped: {texts}:2: empty text"
    assert lines[1].startswith(f"pyg-hash: skipped: {texts}:3: 'zebra' has no known word; unknown")
    assert lines[2].startswith(f"pyg-hash: skipped: {texts}:5: not UTF-8")
    assert lines[3] == f"pyg-hash: skipped: {texts}:6: empty text"
    assert lines[4] == f"pyg-hash: {texts}:4: note: not in the vocabulary: zebra"
    assert len(lines) == 5
    with h5py.File(out) as file:
        assert file["text/ids"].asstr()[:].tolist() == ["red box", "blue zebra", "red\x0bbox"]
        assert file["text/lines"][:].tolist() == [1, 4, 7]
        assert file["text/codes"].shape == (3, 16)
        assert_twins(shapes_run, file["text/codes"][::2], "text", "red box")
        assert [line.split(": ")[0] for line in file["text/skipped"].asstr()] == [
            f"{texts}:{number}" for number in (2, 3, 5, 6)
        ]


def test_bad_pictures_are_named_and_the_rest_goes_on(shapes_run, shapes_root, tmp_path, capsys):
    good = (shapes_root / "raw" / "red-cube.png").read_bytes()
    for name, content in (("a", good), ("b", good[:90]), ("c", b""), ("d", b"text"), ("e", good)):
        (tmp_path / f"{name}.png").write_bytes(content)
    (tmp_path / "notes.txt").write_text("no picture")
    out = tmp_path / "codes.h5"
    assert main(["encode", str(shapes_run), f"--images={tmp_path}", f"--out={out}"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"image: 2 codes of 16 bits, 3 skipped -> {out}\n"
    note, *lines = printed.err.splitlines()
    assert note.endswith(f"note: {tmp_path}: not taken, no picture files: notes.txt")
    assert [line.split(": ")[2] for line in lines] == [str(tmp_path / f"{n}.png") for n in "bcd"]
    assert all("cannot be read as a picture" in line for line in lines)
    assert all(line.count(".png") == 1 or "identify" in line for line in lines)
    with h5py.File(out) as file:
        assert file["image/ids"].asstr()[:].tolist() == [str(tmp_path / f"{n}.png") for n in "ae"]
        assert "lines" not in file["image"]
        assert_twins(shapes_run, file["image/codes"][:], "image", str(tmp_path / "a.png"))


def test_strict_writes_nothing(shapes_run, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("red box\nzebra\n")
    out = tmp_path / "codes.h5"
    words = ["encode", str(shapes_run), f"--texts={tmp_path}/texts.txt", f"--out={out}"]
    assert main([*words, "--strict"]) == 1
    assert "1 of 2 items could not be encoded" in capsys.readouterr().err
    assert not out.exists()
    (tmp_path / "texts.txt").write_text("red box\nblue\n")
    assert main([*words, "--strict"]) == 0


def test_nothing_to_encode(shapes_run, tmp_path, capsys):
    out, texts = tmp_path / "codes.h5", tmp_path / "texts.txt"
    texts.write_text("zebra\n\n")
    assert main(["encode", str(shapes_run), f"--texts={texts}", f"--out={out}"]) == 1
    error = capsys.readouterr().err
    assert "none of 2 items could be encoded; the first" in error and "zebra" in error
    texts.write_text("\n \n")
    assert main(["encode", str(shapes_run), f"--texts={texts}", f"--out={out}"]) == 1
    assert "holds no text" in capsys.readouterr().err
    assert main(["encode", str(shapes_run), f"--images={tmp_path}/*.jpg", f"--out={out}"]) == 1
    assert "no picture in" in capsys.readouterr().err
    assert not out.exists()


def test_picture_patterns(tmp_path):
    for name in ("a.png", "b[1].png", "deep/c.JPG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("a.png", "b[1].png", "deep/c.JPG")]
    assert pictures(str(tmp_path)).values == names[:2]
    assert pictures(f"{tmp_path}/**/*.[pJ]*").values == names
    assert pictures(names[1]).values == names[1:2]
    assert str(tmp_path / "deep") not in pictures(f"{tmp_path}/*").values


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / "t").write_bytes("one\r\n\ntwo\u2028three\nlast".encode())
    items = text_lines(str(tmp_path / "t"))
    assert items.values == ["one", "", "two\u2028three", "last"]
    assert items.where[3].endswith("t:4") and list(items.problems) == [1]


OWN = """
import torch
def colors(paths):
    from pyg_hash.features import load_image
    return torch.stack([load_image(p, 32).float().flatten()[:1280] for p in paths])
def words(texts):
    return torch.ones(len(texts), 3)
nothing = 3
class Words: ...
"""


def test_own_encoder(shapes_run, shapes_root, tmp_path, capsys, monkeypatch):
    (tmp_path / "my_own_encoders.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    image = [f"--images={shapes_root}/raw/red-cube.png", "--out=codes.h5"]
    own = "--image_encoder=my_own_encoders:colors"
    assert main(["encode", str(shapes_run), *image, own]) == 0
    assert main(["search", str(shapes_run), f"--image={shapes_root}/raw/red-cube.png", own]) == 0
    capsys.readouterr()
    own = "--text_encoder=my_own_encoders"
    for name, status, message in (
        (":words", 1, "text: got 3 features, the model takes"),
        (":nothing", 2, "text_encoder: my_own_encoders:nothing is int, which cannot be called"),
        (":Words", 2, "text_encoder: my_own_encoders:Words is a class; name an instance or a"),
        (":lost", 2, "cannot be imported"),
        ("", 2, "expected MODULE:NAME"),
    ):
        assert main(["search", str(shapes_run), "--text=red", own + name]) == status
        assert message in capsys.readouterr().err


@pytest.fixture
def vectors(shapes_run, tmp_path):
    """Feature vectors of three texts as files, and what each text itself finds."""
    x = Run(shapes_run).encoder("text")(["red box", "blue flag", "green"])
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "one.npy", x[0].double().numpy())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["text"] = x.numpy()
        file["ids"] = ["first", "second", "third"]
    return x


def answers(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer in (answer for entry in found for answer in entry["answers"]):
        answer["score"] = round(answer["score"], 4)  # a product rounds by its number of rows
    return found


def test_search_with_feature_vectors(shapes_run, vectors, tmp_path, capsys):
    start = ["search", str(shapes_run), "-k4"]
    relaxed = relaxed_of_new(load_model(Run(shapes_run)), vectors, "text")
    assert relaxed.abs().min() > 1e-5  # no bit is all rounding: alone or together is the same
    texts = ("red box", "blue flag", "green")
    expected = [answers(capsys, *start, f"--text={t}")[0]["answers"] for t in texts]
    found = answers(capsys, *start, f"--features={tmp_path}/x.npy", "--source=text")
    assert [entry["query"] for entry in found] == ["0", "1", "2"]
    assert [entry["answers"] for entry in found] == expected
    (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
    capital = answers(capsys, *start, f"--features={tmp_path}/X.NPY", "--source=text")
    assert capital == found
    (tmp_path / "X.NPY").rename(tmp_path / "x.npy")
    named = answers(capsys, *start, f"--features={tmp_path}/x.h5")
    assert [entry["query"] for entry in named] == ["first", "second", "third"]
    assert [entry["answers"] for entry in named] == expected
    one = answers(capsys, *start, f"--features={tmp_path}/one.npy", "--source=text")
    assert [entry["answers"] for entry in one] == expected[:1]
    assert main([*start, f"--features={tmp_path}/x.h5", "--modality=text"]) == 0
    printed = capsys.readouterr()
    assert "query second\nscore" in printed.out and "one query: " in printed.err


def test_bad_rows_of_features(shapes_run, vectors, tmp_path, capsys):
    vectors[1, 0] = float("nan")
    vectors[2] = 0
    np.save(tmp_path / "bad.npy", vectors.numpy())
    words = [str(shapes_run), f"--features={tmp_path}/bad.npy", "--source=text"]
    assert main(["search", *words]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("text row 1: its features contain NaN or inf; clean or drop them")
    assert "text row 2: its features" in lines[1]
    out = tmp_path / "codes.h5"
    assert main(["encode", *words, f"--out={out}"]) == 0
    assert "1 codes of 16 bits, 2 skipped" in capsys.readouterr().out
    np.save(tmp_path / "bad.npy", vectors[1:].numpy())
    assert main(["search", *words]) == 1
    assert "no row of" in capsys.readouterr().err


def test_encode_npy_equals_encode_texts(shapes_run, vectors, tmp_path):
    (tmp_path / "t.txt").write_text("red box\nblue flag\ngreen\n")
    a, b = tmp_path / "a.h5", tmp_path / "b.h5"
    words = [f"--features={tmp_path}/x.npy", "--source=text", f"--out={a}"]
    assert main(["encode", str(shapes_run), *words]) == 0
    assert main(["encode", str(shapes_run), f"--texts={tmp_path}/t.txt", f"--out={b}"]) == 0
    with h5py.File(a) as first, h5py.File(b) as second:
        assert np.array_equal(first["text/codes"], second["text/codes"])


def test_wrong_feature_files(shapes_run, vectors, tmp_path, capsys):
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "wide.npy", np.ones((2, 7)))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    with h5py.File(tmp_path / "both.h5", "w") as file:
        file["text"], file["image"] = vectors.numpy(), torch.ones(3, 1280).numpy()
    queries = [f"--features={tmp_path}/x.npy", "--source=text", f"--out={tmp_path}/codes.h5"]
    assert main(["encode", str(shapes_run), *queries]) == 0
    capsys.readouterr()
    for name, source, status, message in (
        ("x.npy", None, 2, "give --source image|text"),
        ("x.npy", "sound", 2, "'image', 'text', got sound"),
        ("both.h5", None, 2, "holds pictures and texts"),
        ("both.h5", "text", 0, "one query"),
        ("x.h5", "image", 1, "has no 'image'"),
        ("codes.h5", "text", 1, "text: holds codes, which encode wrote; give features"),
        ("cube.npy", "text", 1, "[2, 2, 2]"),
        ("object.npy", "text", 1, "not a plain NPY file"),
        ("broken.npy", "text", 1, "not a plain NPY file"),
        ("wide.npy", "text", 1, "got 7 features, the model takes"),
        ("lost.npy", "text", 1, "lost.npy"),
        ("lost.h5", "text", 1, "lost.h5"),
    ):
        more = [] if source is None else [f"--source={source}"]
        found = main(["search", str(shapes_run), f"--features={tmp_path / name}", *more])
        printed = capsys.readouterr()
        assert (found, message in printed.err) == (status, True), (name, printed.err)


def test_usage(shapes_run, tmp_path, capsys):
    for words, message in (
        (["search", str(shapes_run), "--text= "], "text: is empty"),
        (["search", str(shapes_run), "--text=red", "--source=text"], "source: says what"),
        (["encode", str(shapes_run), "--texts=a", "--source=text", "--out=b"], "source: says what"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert main(["search", str(shapes_run), "--image=lost.png"]) == 1
    assert "lost.png: no such file" in capsys.readouterr().err


def test_a_text_with_nul_costs_that_text_alone(shapes_run, tmp_path, capsys):
    texts, out = tmp_path / "texts.txt", tmp_path / "codes.h5"
    texts.write_bytes(b"red box\nblue\0flag\ngreen\n")
    for name in ("codes.h5", "codes.store"):
        assert (
            main(["encode", str(shapes_run), f"--texts={texts}", f"--out={tmp_path}/{name}"]) == 0
        )
        printed = capsys.readouterr()
        assert "2 codes of 16 bits, 1 skipped" in printed.out
        assert f"skipped: {texts}:2: contains a NUL character" in printed.err
    assert out.exists()


def test_a_folder_says_what_it_did_not_take(tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    for name in ("a.JPG", "b.jfif", "c.jpe", "d.tif", "e.tiff", "f.avif", "g.eps", "sub/h.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    found = [path.rsplit("/", 1)[1] for path in pictures(str(tmp_path)).values]
    assert found == ["a.JPG", "b.jfif", "c.jpe", "d.tif", "e.tiff", "f.avif"]
    assert capsys.readouterr().err.splitlines() == [
        f"pyg-hash: note: {tmp_path}: not taken, no picture files: g.eps, loop.jpg, "
        f"sub; to take pictures in folders too give --images '{tmp_path}/**/*'",
    ]


def test_a_picture_that_links_lead_to_again_is_taken_once(tmp_path, capsys):
    for name in ("a", "a/b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    (tmp_path / "a" / "same.png").symlink_to("x.png")  # a name of its own
    (tmp_path / "a" / "loop").symlink_to(".")
    (tmp_path / "a" / "again").symlink_to("b")
    found = [path.removeprefix(f"{tmp_path}/") for path in pictures(f"{tmp_path}/**/*").values]
    assert found == ["a/b/x.png", "a/same.png", "a/x.png"]
    said = capsys.readouterr().err
    assert f"note: {tmp_path}/**/*: links lead to " in said and "taken once; to take" in said


def test_an_encoder_of_your_own_may_give_numpy(shapes_run, tmp_path, capsys, monkeypatch):
    code = "import numpy as np\ndef rows(texts): return np.ones((len(texts), {}))\n"
    width = Run(shapes_run).encoder("text").num_features
    (tmp_path / "numpy_rows.py").write_text(code.format(width))
    monkeypatch.syspath_prepend(tmp_path)
    own = "--text_encoder=numpy_rows:rows"
    assert main(["search", str(shapes_run), "--text=red", own]) == 0
