"""``pyg-hash serve`` on runs with encoders and without, as a process of its own."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from serve_cases import png

from pyg_hash.cli import main
from pyg_hash.cli.build import load_model
from pyg_hash.datasets import write_feature_file
from pyg_hash.index import HammingIndex
from pyg_hash.runs import Run
from pyg_hash.serve import SearchEngine
from pyg_hash.serve.app import address_of, is_loopback, listen
from pyg_hash.serve.guard import QueryError
from pyg_hash.utils.files import CorruptFileError, sha256

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")
pytestmark = pytest.mark.usefixtures("shapes")

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("--k=3", "--num_bits=16", "--epochs=2")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    file = write_feature_file(
        folder / "mine.h5",
        image=rng.normal(size=(40, 6)),
        text=rng.normal(size=(40, 5)),
        labels=np.arange(40) % 3,
        train=np.arange(40) >= 8,
        query=np.arange(40) < 8,
    )
    assert main(["train", f"--dataset={file}", f"--out={folder / 'run'}", *SETTINGS]) == 0
    return folder / "run"


def serve(words, write):
    """What a process of ``pyg-hash serve`` does, in a fork: torch is loaded there."""
    for number in (1, 2):
        os.dup2(write, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1) for number in (1, 2))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = None
    logging.root.handlers.clear()
    sys.exit(main(["serve", *words]))


class Fork(multiprocessing.get_context("fork").Process):
    """As ``subprocess.Popen``."""

    def __init__(self, words):
        read, write = os.pipe()
        super().__init__(target=serve, args=(words, write))
        self.start()
        os.close(write)
        self.stdout = os.fdopen(read)

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=None):
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired("serve", timeout)
        return self.exitcode


class Process:
    """``pyg-hash serve`` until the block ends; ``typed``, as a command, else as a fork."""

    def __init__(self, *words, typed=False):
        words = [*map(str, words)]
        if not typed:
            self.process = Fork(words)
        else:
            command = [sys.executable, "-u", "-m", "pyg_hash", "serve", *words]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            self.process = subprocess.Popen(command, env=environment, **how)
        self.lines = []

    def __enter__(self):
        timer = threading.Timer(120, self.process.kill)
        timer.start()
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.fullmatch(r"search page: (http://\S+) \(stop with Ctrl-C\)\n", line)
            if found:
                timer.cancel()
                self.address = found[1]
                return self
        timer.cancel()
        raise AssertionError("".join(self.lines))

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def get(self, path, body=None, **headers):
        request = urllib.request.Request(self.address + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_store_a_token_and_the_end(shapes_run, tmp_path, monkeypatch, number):
    """A store of the run's codes; what is under way at the end is answered, and nothing is left."""
    run, temporary, log = Run.open(shapes_run), tmp_path / "tmp", tmp_path / "access.log"
    old = run.index("text")
    store = HammingIndex.create(
        tmp_path / "my.store", 16, ids=str, fields={"text": str}, model=old.model
    )
    rows = old.list(limit=100).tolist()
    kept = {"text": [run.items().texts[row] for row in rows]}
    store.add(old.codes(rows), [f"n{row}" for row in rows], kept, relaxed=old.relaxed(rows))
    store.save()
    temporary.mkdir()
    (tmp_path / "token").write_text("0123456789abcdef\n", encoding="utf-8-sig")
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = [f"--store={store.path}", f"--token_file={tmp_path / 'token'}", f"--log={log}"]
    picture = png("red")
    typed = number == signal.SIGTERM  # of the system, which ends services so
    with Process(shapes_run, "--port=0", *words, typed=typed) as server:
        wanted = kept["text"][0].replace(" ", "%20")
        found = server.get(f"api/search?text=red&k=1&where=text='{wanted}'")[1]["answers"]
        assert [answer["id"] for answer in found] == [f"n{rows[0]}"]
        body = json.dumps({"items": [{"id": "new", "text": "red tile"}]}).encode()
        kind = {"Content-Type": "application/json", "X-Request-ID": "mine"}
        assert server.get("api/items", body, **kind)[0] == 401
        assert server.get("api/search", b"x" * 12_000_000)[0] == 413
        assert server.get("api/run")[1]["title"] == "MCGCN on shapes"
        bearer = {"Authorization": "Bearer 0123456789abcdef"}
        assert server.get("api/items", body, **kind, **bearer)[1] == {"added": 1, "replaced": 0}
        port = int(server.address.rsplit(":", 1)[1].strip("/"))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            head = "POST /api/search?k=1 HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Length: {len(picture)}\r\n\r\n"
            slow.sendall(head.encode() + picture[:20])
            assert server.get("healthz")[0] == 200
            server.process.send_signal(number)
            slow.sendall(picture[20:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert (server.process.wait(30), server.process.stdout.read()) == (0, "")
    assert os.listdir(temporary) == []
    assert len(HammingIndex.open(store.path)) == len(rows) + 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 401, 413, 200, 200, 200, 200]
    assert lines[1]["id"] == "mine" and lines[1]["path"] == "/api/items"


def test_a_second_ctrl_c_is_no_good_order(features):
    words = ["--proxy=10.0.0.1,", "--hosts=A.example, b.example", "--images_root="]
    words += ["--root_path=/a", f"--log={os.devnull}"]
    with Process(features, "--port=0", *words) as server:
        names = "a.example:443", "b.example", "localhost", "c.example"
        answers = [server.get("api/run", Host=name) for name in names]
        assert [status for status, _ in answers] == [200, 200, 200, 421]
        assert answers[0][1]["first"].startswith("/a/api/item?id=")
        assert any(line.startswith("note: --proxy lets the network in") for line in server.lines)
        port = int(server.address.rsplit(":", 1)[1].strip("/"))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(
                b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
            )
            assert server.get("healthz")[0] == 200
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    server.process.wait(1)
        assert server.process.wait(5) == 130  # before the ten seconds are over
        assert server.process.stdout.read() == "pyg-hash: stopped\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_an_access_log_on_a_full_disk_is_said_once(features):
    with Process(features, "--port=0", "--log=/dev/full") as server:
        for _ in range(200):  # more than a buffer holds
            assert server.get("healthz") == (200, {"status": "ok"})
        server.process.send_signal(signal.SIGTERM)
        said = server.process.stdout.read()
        assert server.process.wait(30) == 0
    assert said == (
        "access log: cannot be written, lines are dropped: [Errno 28] No space left on device\n"
    )


def test_answers_are_those_of_the_command_line(shapes_run, shapes_root, capsys):
    engine = SearchEngine.of(Run.open(shapes_run), load_model(Run.open(shapes_run)))
    path = shapes_root / "raw" / "blue-card.png"
    by_picture = engine.by_image(path.read_bytes(), "text", 5)
    by_words = engine.by_text("red tile", "image", 5)
    capsys.readouterr()
    for option, found in ((f"--image={path}", by_picture), ("--text=red tile", by_words)):
        assert main(["search", str(shapes_run), option, "--json", "-k5"]) == 0
        printed = json.loads(capsys.readouterr().out)
        shown = printed["answers"]
        assert [item["id"] for item in found.items] == [a["id"] for a in shown]
        assert found.distances == [a["distance"] for a in shown]
        assert found.scores == pytest.approx([a["score"] for a in shown], abs=1e-4)
        assert found.tied == printed["tied"]
    assert engine.notes == []


def test_a_model_of_another_run_is_refused(features, tmp_path, capsys):
    copy = Run(shutil.copytree(features, tmp_path / "run"))
    model = load_model(copy)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="image: .* is of another model"):
        SearchEngine.of(copy, model)
    assert SearchEngine.of(copy, model, force=True).model is model


def test_features_alone(features):
    run = Run.open(features)
    engine = SearchEngine.of(run, load_model(run))
    assert engine.encoders == {}
    text = " ".join(engine.notes)
    assert "no image encoder" in text and "no text encoder" in text
    assert "without picture files" in text and "without raw texts" in text
    assert engine.about()["examples"] == []
    assert engine.about()["first_item"] == 8
    found = engine.by_item(8, "image", "image", 32)
    assert found.distances[[item["row"] for item in found.items].index(8)] == 0
    few, more, most = (
        [item["row"] for item in engine.by_item(8, "image", "image", k).items] for k in (1, 4, 25)
    )
    assert few == most[:1] and more == most[:4]  # the best does not depend on how many are asked


@pytest.mark.parametrize("built", [True, False])
def test_relative_pictures_of_a_store_are_never_of_the_working_folder(
    features, tmp_path, monkeypatch, built
):
    run = Run(shutil.copytree(features, tmp_path / "run"))
    model, pictures, here = load_model(run), tmp_path / "pictures", tmp_path / "here"
    if built:
        (run.path / "catalog").mkdir()
        about = {"images_root": str(pictures), "model": model.digest()}
        (run.path / "catalog" / "about.json").write_text(json.dumps(about))
    for folder in (pictures, here):
        folder.mkdir()
        (folder / "a.png").write_bytes(png())
    monkeypatch.chdir(here)
    values = {"a": "a.png", "b": str(here / "a.png"), "c": "../here/a.png", "d": None}
    with HammingIndex.create(tmp_path / "a.store", 16, ids=str, fields={"image": str}) as store:
        store.add(torch.ones(4, 16, dtype=torch.int8), [*values], {"image": [*values.values()]})
        store.save()

        def shown(images_root=None):
            engine, found = SearchEngine.of(run, model, store=store, images_root=images_root), {}
            for name in values:
                try:
                    found[name] = engine.picture_path(name)
                except QueryError as error:
                    assert error.status == 404
            return found

        assert shown() == {"b": values["b"]} | ({"a": str(pictures / "a.png")} if built else {})
        assert shown(str(pictures)) == {"a": str(pictures / "a.png")}
        assert shown(".") == dict.fromkeys("abc", values["b"])
        shutil.rmtree(pictures)
        notes = SearchEngine.of(run, model, store=store).notes
        assert built == any("folder of pictures is gone" in n for n in notes)


def test_pictures_of_a_run_are_below_its_folder_and_their_paths_are_not_asked_for(
    shapes_run, tmp_path
):
    run = Run(shutil.copytree(shapes_run, tmp_path / "run"))
    model, items = load_model(run), json.loads(run.file("items").read_text())
    row, above, elsewhere = run.index("image").list(limit=3).tolist()
    items["image_paths"][above] = "../secret.png"
    items["image_paths"][elsewhere] = str(tmp_path / "secret.png")
    run.file("items").write_text(json.dumps(items))
    run.note(items=sha256(run.file("items")))
    for root in (None, items["images_root"]):
        engine = SearchEngine.of(run, model, images_root=root)
        assert os.path.isfile(engine.picture_path(row))
        for other in (above, elsewhere):
            with pytest.raises(QueryError, match="no picture below the folder of pictures"):
                engine.picture_path(other)
    with pytest.raises(QueryError, match="where: 'image' is not known"):
        engine.by_item(row, "image", "text", 1, 0, "image >= '/home'")
    assert [*engine.about()["fields"]] == ["item", "text", "labels"]


def test_a_missing_package_is_a_note(shapes_run, monkeypatch):
    def missing(self, modality):
        raise ImportError(f"no package for {modality}")

    monkeypatch.setattr(Run, "encoder", missing)
    engine = SearchEngine.of(Run.open(shapes_run), load_model(Run.open(shapes_run)))
    assert engine.encoders == {}
    assert engine.notes[0] == "No search with pictures of your own: no package for image"
    told = "No search with pictures of your own; the server was told why when it began."
    assert engine.about()["notes"][0] == told  # reasons may name files of the server


def test_own_encoders(features):
    run = Run.open(features)
    model = load_model(run)
    own = {"image": lambda paths: torch.ones(len(paths), 6), "text": lambda texts: 1 / 0}
    engine = SearchEngine.of(run, model, own=own)
    assert list(engine.encoders) == ["image"]
    assert engine.notes[0] == "No search with words of your own: division by zero"
    code = model.encode_image(torch.ones(1, 6))
    found = engine.by_image(png(), "text", 4)
    relaxed = model.relax_image(torch.ones(1, 6))
    distances, rows, _ = engine.indexes["text"].search(code, 4, rescore=relaxed)
    assert (found.rows, found.distances) == (rows[0].tolist(), distances[0].tolist())
    plain = SearchEngine.of(run, model, own=own, oversample=None).by_image(png(), "text", 4)
    distances, rows = engine.indexes["text"].search(code, 4)
    assert (plain.rows, plain.distances) == (rows[0].tolist(), distances[0].tolist())
    engine = SearchEngine.of(run, model, own={"text": lambda texts: torch.ones(len(texts), 7)})
    assert "7" in engine.notes[1] and "5" in engine.notes[1]  # of another width than the model's


def test_what_an_own_encoder_refuses_is_told_without_paths(features):
    run = Run.open(features)

    def refuse(paths):
        raise OSError(f"{paths[0]}: too grey")

    engine = SearchEngine.of(run, load_model(run), own={"image": refuse})
    with pytest.raises(QueryError, match="^image: too grey$"):
        engine.by_image(png(), "text", 4)


def test_own_encoder_on_the_command_line(features, monkeypatch, capsys, tmp_path):
    (tmp_path / "my_serve_encoders.py").write_text(
        "import torch\ndef ones(paths): return torch.ones(len(paths), 6)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    served = []
    monkeypatch.setattr("pyg_hash.serve.serve", lambda engine, *a, **k: served.append(engine))
    words = ["serve", str(features), "--port=0"]
    assert main([*words, "--image_encoder=my_serve_encoders:ones"]) == 0
    assert list(served[0].encoders) == ["image"]
    assert "note: This run has no text encoder" in capsys.readouterr().out
    assert main([*words, "--text_encoder=my_serve_encoders:twos"]) == 2
    assert "cannot be imported" in capsys.readouterr().err


def test_a_token_that_changes_nothing_is_said_at_the_start(features, monkeypatch, capsys, tmp_path):
    (tmp_path / "token").write_text("0123456789abcdef")
    monkeypatch.setattr("pyg_hash.serve.serve", lambda *a, **k: None)
    model = Run.open(features).record()["model"]
    HammingIndex.create(tmp_path / "my.store", 16, ids=str, model=model).save()
    words = ["serve", str(features), "--port=0", f"--token_file={tmp_path / 'token'}"]
    for more, use in [
        ([], ": the token has no use\n"),
        (["--private"], ": the token lets search alone\n"),
        ([f"--store={tmp_path / 'my.store'}"], None),
    ]:
        assert main([*words, *more]) == 0
        out = capsys.readouterr().out
        assert ("nothing can be added or deleted" in out) == (use is not None)
        assert use is None or use in out


def test_an_index_that_does_not_fit(features, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(features, copy)
    index = HammingIndex(16)
    index.add(torch.ones(1, 16, dtype=torch.int8), ids=[40])
    index.save(copy / "index_text.safetensors")
    with pytest.raises(CorruptFileError, match="does not fit the 40 items"):
        SearchEngine.of(Run.open(copy), load_model(Run.open(copy)))


def test_errors(shapes_run, tmp_path, capsys):
    words = ["--port=70000", "--text_encoder=nowhere:slow"]  # which is not loaded first
    assert main(["serve", str(shapes_run), *words]) == 2
    assert "port: expected 0 to 65535" in capsys.readouterr().err
    assert main(["serve", str(shapes_run), "--threads=0"]) == 2
    assert "threads: expected a positive integer" in capsys.readouterr().err
    assert main(["serve", str(shapes_run), "--rate=-1"]) == 2
    assert "rate: expected 0 or more" in capsys.readouterr().err
    for wrong in ("a.example:443", "https://a.example", "*.example", "a,,b", ""):
        assert main(["serve", str(shapes_run), f"--hosts={wrong}", "--port=0"]) in (1, 2)
        assert "is no name of a host" in capsys.readouterr().err
    assert main(["serve", str(shapes_run), "--private"]) == 2
    assert "private: needs a token" in capsys.readouterr().err
    for encoding in ("utf-16", "utf-16-le"):
        (tmp_path / "token").write_text("0123456789abcdef", encoding=encoding)
        assert main(["serve", str(shapes_run), f"--token_file={tmp_path / 'token'}"]) == 1
        assert "is not UTF-8; save it as UTF-8" in capsys.readouterr().err
    (tmp_path / "token").write_text("short")
    assert main(["serve", str(shapes_run), f"--token_file={tmp_path / 'token'}"]) == 1
    assert "holds no token" in capsys.readouterr().err
    assert main(["serve", str(shapes_run), "--port=0", "--store=x.txt"]) == 2
    assert "store: 'x.txt' is none" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "none")]) == 1
    assert "is no folder" in capsys.readouterr().err
    with listen("127.0.0.1", 0) as taken:
        assert main(["serve", str(shapes_run), f"--port={taken.getsockname()[1]}"]) == 1
    assert "choose another port" in capsys.readouterr().err
    assert main(["serve", str(shapes_run), "--host=256.1.1.1.invalid"]) == 1
    assert "host: '256.1.1.1.invalid' cannot be used" in capsys.readouterr().err


def test_an_address_is_for_one_server_on_windows(monkeypatch):
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)
    with listen("127.0.0.1", 0) as own:
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not own.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_who_lets_the_network_in_is_told_of_names(features, monkeypatch, capsys):
    monkeypatch.setattr("pyg_hash.serve.serve", lambda *_, **more: None)
    monkeypatch.setattr("pyg_hash.cli.search.log_access", lambda where: None)
    for words, advice in ([], True), (["--hosts=a.example"], False):
        assert main(["serve", str(features), "--host=0.0.0.0", "--port=0", *words]) == 0
        told = capsys.readouterr().out
        assert "everybody who reaches it can search" in told and ("--hosts" in told) is advice


def test_missing_packages_are_found_at_once(shapes_run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(shapes_run), "--port=0"]) == 1
    assert "pip install 'pyg_hash[serve]'" in capsys.readouterr().err


def test_addresses():
    with listen("localhost", 0) as one:
        assert is_loopback(one)
    with listen("0.0.0.0", 0) as every:
        assert not is_loopback(every)
        assert address_of(every).startswith("http://127.0.0.1:")
    with pytest.raises(ValueError, match="port"):
        listen("127.0.0.1", -1)
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # this machine has no IPv6
    with listen("::1", 0) as six:
        assert is_loopback(six)
        assert address_of(six).startswith("http://[::1]:")
