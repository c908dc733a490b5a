"""Somebody else's files: none runs code, reads other files, fetches, hangs, or takes gigabytes."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import yaml
from hub_models import need
from safetensors.torch import save_file
from xxhash import xxh3_64_hexdigest

from pyg_hash import features
from pyg_hash.cli import main
from pyg_hash.datasets import (
    FeatureFile,
    check_feature_file,
    import_files,
    write_feature_file,
)
from pyg_hash.datasets.raw import open_matrix
from pyg_hash.stores import read_codes
from pyg_hash.utils import hdf5
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.settings import check_yaml

N = 8


@pytest.fixture
def path(tmp_path):
    query = np.arange(N) < 2
    return write_feature_file(
        tmp_path / "x.h5", image=np.eye(N), text=np.eye(N), train=~query, query=query,
        labels=np.arange(N) % 2, texts=["x"] * N,
    )  # fmt: skip


def outside(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones((N, N), np.float32)
    (tmp_path / "secret.txt").write_text("secret " * 100)


def external_storage(file, tmp_path):
    place = [(str(tmp_path / "secret.txt"), 0, N * 20)]
    file.create_dataset("ids", shape=(N,), dtype="S20", external=place)


def external_link(file, tmp_path):
    file["class_names"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")


def nested_link(file, tmp_path):
    file["a/b"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
    file["class_names"] = h5py.SoftLink("/a/b")


def virtual(file, tmp_path):
    layout = h5py.VirtualLayout((N, N), np.float32)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "secret", (N, N))
    del file["image"]
    file.create_virtual_dataset("image", layout)


def seal_again(path):
    """An attacker can write the checksum too."""
    with open(path, "rb+") as file:
        file.write(f"\n# xxh3 {xxh3_64_hexdigest(file.read())} xxh3\n".encode())


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("change", [external_storage, external_link, nested_link, virtual])
def test_hdf5_that_leads_out_of_the_file_is_refused(tmp_path, path, change, sealed):
    outside(tmp_path)
    with h5py.File(path, "r+") as file:
        change(file, tmp_path)
    if sealed:
        seal_again(path)
    with pytest.raises(CorruptFileError, match="only files that hold all their values"):
        FeatureFile(path)
    with pytest.raises(CorruptFileError, match="only files that hold all their values"):
        check_feature_file(path)
    with pytest.raises(CorruptFileError, match="only files that hold all their values"):
        open_matrix(path, "image")
    with pytest.raises(CorruptFileError, match="only files that hold all their values"):
        read_codes(path)


def test_a_matrix_that_no_memory_holds_is_not_called_damaged(tmp_path, capsys):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs.update({"format": "pyg_hash.features", "version": 1})
        for name in ("image", "text"):
            file.create_dataset(name, shape=(60, 2**40), dtype="f4", chunks=(60, 1024))
    assert main(["data", "check", str(tmp_path / "x.h5")]) == 1
    said = capsys.readouterr().err
    assert "not enough memory" in said and "damaged" not in said


def test_a_soft_link_within_the_file_is_read(path):
    with h5py.File(path, "r+") as file:
        file.move("image", "kept")
        file["image"] = h5py.SoftLink("/kept")
        file["removed"] = h5py.SoftLink("/no/such/group")  # which nothing asks for
        file["round"] = h5py.SoftLink("/round")
    assert FeatureFile(path)[0]["image"].x.equal(torch.eye(N))


def test_a_damaged_header_cannot_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "LIMIT_S", 2.0)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["image"] = np.eye(N)
        file.create_dataset("texts", data=["abc"] * N, dtype=h5py.string_dtype())
    content = path.read_bytes()
    damaged, heap = bytearray(content), content.index(b"GCOL")
    damaged[heap + 32 : heap + 96] = bytes(64)  # libhdf5 walks pieces of size 0
    path.write_bytes(damaged)
    with pytest.raises(CorruptFileError, match="takes more than 2 seconds"):
        open_matrix(path, "image")
    path.write_bytes(content)  # and the next file is read as ever
    assert open_matrix(path, "image").shape == (N, N)


def test_a_second_process_that_ends_is_damage_and_another_one_is_started(path, monkeypatch):
    with h5py.File(path, "r+") as file:
        file.attrs["about"] = "no checksum any more"
    monkeypatch.setattr(hdf5._WATCHER, "code", "print(1, flush=True); sys.stdin.readline()")
    hdf5._WATCHER.stop()
    with pytest.raises(CorruptFileError, match="ended without an answer"):
        FeatureFile(path)
    monkeypatch.undo()
    os.utime(path, ns=(1, 1))
    assert FeatureFile(path).about == "no checksum any more"


def test_matlab_5_files_that_end_scipys_reader_are_damage(tmp_path):
    path, x = tmp_path / "a.mat", np.arange(15.0).reshape(5, 3)
    scipy.io.savemat(path, {"IAll": x, "TAll": x}, do_compression=False)
    content = bytearray(path.read_bytes())
    assert content[176] == 9  # the type of the numbers: float64
    content[176] = 0
    path.write_bytes(content)
    for read in (
        lambda: open_matrix(path, "IAll"),
        lambda: import_files([path], tmp_path / "x.h5"),
    ):
        with pytest.raises(CorruptFileError, match=r"a\.mat: .* ended without an answer"):
            read()
    content[176] = 9
    path.write_bytes(content)
    assert torch.equal(open_matrix(path, "IAll").read(), torch.from_numpy(x).float())


def test_yaml_aliases_are_refused(tmp_path, capsys):
    lines = ["a: &a [x, x]"] + [
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    with pytest.raises(yaml.YAMLError, match=r"the alias \*a"):
        check_yaml("\n".join(lines))
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    assert main(["train", "--out", str(tmp_path / "o"), f"--config={tmp_path}/bomb.yaml"]) == 2
    assert "alias" in capsys.readouterr().err
    check_yaml("a: '*not one'\nb: &anchor 3\n")
    check_yaml("{1: a, '1': b, true: c, 'true': d}")
    with pytest.raises(yaml.YAMLError, match="line 2: the key '1' twice"):
        check_yaml("'1': a\n\"1\": b")


@pytest.mark.parametrize("name", ["hf-hub:a/b", "hf_hub:a/b", "local-dir:/tmp", "a/b", "..", 3])
@pytest.mark.parametrize(
    "kind", [features.TimmEncoder, features.OpenClipImageEncoder, features.OpenClipTextEncoder]
)
def test_names_that_fetch_are_refused(tmp_path, kind, name):
    if name == "..":
        name = "../a"
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="nothing is fetched"):
        kind(name, tmp_path / "w.safetensors")


TRANSFORMER = "sentence_transformers.models.Transformer"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules.json": [{"type": "modeling_evil.E", "path": ""}]}, "modeling_evil.E.*not run"),
        ({"modules.json": [{"type": "os.system", "path": ""}]}, "os.system"),
        ({"modules.json": [{"type": "sentence_transformers.models.Router"}]}, "Router"),
        ({"modules.json": [{"type": TRANSFORMER, "path": "../.."}]}, "not of this folder"),
        ({"modules.json": [{"type": TRANSFORMER, "path": "/etc"}]}, "not of this folder"),
        ({"modules.json": {"type": TRANSFORMER}}, r"modules.json: expected a list"),
        (
            {"2_Dense/config.json": {"in_features": 1, "activation_function": "torch.hub.load"}},
            "torch.hub.load.*not known",
        ),
        ({"sentence_bert_config.json": {"model_args": {"a": 1}}}, "model_args.*steers"),
        (
            {"sentence_bert_config.json": {"modality_config": {"text": {"method": "push_to_hub"}}}},
            "steers",
        ),
        ({"adapter_config.json": {"base_model_name_or_path": "/other"}}, "adapter"),
    ],
)
def test_sentence_folders_that_name_other_code_are_refused(tmp_path, files, message, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", _Package())
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "modules.json").write_text(json.dumps([{"type": TRANSFORMER, "path": ""}]))
    (tmp_path / "modeling_evil.py").write_text("raise SystemExit('code ran')")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match=message):
        features.SentenceEncoder(tmp_path)


class _Package:
    def SentenceTransformer(self, *args, **options):
        raise AssertionError("the package was asked")


def test_sentence_folders_of_the_known_modules_are_read(tmp_path):
    from hub_models import bert_folder

    package = need("sentence_transformers")
    modules = need("sentence_transformers.models")
    model = package.SentenceTransformer(str(bert_folder(tmp_path / "bert")), device="cpu")
    model.append(modules.Dense(16, 8))
    model.append(modules.Normalize())
    model.save(str(tmp_path / "all"))
    x = features.SentenceEncoder(tmp_path / "all")(["a cat", "red"])
    torch.testing.assert_close(x, torch.from_numpy(model.encode(["a cat", "red"])))


def test_pictures_have_limits_outside_of_the_server_too(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("1", (6000, 5000)).save(tmp_path / "many.png")
    image.new("1", (40_000, 2)).save(tmp_path / "long.png")
    for name in ("many.png", "long.png"):
        with pytest.raises(features.UnreadableImageError, match=rf"{name}.*make it smaller"):
            features.load_image(tmp_path / name, 8)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    (tmp_path / "eps.png").write_bytes(eps)
    with pytest.raises(features.UnreadableImageError, match=r"eps\.png"):
        features.load_image(tmp_path / "eps.png", 8)
