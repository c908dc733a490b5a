"""Catalogues and stores: fields, filters, pages, vectors, adding and removing, tokens."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import threading
import time
from base64 import b64encode
from pathlib import Path

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("PIL.Image")

from serve_cases import COLORS, Client, make_catalog, open_catalog, png, request

from pyg_hash.codes import hamming_distance, pack_bits
from pyg_hash.index import HNSW, IVF, CodeStore, HammingIndex
from pyg_hash.serve import SearchEngine, create_app
from pyg_hash.serve.engine import NewItem, Wanted, _Turns
from pyg_hash.serve.guard import QueryError
from pyg_hash.serve.guard import cookie as cookie_name
from pyg_hash.typing import MODALITIES, binarize
from pyg_hash.utils.files import CorruptFileError
from pyg_hash.utils.locks import Lock

TOKEN = "a-token-of-tests"
BEARER = [("authorization", f"Bearer {TOKEN}"), ("content-type", "application/json")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def client(engine):
    return Client(engine)


@pytest.fixture
def own(tmp_path):
    """A catalogue to change."""
    return Client(make_catalog(tmp_path), token=TOKEN)


def change(client, method, target, value=None):
    return client.send(method, target, b"" if value is None else json.dumps(value).encode(), BEARER)


def batch(client, *queries):
    body = json.dumps({"queries": queries}).encode()
    answer = client.post("/api/search/batch", body, [("content-type", "application/json")])
    return answer.json["results"] if answer.status == 200 else answer


def test_answers_carry_what_the_catalogue_knows(client):
    found = client.get("/api/search?text=red&k=200").json["answers"]
    assert len(found) == 32
    by_id = {answer["id"]: answer for answer in found}
    answer = by_id["set/29"]
    assert answer["metadata"] == {"year": 2029} and answer["labels"] == ["green"]
    assert answer["text"] == "green thing 29" and answer["row"] is None
    assert answer["item"] == "/api/item?id=set%2F29"
    assert answer["picture"] == "/api/picture?id=set%2F29"
    assert by_id["set/7"]["metadata"] == {"year": None} and by_id["set/10"]["text"] is None
    assert client.get(answer["picture"]).headers["content-type"] == "image/jpeg"
    assert client.get(answer["item"]).json.items() <= answer.items()
    assert client.get("/api/item/set%2F3").json["picture"] is None  # a text alone
    assert client.get("/api/item/set%2F3/picture").status == 404
    similar = client.get("/api/item/set%2F3/similar").json  # by what it has
    assert similar["modality"] == "image" and len(similar["answers"]) == 24
    assert client.get("/api/item/set%2F15").status == 404


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("year >= 2030", lambda row: row % 7 and row >= 30),
        ("labels has 'red' and not text is null", lambda row: row % 4 == 0 and row % 5),
        ("text is null or labels has 'blue'", lambda row: row % 5 == 0 or row % 4 == 2),
        ("year = 1", lambda row: False),
    ],
)
def test_filters_equal_brute_force(client, engine, where, holds):
    found = client.get(f"/api/search?text=red&k=200&where={where.replace(' ', '%20')}").json
    rows = {row for row in range(48) if row % 3 and holds(row)}
    assert {answer["id"] for answer in found["answers"]} == {f"set/{row}" for row in rows}
    code = engine.model.encode_text(engine.encoders["text"](["red"]))
    if rows:
        ids = [f"set/{row}" for row in sorted(rows)]
        far = hamming_distance(code, engine.indexes["image"].codes(ids))[0].tolist()
        assert {a["id"]: a["distance"] for a in found["answers"]} == dict(
            zip(ids, far, strict=True)
        )
        assert found["tied"] == far.count(found["answers"][-1]["distance"])
    else:
        assert (found["answers"], found["tied"]) == ([], 0)


@pytest.mark.parametrize("where", ["", "  "])
def test_an_empty_filter_is_none(client, engine, where):
    whole = client.get("/api/search?text=red&k=9").json["answers"]
    answer = client.get(f"/api/search?text=red&k=9&where={where.replace(' ', '+')}")
    assert answer.json["answers"] == whole
    relaxed = engine.model.relax_text(engine.encoders["text"](["red"]))
    (found,) = engine.nearest(relaxed, Wanted("image", 9, where=where))
    assert [item["id"] for item in found.items] == [answer["id"] for answer in whole]


@pytest.mark.parametrize("where", ["year >", "colour = 'red'", "year = 'x'", "(" * 60])
def test_filters_that_are_none(client, where):
    answer = client.get(f"/api/search?text=red&where={where.replace(' ', '+')}")
    assert answer.status == 422 and answer.json["detail"].startswith("where: ")


@pytest.mark.parametrize("oversample", [4, 1, None])
@pytest.mark.parametrize("where", [None, "year >= 2010"])
def test_pages_follow_each_other(tmp_path, oversample, where):
    engine = make_catalog(tmp_path, oversample=oversample)
    row = engine.key("set/29")
    whole, every = [], engine.by_item(row, "text", "image", 200, 0, where)
    for offset in range(0, 40, 5):
        page = engine.by_item(row, "text", "image", 5, offset, where)
        whole += page.rows
    assert len(whole) == len(set(whole)) and set(whole) == set(every.rows)
    first = engine.by_item(row, "text", "image", 5, 0, where)
    assert whole[:5] == first.rows
    if oversample is None:
        assert whole == every.rows


@pytest.mark.parametrize("kind", [IVF, HNSW])
@pytest.mark.parametrize("oversample", [4, None])
def test_pages_of_an_approximate_index_follow_each_other(engine, kind, oversample):
    model, draw = engine.model, torch.Generator().manual_seed(0)
    x = torch.randn(3001, model.num_bits, generator=draw)
    index = HammingIndex(model.num_bits, index=kind())
    index.add(binarize(x[1:]))
    pages = SearchEngine(model, dict.fromkeys(MODALITIES, index), {}, oversample=oversample)
    shown = [
        row for p in range(5) for row in pages.nearest(x[:1], Wanted("image", 24, 24 * p))[0].rows
    ]
    assert len(set(shown)) == len(shown) == 120


def test_vectors_codes_and_several_at_once(client, engine):
    x = engine.encoders["text"](["blue"])
    code = engine.model.encode_text(x)
    packed = bytes(pack_bits(code)[0].tolist()).hex()
    words, vector, bits, hexed, item, bad, none = batch(
        client,
        {"text": " blue ", "k": 5},
        {"vector": x[0].tolist(), "by": "text", "k": 5},
        {"code": code[0].tolist(), "by": "text", "k": 5, "where": "year > 2000"},
        {"code": packed, "by": "text", "k": 5, "where": "year > 2000"},
        {"item": "set/29", "by": "text", "k": 5, "offset": 5, "modality": "text"},
        {"text": "nothing"},
        {"text": "red", "item": "set/29"},
    )
    strip = lambda found: [a["id"] for a in found["answers"]]  # noqa: E731
    assert strip(vector) == strip(words) and vector["modality"] == "image"
    assert vector["answers"][0]["score"] == pytest.approx(words["answers"][0]["score"], abs=1e-3)
    assert strip(bits) == strip(hexed) and all(a["metadata"]["year"] for a in bits["answers"])
    assert item["offset"] == 5 and item["modality"] == "text" and len(item["answers"]) == 5
    assert "no known word" in bad["detail"] and "give one of text, item" in none["detail"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"vector": [1.0] * 8, "by": "text"}, "8 features a row, expected 9"),
        ({"vector": [1.0] * 9}, "by: say whose"),
        ({"code": [1] * 11, "by": "image"}, "code: expected 12 bits, got 11"),
        ({"code": "zz", "by": "image"}, "no code of 12 bits"),
        ({"code": "ffffff", "by": "image"}, "no code of 12 bits"),
        ({"item": "set/0"}, "set/0 is not in"),
        ({"code": [0] * 12, "by": "image"}, "code"),
        ({"vector": [], "by": "text"}, "0"),
        ({"text": "red", "k": 0}, "greater than or equal to 1"),
    ],
)
def test_queries_that_are_none(client, query, message):
    found = batch(client, query)
    if isinstance(found, list):
        assert message in found[0]["detail"]
    else:
        assert found.status == 422 and message in found.body.decode()


def test_adding_and_removing_survive_a_restart(own, tmp_path):
    engine = own.app.state.work.engine
    picture = b64encode(png("blue")).decode()
    x = engine.encoders["text"](["gray"])[0].tolist()
    items = [
        {"id": "new/1", "text": "blue", "image": picture, "labels": ["blue", "new"]},
        {"id": "new/2", "text": "red", "metadata": {"year": 1999}},
        {"id": "new/3", "text_vector": x},
    ]
    assert change(own, "POST", "/api/items", {"items": items}).json == {"added": 3, "replaced": 0}
    kept = own.get("/api/item/new%2F1").json
    assert kept["labels"] == ["blue", "new"] and kept["metadata"] == {"year": None}
    assert own.get(kept["picture"]).status == 200
    found = own.get("/api/search?text=blue&k=1&where=labels+has+'new'").json["answers"]
    assert [a["id"] for a in found] == ["new/1"]
    near = own.get("/api/item/new%2F2/similar?by=text&modality=text&k=200").json["answers"]
    assert {"new/2", "new/3"} < {a["id"] for a in near} and near[0]["distance"] == 0
    again = change(own, "POST", "/api/items", {"items": items[:1]})
    assert again.status == 409 and "'new/1' is there already" in again.json["detail"]
    other = [{"id": "new/2", "text": "green"}, {"id": "new/4", "text": "green"}]
    replaced = change(own, "POST", "/api/items", {"items": other, "replace": True})
    assert replaced.json == {"added": 1, "replaced": 1}
    assert change(own, "DELETE", "/api/items?id=new/3&id=set/1").json == {"removed": 2}
    assert change(own, "DELETE", "/api/item/set%2F2").json == {"removed": 1}
    assert change(own, "DELETE", "/api/items?id=new/4&id=set/1").status == 404  # none is removed
    fresh = Client(open_catalog(engine, tmp_path))
    sizes = fresh.get("/api/run").json["database"]
    assert sizes == {"image": 32 + 1 - 2, "text": 38 + 4 - 1 - 2}
    assert fresh.get("/api/item/new%2F2").json["text"] == "green"
    assert fresh.get(fresh.get("/api/item/new%2F1").json["picture"]).status == 200
    assert fresh.get("/api/item/set%2F2").status == 404


def test_the_addresses_of_an_item_lead_to_it_whatever_its_id(own):
    picture = b64encode(png("blue")).decode()
    ids = ["a", "a/similar", "a/picture", "a/similar/picture", "a\nb\n", "similar", "a%2Fb", "a/"]
    items = [{"id": name, "text": "blue", "image": picture} for name in ids]
    assert change(own, "POST", "/api/items", {"items": items}).status == 200
    found = own.get("/api/search?text=blue&k=200&modality=image").json["answers"]
    found = {answer["id"]: answer for answer in found}
    for name in ids:
        address = found[name]["item"]
        assert own.get(address).json["id"] == name
        assert own.get(found[name]["picture"]).headers["content-type"] == "image/jpeg"
        assert own.get(address.replace("/item?", "/similar?")).json["answers"]
        path = address.replace("?id=", "/")  # as of earlier versions
        assert own.get(path).json["id"] == own.get(f"{path}?id=a").json["id"] == name
        assert own.get(f"{path}/picture").headers["content-type"] == "image/jpeg"
        assert own.get(f"{path}/similar?k=3").json["answers"]
    assert own.get("/api/item/a/similar").json["answers"]  # slashes that were sent as such
    assert own.get("/api/item/a/similar/similar").json["answers"]
    assert own.get("/api/item/similar").json["id"] == "similar"
    for name in ids:
        path = found[name]["item"].replace("?id=", "/")
        assert change(own, "DELETE", f"{path}?id=set/1").json == {"removed": 1}
    for part in ("picture", "similar"):  # which cannot be deleted
        assert change(own, "DELETE", f"/api/item/set%2F1/{part}").status == 404
    assert own.get("/api/item?id=set/1").status == 200


@pytest.mark.parametrize("root", ["pictures", None])
def test_a_picture_that_was_sent_moves_with_the_catalogue(tmp_path, root):
    (old := tmp_path / "old").mkdir()
    engine = make_catalog(old)
    client = Client(engine, token=TOKEN)
    items = [{"id": name, "image": b64encode(png("blue")).decode()} for name in ("a", "b")]
    assert change(client, "POST", "/api/items", {"items": items}).status == 200
    (value,) = engine.indexes["image"].metadata(["a"])["image"]
    assert value.startswith("added/") and (old / value).is_file()
    engine.indexes["image"].update(["b"], {"image": [str(old / value)]})  # of an earlier version
    engine.indexes["image"].save()
    moved = open_catalog(engine, old.rename(tmp_path / "new"))
    moved.images_root = root and str(tmp_path / root)
    for name in ("a", "b"):
        assert moved.picture_path(name) == str(tmp_path / "new" / value)
    moved.indexes["image"].update(["b"], {"image": ["added/" + "0" * 32 + ".jpg"]})  # not there
    assert Client(moved).get("/api/item/b/picture").status == 404


@pytest.mark.parametrize(
    ("item", "status", "message"),
    [
        ({"id": "a"}, 422, "'a' has neither words, nor picture, nor vector"),
        ({"id": "a", "text": "red", "metadata": {"colour": 1}}, 422, "'colour' is not kept here"),
        ({"id": "a", "text": "red", "metadata": {"year": "x"}}, 422, "metadata: year"),
        ({"id": "a", "text": "red", "metadata": {"image": "/x", "text": ""}}, 422, "text, image:"),
        ({"id": "a", "text": "red", "metadata": {"labels": ["x"]}}, 422, "metadata: labels:"),
        ({"id": "a", "image": "?"}, 422, "image: not in base64"),
        ({"id": "a", "image": "aaaa"}, 422, "image: cannot be read"),
        ({"id": "a", "text_vector": [1.0]}, 422, "1 features"),
        ({"id": "", "text": "red"}, 422, "at least 1 character"),
        ({"id": "a\0", "text": "red"}, 422, "NUL"),
    ],
)
def test_what_cannot_be_added_changes_nothing(own, item, status, message):
    items = [{"id": "good", "text": "red"}, item]
    answer = change(own, "POST", "/api/items", {"items": items})
    assert answer.status == status and message in answer.body.decode()
    assert own.get("/api/item/good").status == 404
    assert change(own, "POST", "/api/items", {"items": items[:1]}).status == 200


@pytest.mark.parametrize("path", ["../secret.png", "{}/secret.png"])
def test_no_other_file_is_a_picture(tmp_path, path):
    (tmp_path / "secret.png").write_bytes(png())
    (folder := tmp_path / "own").mkdir()
    engine, path = make_catalog(folder), path.format(tmp_path)
    item = NewItem("a", {"text": engine.encoders["text"](["red"])}, {"image": path})
    with pytest.raises(QueryError, match="not one that was kept here"):
        engine.add([item])
    engine.indexes["image"].update(["set/1"], {"image": [path]})
    client = Client(engine)
    assert client.get("/api/item/set%2F1/picture").status == 404
    assert client.get("/api/item/set%2F2/picture").status == 200


def test_a_store_that_another_process_changes(own, tmp_path, monkeypatch):
    monkeypatch.setattr("pyg_hash.serve.engine._PATIENCE", 0.1)
    with HammingIndex.open(tmp_path / "image.store") as other:
        other.remove(["set/1"])
        item = {"id": "a", "text": "red", "image": b64encode(png()).decode()}
        answer = change(own, "POST", "/api/items", {"items": [item]})
        assert answer.status == 503 and "is being changed" in answer.json["detail"]
    assert own.get("/api/item/a").status == 404
    assert own.get("/api/search?text=red").status == 200
    with HammingIndex.open(tmp_path / "image.store") as other:
        other.remove(["set/1"])
        other.save()
    assert change(own, "POST", "/api/items", {"items": [{**item, "image": None}]}).status == 200
    similar = own.get("/api/item/set%2F2/similar?modality=image&k=200").json["answers"]
    assert len(similar) == 31 and own.get("/api/run").json["database"]["image"] == 31
    assert HammingIndex.open(tmp_path / "text.store").contains(["a"]) == [True]


def test_a_run_that_was_replaced_is_neither_searched_nor_changed(own, tmp_path):
    found, engine = own.get("/api/search?text=red").json["answers"], own.app.state.work.engine
    stores = [tmp_path / f"{modality}.store" for modality in MODALITIES]
    for path in stores:
        path.rename(f"{path}.old")
        with HammingIndex.create(path, engine.model.num_bits, ids=str) as other:
            other.add(torch.ones(1, other.num_bits, dtype=torch.int8), ["set/2"], model="0" * 64)
            other.save()
    for _ in range(2):
        answer = change(own, "DELETE", "/api/item/set%2F2")
        assert answer.status == 503 and "replaced by one of another model" in answer.json["detail"]
    assert own.get("/api/search?text=red").json["answers"] == found
    assert [len(HammingIndex.open(path)) for path in stores] == [1, 1]
    assert (answer := own.get("/readyz")).status == 503 and answer.json == {"status": "replaced"}
    for path in stores:
        path.with_name(f"{path.name}.old").replace(path)
    assert change(own, "DELETE", "/api/item/set%2F2").status == 503  # until a restart
    for path in stores:
        HammingIndex.open(path).lock()  # nobody else holds it


def test_a_change_is_saved_whole_or_not_at_all(own, tmp_path, monkeypatch):
    calls = []

    def full(index):
        calls.append(index.path)
        if len(calls) % 4 == 2:  # the second store, once
            raise OSError("disk full")
        save(index)

    engine = own.app.state.work.engine
    ids = ["a", "set/2", "set/4"]
    before = known(tmp_path, ids)
    x = engine.encoders["image"].rows[0][None], engine.encoders["text"](["red"])
    items = [NewItem(name, dict(zip(MODALITIES, x, strict=True))) for name in ids]
    save = HammingIndex.save
    for call in (lambda: engine.add(items, replace=True), lambda: engine.remove(ids[1:])):
        with monkeypatch.context() as patch:
            patch.setattr(HammingIndex, "save", full)
            with pytest.raises(OSError, match="disk full"):
                call()
        assert known(tmp_path, ids) == before
    assert engine.add(items, replace=True) == 2  # nothing is left locked
    assert known(tmp_path, ids) != before


@pytest.mark.parametrize(
    ("number", "status"), [("ENOSPC", 507), ("EDQUOT", 507), ("EROFS", 503), ("EACCES", 503)]
)
def test_a_disk_that_takes_nothing_is_told_in_a_line(own, monkeypatch, number, status):
    said = []
    monkeypatch.setattr(logging.getLogger("pyg_hash.serve.guard"), "handle", said.append)

    def full(*_):
        raise OSError(getattr(errno, number), "no room", "/secret/place")

    monkeypatch.setattr(HammingIndex, "save", full)
    item = {"id": "a", "text": "red"}
    for answer in (
        change(own, "POST", "/api/items", {"items": [item]}),
        change(own, "DELETE", "/api/item/set%2F2"),
    ):
        wanted = {"detail": "the server cannot write: no room"}
        assert (answer.status, answer.json) == (status, wanted)
    assert [record.exc_info for record in said] == [None, None]  # no call stack
    added, removed = (record.getMessage() for record in said)
    assert added.startswith("POST /api/items (request ") and "no room" in added
    assert removed.startswith("DELETE /api/item/set/2 (request ") and "no room" in removed


def test_two_who_change_a_catalogue_take_turns(own, tmp_path, monkeypatch):
    """Nobody takes back what another has not finished to save."""
    engines = [own.app.state.work.engine, open_catalog(own.app.state.work.engine, tmp_path)]
    saved, unlink, done = threading.Event(), Path.unlink, []

    def slow(path, **more):
        if path.name.endswith(".before") and not saved.is_set():
            saved.set()  # both stores are saved, and free again
            time.sleep(0.3)
        unlink(path, **more)

    def do(engine, name, year):
        engine.update({name: {"year": year}})
        done.append(name)

    monkeypatch.setattr(Path, "unlink", slow)
    thread = threading.Thread(target=do, args=(engines[0], "set/1", 1))
    thread.start()
    assert saved.wait(10)
    engines[1].recover()  # as of a process that starts now
    do(engines[1], "set/2", 2)
    thread.join()
    assert done == ["set/1", "set/2"]
    years = HammingIndex.open(tmp_path / "image.store").metadata(["set/1", "set/2"])["year"]
    assert years == [1, 2]


def test_searches_do_not_wait_with_changes_that_wait(own, tmp_path, monkeypatch):
    monkeypatch.setattr("pyg_hash.serve.engine._PATIENCE", 50.0)
    engine = own.app.state.work.engine
    bodies = [json.dumps({"items": [{"id": name, "text": "red"}]}).encode() for name in "abc"]

    async def ask():
        with Lock(tmp_path / ".image.store.before.lock", "store: x"):
            changes = [request(own.app, "POST", "/api/items", body, BEARER) for body in bodies]
            changes = [asyncio.create_task(change) for change in changes]
            assert (await request(own.app, "GET", "/api/search?text=red")).status == 200
            assert not any(change.done() for change in changes)
            monkeypatch.setattr("pyg_hash.serve.engine._PATIENCE", 0.1)
            (tmp_path / "image.store.before").write_bytes(b"")
            with pytest.raises(QueryError, match="is being changed"):
                open_catalog(engine, tmp_path).recover()  # SearchEngine.of notes it
            (tmp_path / "image.store.before").unlink()
        return [answer.status for answer in await asyncio.gather(*changes)]

    assert asyncio.run(ask()) == [200, 200, 200]


def test_a_lock_that_cannot_be_taken_leaves_none(own, tmp_path, monkeypatch):
    def few(path, *more):
        if "text" in path.name:
            raise OSError(errno.EMFILE, "too many open files")
        return Lock(path, *more)

    engine = own.app.state.work.engine
    with monkeypatch.context() as patch, pytest.raises(OSError, match="too many"):
        patch.setattr("pyg_hash.index.hamming.Lock", few)
        engine.update({"set/4": {"year": 10}})
    with HammingIndex.open(tmp_path / "image.store") as other:
        other.lock()
    engine.update({"set/4": {"year": 10}})


class Killed(BaseException):
    """Nothing after it is done, as of a process that was killed."""


@pytest.mark.parametrize("saves", [0, 1])
def test_a_restart_takes_back_what_was_half_saved(own, tmp_path, monkeypatch, saves):
    engine, save, done = own.app.state.work.engine, HammingIndex.save, []

    def dies(index):
        if len(done) == saves:
            raise Killed
        done.append(save(index))

    ids = ["a", "set/2", "set/3"]
    before = known(tmp_path, ids)
    x = engine.encoders["image"].rows[0][None], engine.encoders["text"](["red"])
    items = [NewItem(name, dict(zip(MODALITIES, x, strict=True))) for name in ids]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(HammingIndex, "save", dies)
        engine.add(items, replace=True)
    assert (known(tmp_path, ids) != before) == (saves == 1)
    for index in engine.indexes.values():  # a dead process holds no lock
        index.close()
    fresh = open_catalog(engine, tmp_path)

    def full(index):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(HammingIndex, "save", full)
        fresh.recover()
    for modality, index in fresh.indexes.items():  # nothing is gone, or locked
        assert index.contains(["set/2"]) == [True]
        with HammingIndex.open(tmp_path / f"{modality}.store") as other:
            other.lock()
    fresh.recover()  # as SearchEngine.of does
    assert known(tmp_path, ids) == before
    assert not list(tmp_path.glob("*.before"))
    assert fresh.add(items, replace=True) == 2


def test_a_refused_change_writes_nothing(own, tmp_path):
    """Not even what was there once more: ids of strings are ordered as they were added."""
    item = {"id": "set/2", "text": "red"}
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.store")}
    assert change(own, "POST", "/api/items", {"items": [item]}).status == 409
    assert change(own, "DELETE", "/api/items?id=set%2F2&id=unknown").status == 404
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.store")} == files


def test_a_failed_add_leaves_no_picture(own, tmp_path):
    picture = b64encode(png("blue")).decode()
    bad = [{"id": "a", "image": picture, "metadata": {"year": "x"}}]
    good = [{"id": "b", "image": picture}]
    assert change(own, "POST", "/api/items", {"items": bad}).status == 422
    assert not list(tmp_path.glob("added/*"))
    assert change(own, "POST", "/api/items", {"items": good}).status == 200
    assert change(own, "POST", "/api/items", {"items": bad}).status == 422
    assert len(list(tmp_path.glob("added/*"))) == 1  # that of another item stays


def known(folder, ids):
    """All that is kept of items."""
    found = []
    for store in (HammingIndex.open(folder / f"{m}.store") for m in MODALITIES):
        some = [name for name in ids if store.contains([name])[0]]
        found.append((some, store.relaxed(some).tolist(), store.metadata(some), len(store)))
    return found


def test_what_is_replaced_is_one_thing_in_both_stores(own, tmp_path):
    item = {"id": "set/2", "text": "green", "metadata": {"year": 1900}}
    assert change(own, "POST", "/api/items", {"items": [item], "replace": True}).status == 200
    fields = {"text": ["green"], "image": ["2.png"], "labels": [["blue"]], "year": [1900]}
    assert [m for _, _, m, _ in known(tmp_path, ["set/2"])] == [fields, fields]
    item = {"id": "set/3", "image": b64encode(png()).decode()}  # had a text alone
    assert change(own, "POST", "/api/items", {"items": [item], "replace": True}).status == 200
    image, text = (m for _, _, m, _ in known(tmp_path, ["set/3"]))
    assert image == text and image["text"] == ["gray"] and image["year"] == [2003]
    item = {"id": "set/2", "text_vector": [0.5] * 9, "metadata": {"year": None}}
    assert change(own, "POST", "/api/items", {"items": [item], "replace": True}).status == 200
    fields |= {"text": [None], "year": [None]}
    assert [m for _, _, m, _ in known(tmp_path, ["set/2"])] == [fields, fields]
    before = [codes for _, codes, _, _ in known(tmp_path, ["set/2"])]
    item = {"id": "set/2", "metadata": {"year": 7}}  # what it is stays, and so does its code
    assert change(own, "POST", "/api/items", {"items": [item], "replace": True}).status == 200
    fields |= {"year": [7]}
    assert [m for _, _, m, _ in known(tmp_path, ["set/2"])] == [fields, fields]
    assert [codes for _, codes, _, _ in known(tmp_path, ["set/2"])] == before
    absent = change(own, "POST", "/api/items", {"items": [item | {"id": "x"}], "replace": True})
    assert absent.status == 422 and "neither words" in absent.json["detail"]


def test_tokens_below_a_prefix(tmp_path):
    engine = make_catalog(tmp_path)
    inner, outer = Client(engine, token=TOKEN), Client(engine)
    outer.app = type(inner.app)()
    outer.app.mount("/search", inner.app)
    known = inner.get("/api/item/set%2F29").json
    below = outer.get("/search/api/item/set%2F29").json
    assert below == known | {name: f"/search{known[name]}" for name in ("item", "picture")}
    for answer in outer.get("/search/api/search?text=red").json["answers"]:
        assert outer.get(answer["item"]).json["id"] == answer["id"]
        assert answer["picture"] is None or outer.get(answer["picture"]).status == 200
    assert outer.get(outer.get("/search/api/run").json["first"]).status == 200
    assert outer.send("DELETE", "/search/api/item/set%2F29").status == 401
    assert outer.send("DELETE", "/search/api/item/set%2F29", headers=BEARER).status == 200


def test_private_applications_of_one_host_have_their_own_cookies(engine):
    host, kept, kind = Client(engine), [], [("content-type", "application/json")]
    host.app = type(host.app)()
    for at in ("/a/b", "/a"):
        host.app.mount(at, Client(engine, token=TOKEN + at, private=True).app)
        token = json.dumps({"token": TOKEN + at}).encode()
        cookie = host.post(f"{at}/api/session", token, kind).headers["set-cookie"]
        assert "Path=/;" in cookie  # a proxy may show it elsewhere
        kept.append(cookie.partition(";")[0])
    assert host.get("/a/b/api/run", cookie="; ".join(kept)).status == 200  # as browsers send both
    assert host.get("/a/b/api/run", cookie=kept[1]).status == 401


def test_tokens(engine, tmp_path):
    body = json.dumps({"items": [{"id": "a", "text": "red"}]}).encode()
    none, some = Client(engine), Client(engine, token=TOKEN)
    secret = Client(engine, token=TOKEN, private=True)
    assert none.post("/api/items", body).status == 403
    assert "--token_file" in none.send("DELETE", "/api/item/x").json["detail"]
    for wrong in ("Bearer x", f"Basic {TOKEN}", "", f"Bearer {TOKEN}x"):
        answer = some.post("/api/items", body, [("authorization", wrong)])
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert some.get("/api/search?text=red").status == 200
    assert not some.get("/api/run").json["writable"] or engine.is_writable
    for path in ("/api/search?text=red", "/metrics", "/api/run", "/api/openapi.json", "/nope"):
        assert secret.get(path).status == 401
    for path in ("/", "/healthz", "/readyz", "/page.js"):
        assert secret.get(path).status == 200
    assert secret.get("/api/search?text=red", authorization=f"bearer {TOKEN}").status == 200
    given = json.dumps({"token": TOKEN}).encode()
    kind = [("content-type", "application/json")]
    cookie = secret.post("/api/session", given, kind).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    tls = Client(engine, token=TOKEN, private=True)
    below, tls.app = tls.app, lambda scope, *more: below({**scope, "scheme": "https"}, *more)
    assert "; Secure" in tls.post("/api/session", given, kind).headers["set-cookie"]
    wrong = secret.post("/api/session", given.replace(b'": "', b'": "x'), kind)
    assert wrong.status == 401 and "set-cookie" not in wrong.headers  # whose name tells of it
    other = Client(engine, token=f"{TOKEN}2", private=True)  # at another port of this host
    second = other.post("/api/session", json.dumps({"token": f"{TOKEN}2"}).encode(), kind)
    both = f"{cookie.partition(';')[0]}; {second.headers['set-cookie'].partition(';')[0]}"
    assert [one.get("/api/run", cookie=both).status for one in (secret, other)] == [200, 200]
    assert secret.get("/api/search?text=red", cookie=cookie.partition(";")[0]).status == 200
    with pytest.raises(ValueError, match="private: needs a token"):
        create_app(engine, private=True)


@pytest.mark.parametrize("kinds", [["text/plain;application/json"], ["a/json"], [""], []])
def test_a_cookie_alone_adds_nothing_that_a_form_can_send(own, kinds):
    """Pages of other ports are of the same site; and FastAPI 0.115 reads JSON of any kind."""
    body = json.dumps({"items": [{"id": "a", "text": "red"}]}).encode()
    cookie = ("cookie", f"{cookie_name('', TOKEN)}={TOKEN}")
    answer = own.post("/api/items", body, [cookie, *(("content-type", kind) for kind in kinds)])
    assert answer.status == 415 and "Content-Type: application/json" in answer.json["detail"]
    json_too = ("content-type", "application/json; charset=utf-8")
    assert own.post("/api/items", body, [cookie, json_too]).status == 200
    assert own.send("DELETE", "/api/items?id=a", headers=[cookie]).status == 200


@pytest.mark.parametrize("token", ["c2VjcmV0IHdvcmRz+/==", "schlüssel-€-%41"])
def test_any_token_is_known_by_its_header_and_kept_by_the_page(engine, token):
    client = Client(engine, token=token, private=True)
    kind = [("content-type", "application/json")]
    given = client.post("/api/session", json.dumps({"token": token}).encode(), kind)
    cookie = given.headers["set-cookie"].partition(";")[0]
    assert client.get("/api/run", cookie=cookie).status == 200
    assert client.get("/api/run", cookie=f"other=1; {cookie}x").status == 401
    sent = f"Bearer {token}".encode().decode("latin-1")  # in UTF-8
    assert client.get("/api/run", authorization=sent).status == 200
    assert client.get("/api/run", authorization="Bearer \xff\xfe").status == 401


def test_a_run_without_a_catalogue_cannot_be_changed():
    client = Client(token=TOKEN)
    answer = change(client, "DELETE", "/api/item/3")
    assert answer.status == 409 and "pyg-hash build" in answer.json["detail"]


@pytest.mark.parametrize(("kind", "rest"), [("image", "text"), ("text", "image")])
def test_one_store_of_one_modality_takes_no_code_of_the_other(engine, tmp_path, kind, rest):
    store = HammingIndex.create(tmp_path / "one.store", 12, ids=str)
    words, pictures = engine.encoders["text"](["red"]), engine.encoders["image"].rows[0][None]
    features = {"image": pictures, "text": words}
    store.modality = kind
    store.save()
    one = SearchEngine(engine.model, dict.fromkeys(MODALITIES, store), {})
    assert one.add([NewItem("a", {kind: features[kind]}), NewItem("b", features)]) == 0
    codes = store.codes(["a", "b"])
    assert torch.equal(codes[0], codes[1])
    for replace in (True, False):
        with pytest.raises(QueryError, match=f"'a' is one of {rest} alone, .* the {kind}s of a"):
            one.add([NewItem("a", {rest: features[rest]})], replace=replace)
    for opened in (store, HammingIndex.open(tmp_path / "one.store")):
        assert torch.equal(opened.codes(["a", "b"]), codes)


def test_indexes_that_are_swapped_are_named(engine, tmp_path):
    make_catalog(tmp_path)
    stores = {m: HammingIndex.open(tmp_path / f"{m}.store") for m in MODALITIES}
    for modality, store in stores.items():
        store.modality = modality
    SearchEngine(engine.model, stores, {})
    swapped = {"image": stores["text"], "text": stores["image"]}
    with pytest.raises(ValueError, match="indexes: that of image holds .* modality, text; give"):
        SearchEngine(engine.model, swapped, {})
    with pytest.raises(TypeError, match="encoders: expected a mapping, got None"):
        SearchEngine(engine.model, stores, None)
    with pytest.raises(ValueError, match="oversample: .* got 0"):
        SearchEngine(engine.model, stores, {}, oversample=0)


def test_a_file_of_somebody_else_in_the_place_of_a_change_is_named_and_kept(engine, tmp_path):
    own = make_catalog(tmp_path)
    before = tmp_path / "image.store.before"
    for content in ((tmp_path / "image.store").read_bytes(), b"mine"):
        before.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"image\.store\.before: .*; move it elsewhere"):
            own.recover()
        with pytest.raises(QueryError, match=r"image\.store\.before: .*; move it elsewhere"):
            own.remove(["set/2"])
        assert before.read_bytes() == content and known(tmp_path, ["set/2"])
    before.unlink()
    assert own.remove(["set/2"]) == 1


def test_one_store_of_integers(engine, tmp_path):
    store = HammingIndex.create(tmp_path / "one.store", 12, fields={"label": str})
    rows = torch.arange(4)
    codes = engine.model.encode_text(engine.encoders["text"](COLORS))
    store.add(codes, rows + 7, {"label": list(COLORS)})
    store.save()
    stores = {"image": store, "text": store}
    client = Client(SearchEngine(engine.model, stores, engine.encoders), token=TOKEN)
    found = client.get("/api/search?text=blue&k=1").json["answers"][0]
    assert found["id"] == "9" and found["distance"] == 0 and found["metadata"] == {"label": "blue"}
    assert client.get("/api/item/9/similar?k=2").json["answers"][0]["id"] == "9"
    assert client.get("/api/item/x").status == client.get("/api/item/99").status == 404
    about = client.get("/api/run").json
    assert about["one_store"] and about["fields"] == {"label": "str"} and about["first_item"] == 7
    new = {"id": "70", "text": "red", "metadata": {"label": "new"}}
    assert change(client, "POST", "/api/items", {"items": [new]}).status == 200
    assert change(client, "POST", "/api/items", {"items": [{**new, "id": "x"}]}).status == 404
    only = {"id": "70", "metadata": {"label": "changed"}}
    changed = change(client, "POST", "/api/items", {"items": [only], "replace": True})
    assert changed.json == {"added": 0, "replaced": 1}
    assert client.get("/api/item/70").json["metadata"] == {"label": "changed"}
    assert len(HammingIndex.open(tmp_path / "one.store")) == 5
    assert Path(tmp_path / "one.store").is_file()


def test_each_store_keeps_its_own_fields(engine, tmp_path):
    stores = {}
    for modality, kept in (("image", "year"), ("text", "place")):
        stores[modality] = HammingIndex.create(
            tmp_path / f"{modality}.store", 12, fields={kept: str}
        )
        stores[modality].add(torch.ones(1, 12, dtype=torch.int8), [0], {kept: ["x"]})
        stores[modality].save()
    own = SearchEngine(engine.model, stores, engine.encoders)
    words = {"text": engine.encoders["text"](["red"])}
    with pytest.raises(QueryError, match="items: 'year' is not kept here, but place"):
        own.add([NewItem("1", words, {"year": "3"})])
    assert own.add([NewItem("1", words, {"place": "here"})]) == 0
    assert stores["text"].metadata([1]) == {"place": ["here"]}


def test_similar_where_a_store_gives_no_codes(engine, tmp_path):
    """What the page hides its button by says what the request does."""

    @CodeStore.register
    class Database:
        """As other stores are: without ``codes`` and ``relaxed``."""

        def __getattr__(self, name):
            if name in ("codes", "relaxed"):
                raise AttributeError(name)
            return getattr(kept, name)

        def __len__(self):
            return len(kept)

    kept, store = HammingIndex.create(tmp_path / "one.store", 12, ids=str), Database()
    kept.add(engine.model.encode_text(engine.encoders["text"](COLORS)), list(COLORS))
    client = Client(SearchEngine(engine.model, dict.fromkeys(MODALITIES, store), engine.encoders))
    answer = client.get("/api/item/red/similar")
    assert answer.status == 422 and "Database gives no codes" in answer.json["detail"]
    assert client.get("/api/run").json["similar"] is False
    assert client.get("/api/search?text=blue&k=1").json["answers"][0]["id"] == "blue"
    assert Client(engine).get("/api/run").json["similar"] is True


def test_infinite_numbers_are_texts_in_json(engine, tmp_path):
    """So that every answer is JSON, also of a store that has them already."""
    store = HammingIndex.create(tmp_path / "one.store", 12, ids=str, fields={"f": float})
    codes = engine.model.encode_text(engine.encoders["text"](COLORS))
    store.add(codes, list(COLORS), {"f": [float("inf"), float("-inf"), 0.5, None]})
    store.save()
    stores = {"image": store, "text": store}
    client = Client(SearchEngine(engine.model, stores, engine.encoders), token=TOKEN)
    body = b'{"items": [{"id": "new", "text": "red", "metadata": {"f": 1e999}}]}'
    assert client.send("POST", "/api/items", body, BEARER).status == 200
    found = strict(client.get("/api/search?text=red&k=9"))["answers"]
    values = ["inf", "-inf", 0.5, None, "inf"]
    kept = dict(zip([*COLORS, "new"], values, strict=True))
    assert {answer["id"]: answer["metadata"]["f"] for answer in found} == kept
    assert strict(client.get("/api/item/new"))["metadata"] == {"f": "inf"}
    assert strict(client.get("/api/item/red/similar?where=f+>+1"))["tied"] == 2


def strict(answer):
    """The JSON of an answer, as a browser reads it."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(answer.body, parse_constant=refuse)


def test_a_change_does_not_wait_for_new_searches():
    turns, stop, together = _Turns(), threading.Event(), []

    def searches():
        while not stop.is_set():
            with turns.reading():
                together.append(changing)
                time.sleep(0.002)

    changing = False
    threads = [threading.Thread(target=searches) for _ in range(6)]
    for thread in threads:
        thread.start()
    done = threading.Event()

    def changes():
        nonlocal changing
        for _ in range(5):
            with turns.writing():
                changing = True
                time.sleep(0.005)
                changing = False
        done.set()

    threading.Thread(target=changes, daemon=True).start()
    assert done.wait(60)
    stop.set()
    for thread in threads:
        thread.join()
    assert together and not any(together)
