"""``pyg-hash export``: what other programs read, and that it is what the run or store has."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from small import graph_for, model_for
from torch_geometric.testing import withCUDA

from pyg_hash.cli import encode, main
from pyg_hash.cli.encode import ascii_names
from pyg_hash.codes import pack_bits
from pyg_hash.index import CodeStore, HammingIndex
from pyg_hash.index.export import FORMATS
from pyg_hash.models import CCA, MCGCN, HashModel, TaughtHash
from pyg_hash.models.onnx import export_onnx
from pyg_hash.runs import Run
from pyg_hash.stores import FaissStore, MilvusStore, export_codes, read_codes
from pyg_hash.typing import binarize

TEXTS = ["it's", None, 'a\tb\\N\n"c"', "ä ☺", ""]
META = {
    "text": TEXTS,
    "labels": [["x", 'say "hi", {}\\'], [], None, ["ä"], [""]],
    "year": [1, None, -(2**63), 2**63 - 1, 0],
    "weight": [0.1, None, 1e300, -2.5, 0.0],
    "good": [True, False, None, True, False],
}
FIELDS = {"text": str, "labels": list, "year": int, "weight": float, "good": bool}
IDS = ["one", "t\two", "", "vier", "five\\"]


def onnx_codes(path, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    codes, relaxed = session.run(None, {"features": x})
    return codes, relaxed, session.get_modelmeta().custom_metadata_map


def check_codes(path, model, modality, x):
    """The file's codes are the model's but where a relaxed code is 0 within rounding."""
    codes, relaxed, about = onnx_codes(path, x)
    relax = model.relax_image if modality == "image" else model.relax_text
    wanted = relax(torch.from_numpy(x))
    differ = np.unpackbits(codes ^ pack_bits(binarize(wanted)).numpy(), axis=1).astype(bool)
    differ = differ[:, : model.num_bits]
    assert codes.dtype == np.uint8 and relaxed.dtype == np.float32
    assert np.abs(relaxed - wanted.numpy()).max() < 1e-5
    assert differ.sum() <= 5 and (np.abs(wanted.numpy()[differ]) < 1e-6).all()
    assert about["model"] == model.digest() and about["num_bits"] == str(model.num_bits)
    assert about["modality"] == modality and about["num_features"] == str(x.shape[1])


@pytest.fixture(scope="module")
def encoders(taught_run, tmp_path_factory):
    pytest.importorskip("onnxscript")
    out = tmp_path_factory.mktemp("onnx")
    assert main(["export", str(taught_run), "--to=onnx", f"--out={out}"]) == 0
    return out


@pytest.mark.parametrize(("modality", "width"), [("image", 16), ("text", 12)])
def test_onnx_gives_the_codes_of_the_run(taught_run, encoders, modality, width):
    model = TaughtHash.load(taught_run / "model")
    x = np.random.default_rng(0).normal(size=(10_000, width)).astype(np.float32) * 3
    x[7] = 0
    check_codes(encoders / f"{modality}.onnx", model, modality, x)
    assert onnx_codes(encoders / f"{modality}.onnx", x[:1])[0].shape == (1, 3)
    for place, odd in enumerate((np.nan, np.inf, -np.inf)):
        x[place, 3] = odd
    relaxed = onnx_codes(encoders / f"{modality}.onnx", x[:8])[1]
    assert np.isnan(relaxed).all(axis=1).tolist() == [True] * 3 + [False] * 5


@withCUDA
def test_onnx_of_a_closed_form(device, tmp_path):
    pytest.importorskip("onnxscript")
    data = graph_for(CCA).to(device)
    model = CCA({m: data[m].num_features for m in ("image", "text")}, 5).to(device).solve(data)
    assert model.intake.scaling("text") is not None
    export_onnx(model, tmp_path / "x.onnx", "text")
    x = np.random.default_rng(0).normal(size=(50, data["text"].num_features))
    check_codes(tmp_path / "x.onnx", model.cpu(), "text", x.astype(np.float32))


def test_onnx_refuses_what_needs_more_than_features(tmp_path):
    with pytest.raises(TypeError, match="MCGCN joins a new item to its nearest anchors"):
        export_onnx(model_for(MCGCN, graph_for(MCGCN)), tmp_path / "x.onnx", "image")

    class Plain(HashModel):
        forward = loss = relaxed_new = None

    with pytest.raises(TypeError, match="Plain is no EncoderHashModel, and so no file for onnxr"):
        export_onnx(Plain(8), tmp_path / "x.onnx", "image")

    class Own(TaughtHash):
        def encode_image(self, x): ...

    with pytest.raises(TypeError, match="Own has an encode_image of its own; the file gives signs"):
        export_onnx(Own((4, 3), 2, 8), tmp_path / "x.onnx", "image")
    with pytest.raises(RuntimeError, match="neither fitted nor attached"):
        export_onnx(TaughtHash((4, 3), 2, 8), tmp_path / "x.onnx", "image")


def test_example_without_torch(encoders, tmp_path):
    rng = np.random.default_rng(0)
    for name, rows in (("q.npy", 2), ("d.npy", 9)):
        np.save(tmp_path / name, rng.normal(size=(rows, 12)))
    example = Path(__file__).resolve().parents[1] / "examples" / "onnx_encode.py"
    words = [encoders / "text.onnx", tmp_path / "q.npy", tmp_path / "d.npy"]
    program = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0]); "
    program += "assert not {'torch', 'pyg_hash'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, example, *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "TaughtHash, text, 20 bits" in done.stdout and done.stdout.count(" at ") == 10


@pytest.fixture
def store(tmp_path):
    codes = binarize(torch.randn(5, 13, generator=torch.Generator().manual_seed(0)))
    store = FaissStore.create(tmp_path / "x.store", 13, ids=str, fields=FIELDS, model="abc")
    store.add(codes, IDS, META)
    store.save()
    return store, tmp_path / "x.store", codes


def digits(codes):
    return ["".join("1" if bit > 0 else "0" for bit in row) for row in codes.tolist()]


@pytest.mark.parametrize(
    ("to", "name"), [("npz", "x.csv"), ("csv", "y.PARQUET"), ("csv", "y.hdf5")]
)
def test_the_name_of_another_format_is_refused(store, tmp_path, capsys, to, name):
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(store[1]), f"--to={to}", f"--out={tmp_path / name}"]) == 2
    assert sorted(tmp_path.iterdir()) == before
    right = (tmp_path / name).with_suffix(f".{to}")
    told = f"out: {tmp_path / name} is the name of another format than {to}; name it {right}, or"
    assert told in capsys.readouterr().err


def test_store_as_csv(store, tmp_path):
    _, path, codes = store
    assert main(["export", str(path), "--to=csv", f"--out={tmp_path / 'x.csv'}"]) == 0
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == IDS and [row["code"] for row in rows] == digits(codes)
    assert [row["text"] for row in rows] == [text or "" for text in TEXTS]
    assert [row["labels"] and json.loads(row["labels"]) for row in rows][:2] == META["labels"][:2]
    assert [row["year"] for row in rows][1:3] == ["", str(-(2**63))]


@pytest.mark.parametrize("to", ["parquet", "milvus"])
def test_store_as_parquet(store, tmp_path, to):
    parquet = pytest.importorskip("pyarrow.parquet")
    _, path, codes = store
    assert main(["export", str(path), f"--to={to}", f"--out={tmp_path / 'x.parquet'}"]) == 0
    table = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    packed = pack_bits(codes).numpy()
    wanted = packed.tolist() if to == "milvus" else [row.tobytes() for row in packed]
    assert table == {"id": IDS, "code": wanted, **META}
    if to == "parquet":
        assert read_codes(tmp_path / "x.parquet").model == "abc"


def test_store_as_sql(store, tmp_path):
    """What COPY reads, as PostgreSQL's manual has its text format; read by a real one once."""
    _, path, codes = store
    assert main(["export", str(path), "--to=pgvector", f"--out={tmp_path / 'x.sql'}"]) == 0
    lines = (tmp_path / "x.sql").read_text(encoding="utf-8").split("\n")
    start = lines.index(
        'COPY "x" (id, code, "text", "labels", "year", "weight", "good") FROM stdin;'
    )
    rows = [line.split("\t") for line in lines[start + 1 : lines.index("\\.")]]
    assert [row[1] for row in rows] == digits(codes)
    assert rows[0][2:] == ["it's", r'{"x","say \\"hi\\", {}\\\\"}', "1", "0.1", "True"]
    assert rows[1] == [r"t\two", digits(codes)[1], r"\N", "{}", r"\N", r"\N", "False"]
    assert rows[2][2] == r"a\tb\\N\n" + '"c"' and rows[4][0] == r"five\\"
    assert 'CREATE INDEX ON "x" USING hnsw (code bit_hamming_ops);' in lines
    assert "    code bit(13) NOT NULL," in lines


def test_what_a_store_says_of_its_model_is_no_command(tmp_path, capsys):
    with HammingIndex.create(tmp_path / "x.store", 8, model="ab\n\\! echo\x1b[31m\nDROP") as made:
        made.add(torch.ones(2, 8, dtype=torch.int8))
        made.save()
    out = tmp_path / "x\n!.sql"
    assert main(["export", f"{tmp_path}/x.store", "--to=pgvector", f"--out={out}"]) == 0
    text = out.read_text(encoding="utf-8")
    assert 'AS distance FROM "x !"\n' in text
    assert text.startswith("-- codes of 8 bits, of the model ab \\! echo\x1b[31m DROP\n-- read")
    assert main(["export", f"{tmp_path}/no\x1b[31m.store", "--to=pgvector", f"--out={out}"]) == 1
    assert "no[31m.store" in capsys.readouterr().err


def foreign_h5(path):
    with h5py.File(path, "w") as file:
        file.attrs["model"], file["codes"] = "abc", [1, 2]


FOREIGN = {
    "npz": lambda path: np.savez(path, codes=[1], ids=[2]),
    "h5": foreign_h5,
    "csv": lambda path: path.write_text("id,code,name\n1,FR,France\n"),
    "parquet": lambda path: path.write_bytes(b"PAR1 somebody else's PAR1"),
    "milvus": lambda path: path.write_bytes(b"PAR1 somebody else's PAR1"),
    "pgvector": lambda path: path.write_text("-- PostgreSQL database dump\n"),
    "faiss": lambda path: path.write_bytes(b"IxF2 an index of floats"),
}


@pytest.mark.parametrize("to", FOREIGN)
def test_a_file_of_somebody_else_is_not_replaced(store, tmp_path, capsys, to):
    if to in ("parquet", "milvus"):
        pytest.importorskip("pyarrow.parquet")
    if to == "faiss":
        pytest.importorskip("faiss")
    out = tmp_path / f"out{FORMATS[to][0]}"
    FOREIGN[to](out)
    before, command = out.read_bytes(), ["export", str(store[1]), f"--to={to}", f"--out={out}"]
    assert main(command) == 2
    assert f"out: {out} is there already, and no earlier one" in capsys.readouterr().err
    assert out.read_bytes() == before
    out.write_bytes(b"")  # of mktemp
    for _ in range(2):
        assert main(command) == 0
    store[0].remove(IDS)
    store[0].save()
    for _ in range(2):  # a file of no codes
        assert main(command) == 0


def test_ids_beside_an_index_of_faiss_are_not_those_of_somebody_else(store, tmp_path, capsys):
    pytest.importorskip("faiss")
    beside, command = tmp_path / "n.faiss.ids.json", ["export", str(store[1]), "--to=faiss"]
    beside.write_text("[1]\n")
    assert main([*command, f"--out={tmp_path}/n.faiss"]) == 2
    assert f"{beside} is there already" in capsys.readouterr().err
    beside.unlink()
    for _ in range(2):
        assert main([*command, f"--out={tmp_path}/n.faiss"]) == 0


def test_of_the_two_files_of_a_run_none_is_written_before_both_may_be(taught_run, tmp_path, capsys):
    (tmp_path / "text.csv").write_text("my,own\n")
    assert main(["export", str(taught_run), "--to=csv", f"--out={tmp_path}"]) == 2
    assert "text.csv is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.csv"]


@pytest.mark.parametrize("kind", [int, str])
def test_faiss_reads_its_file(tmp_path, kind):
    faiss = pytest.importorskip("faiss")
    codes = binarize(torch.randn(40, 13, generator=torch.Generator().manual_seed(0)))
    packed = pack_bits(codes).numpy()
    ids = np.array([kind(100 - row) for row in range(40)], np.int64 if kind is int else object)
    export_codes(tmp_path / "x.faiss", [(packed[:30], ids[:30]), (packed[30:], ids[30:])], 13, kind)
    index = faiss.read_index_binary(str(tmp_path / "x.faiss"))
    distances, found = index.search(packed[3:5], 40)
    names = found
    if kind is str:
        beside = json.loads((tmp_path / "x.faiss.ids.json").read_text())
        names = np.array(beside, object)[found]
    exact = (codes[3:5, None] != codes[None]).sum(2).numpy()
    place = {name: row for row, name in enumerate(ids.tolist())}
    for row in range(2):
        assert sorted(names[row].tolist()) == sorted(ids.tolist())
        assert [exact[row, place[name]] for name in names[row].tolist()] == distances[row].tolist()


def test_run_as_its_index_and_as_its_catalogue(taught_run, tmp_path):
    assert main(["export", str(taught_run), "--to=npz", f"--out={tmp_path}"]) == 0
    run = Run.open(taught_run)
    index, items = run.index("text"), run.items()
    result = read_codes(tmp_path / "text.npz")
    rows = index.list(limit=1000).tolist()
    assert result.ids.tolist() == [items.ids[row] for row in rows] and len(rows) == 90
    assert torch.equal(result.codes, pack_bits(index.codes(rows)))
    assert result.model == run.record()["model"]


def test_run_with_a_catalogue(taught_run, request, tmp_path):
    shutil.copytree(taught_run, tmp_path / "run")
    digest = Run.open(taught_run).record()["model"]
    for modality in ("image", "text"):
        path = tmp_path / "run" / "catalog" / f"{modality}.store"
        path.parent.mkdir(exist_ok=True)
        made = FaissStore.create(path, 20, ids=str, fields={"year": int}, model=digest)
        if modality == "image":  # a catalogue of pictures alone
            made.add(-torch.ones(1, 20, dtype=torch.int8), ["a"], {"year": [1999]})
        made.save()
    (tmp_path / "run/catalog/about.json").write_text('{"text": 0}')  # is written last
    assert main(["export", str(tmp_path / "run"), "--to=csv"]) == 0
    out = tmp_path / "run" / "export"
    assert (out / "image.csv").read_text().split() == ["id,code,year", f"a,{'0' * 20},1999"]
    assert not (out / "text.csv").exists()
    pytest.importorskip("onnxscript")
    own = shutil.copy(request.getfixturevalue("encoders") / "image.onnx", out / "image.onnx")
    before = own.stat().st_ino
    assert main(["export", str(tmp_path / "run"), "--to=onnx"]) == 0  # replaces a file of its own
    assert own.stat().st_ino != before and not (out / "text.onnx").exists()


def test_two_layouts_of_parquet_have_two_names(taught_run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for to in ("parquet", "milvus", "parquet", "milvus"):
        assert main(["export", str(taught_run), f"--to={to}", f"--out={tmp_path}"]) == 0
    kinds = {
        name: str(parquet.read_schema(tmp_path / f"{name}.parquet").field("code").type)
        for name in ("image", "text", "image.milvus", "text.milvus")
    }
    binary, listed = "fixed_size_binary[3]", "list<element: uint8>"
    assert kinds == dict(zip(kinds, [binary, binary, listed, listed], strict=True))


def test_a_collection_gets_names_that_it_can_have(tmp_path, monkeypatch, capsys):
    """In place of a server an index in memory, which holds to the names of databases."""
    path, made = tmp_path / "a.store", []
    with HammingIndex.create(
        path, 8, ids=str, fields={"Größe": int, "Gro_e": int, "a": str}
    ) as own:
        values = {"Größe": [1, 2], "Gro_e": [3, None], "a": ["x", "y"]}
        own.add(torch.ones(2, 8, dtype=torch.int8), ["p", "q"], values)
        own.save()

    class Narrow(HammingIndex):
        _field_name = CodeStore._field_name

        def save(self):
            made.append((self.fields, self.metadata(["p", "q"])))

    monkeypatch.setattr(
        MilvusStore, "create", lambda uri, bits, *, name, **about: Narrow(bits, **about)
    )
    assert main(["export", str(path), "--to=milvus", "--out=http://localhost:1"]) == 0
    assert "fields that a collection cannot name: Größe as Groe" in capsys.readouterr().err
    kept = {"Groe": [1, 2], "Gro_e": [3, None], "a": ["x", "y"]}
    assert made == [({"Groe": int, "Gro_e": int, "a": str}, kept)]
    assert list(ascii_names(["Größe", "Groe", "Preis (€)", "größe"]).values()) == [
        "Groe",
        "Groe_",
        "Preis",
        "groe",
    ]


def test_of_a_failed_export_no_half_filled_collection_stays(tmp_path, monkeypatch, capsys):
    """Milvus has what was sent before, so that the next export would find the name taken."""
    dropped = []
    with HammingIndex.create(tmp_path / "a.store", 8) as own:
        own.add(torch.ones(3, 8, dtype=torch.int8), [1, 2, 3])
        own.save()

    class Picky(HammingIndex):
        name, client = "codes", SimpleNamespace(drop_collection=dropped.append)

        def add(self, codes, ids, metadata=None):
            if 3 in ids.tolist():
                raise ValueError("metadata: x is missing")
            super().add(codes, ids, metadata)

    monkeypatch.setattr(
        MilvusStore, "create", lambda uri, bits, *, name, **about: Picky(bits, **about)
    )
    monkeypatch.setattr(encode, "_ROWS", 2)
    out = "--out=http://localhost:1"
    assert main(["export", str(tmp_path / "a.store"), "--to=milvus", out]) == 1
    assert "x is missing" in capsys.readouterr().err and dropped == ["codes"]
