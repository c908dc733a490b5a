"""The API of the search page: answers, errors as JSON, limits, headers, many at a time."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest
import torch

from pyg_hash.codes import hamming_distance

pytest.importorskip("fastapi")
image_module = pytest.importorskip("PIL.Image")

from serve_cases import Client, make_engine, png, request  # noqa: E402
from small import relaxed_of_new  # noqa: E402

from pyg_hash.index import HammingIndex  # noqa: E402
from pyg_hash.runs import RunItems, with_fields  # noqa: E402
from pyg_hash.serve import Limits  # noqa: E402
from pyg_hash.serve.engine import QueryError  # noqa: E402
from pyg_hash.serve.guard import HEADERS  # noqa: E402
from pyg_hash.utils.files import CorruptFileError  # noqa: E402


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return make_engine(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def client(engine):
    return Client(engine)


def test_words_find_pictures(client, engine):
    answer = client.get("/api/search?text=red+thing&k=5")
    assert answer.status == 200
    found = answer.json
    assert found["modality"] == "image" and found["num_bits"] == 12
    assert found["notes"] == ["Not in the vocabulary: thing"]
    code = engine.model.encode_text(engine.encoders["text"](["red"]))
    rows = [a["row"] for a in found["answers"]]
    distances = hamming_distance(code, engine.indexes["image"].codes(rows))[0]
    assert [a["distance"] for a in found["answers"]] == distances.tolist() and len(rows) == 5
    relaxed = engine.model.relax_text(engine.encoders["text"](["red"]))
    scores = (engine.indexes["image"].relaxed(rows) @ relaxed[0]).tolist()
    assert [a["score"] for a in found["answers"]] == pytest.approx(scores, abs=1e-4)
    assert sorted(scores, reverse=True) == pytest.approx(scores, abs=1e-6)
    every = hamming_distance(code, engine.indexes["image"].codes(engine.indexes["image"].ids))
    assert found["tied"] == int((every == distances[-1]).sum())
    first = found["answers"][0]
    assert first["id"] == f"id {rows[0]}"
    assert first["text"] == engine.describe(rows[0])["text"]
    assert first["labels"] == [first["text"].split()[0]]
    assert first["picture"] == f"/api/picture?id={rows[0]}"
    assert engine.picture_path(rows[0]) not in answer.body.decode()


def test_the_nearest_are_found(client, engine):
    code = engine.model.encode_text(engine.encoders["text"](["blue"]))
    index = engine.indexes["text"]
    far = hamming_distance(code, index.codes(index.ids))[0].sort().values
    plain = Client(make_engine(oversample=None))
    found = plain.get("/api/search?text=blue&modality=text&k=7").json
    assert found["modality"] == "text"
    assert [a["distance"] for a in found["answers"]] == far[:7].tolist()
    assert {a["score"] for a in found["answers"]} == {None}
    found = client.get("/api/search?text=blue&modality=text&k=7").json["answers"]
    assert max(a["distance"] for a in found) <= far[27]  # of the nearest 4 x 7, and their ties
    relaxed = engine.model.relax_text(engine.encoders["text"](["blue"]))
    near = hamming_distance(code, index.codes(index.ids))[0] <= far[27]
    best = (index.codes(index.ids[near]).float() @ relaxed[0]).sort(descending=True).values[:7]
    assert [a["score"] for a in found] == pytest.approx(best.tolist(), abs=1e-4)


def test_filters_know_the_ids_that_are_shown(client):
    some = "id in ('id 4', 'id 9', 'id 0')"
    found = client.get("/api/search?" + urlencode({"text": "red", "where": some})).json["answers"]
    assert found and {a["id"] for a in found} <= {"id 0", "id 4", "id 9"}


def test_fewer_items_than_answers(client):
    found = client.get("/api/search?text=red&k=200").json["answers"]
    assert len(found) == 48
    assert len(client.get("/api/search?text=red").json["answers"]) == 24


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_picture_finds_texts(client, engine, form):
    answer = client.post("/api/search?k=3", png("blue", form=form))
    assert answer.status == 200
    assert answer.json["modality"] == "text"
    same = client.get("/api/item/2/similar?by=image")  # code of an item, not of a new picture
    assert same.status == 200
    code = engine.model.encode_image(engine.encoders["image"].rows[2][None])
    rows = [a["row"] for a in answer.json["answers"]]
    distances = hamming_distance(code, engine.indexes["text"].codes(rows))[0]
    assert [a["distance"] for a in answer.json["answers"]] == distances.tolist()


def test_a_picture_is_the_same_in_a_file(client, engine, tmp_path):
    """Transparent, turned by EXIF, not square: what the command line sees, the page sees."""
    from pyg_hash.features import load_image
    from pyg_hash.utils.pictures import decode

    picture = image_module.new("RGBA", (31, 17), (10, 200, 30, 90))
    picture.paste((250, 0, 0, 255), (0, 0, 9, 9))
    exif = image_module.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    decode(tmp_path / "a.png").save(tmp_path / "b.ppm")
    a, b = (load_image(tmp_path / name, 24) for name in ("a.png", "b.ppm"))
    assert torch.equal(a, b)


def test_similar_items(client):
    found = client.get("/api/item/5/similar?by=text&modality=text&k=4").json
    assert found["answers"][0]["distance"] == 0
    assert found["modality"] == "text"
    assert client.get("/api/item/5/similar").json["modality"] == "text"  # by its picture
    missing = client.get("/api/item/59/similar")  # a query of the data set
    assert missing.status == 404
    assert missing.json["detail"] == "item: 59 is not in the database of this run"


def test_item_and_picture(client, engine):
    item = client.get("/api/item/27").json
    assert item == {
        "item": "/api/item?id=27",
        "metadata": {},
        "row": 27,
        "id": "id 27",
        "text": "gray thing 27",
        "labels": ["gray"],
        "picture": "/api/picture?id=27",
    }
    answer = client.get(item["picture"])
    assert answer.headers["content-type"] == "image/jpeg"
    picture = image_module.open(io.BytesIO(answer.body))
    assert picture.size == (192, 192)
    assert all(abs(value - 99) < 4 for value in picture.getpixel((90, 90)))
    again = client.get(item["picture"], **{"if-none-match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_what_the_run_is(client):
    about = client.get("/api/run").json
    assert about["title"] == "toy <b>"
    assert about["database"] == {"image": 48, "text": 48}
    assert about["queries"] == ["image", "text"]
    assert about["examples"] == ["red", "green", "blue", "gray"]  # known words only
    assert about["limits"] == {
        **{"upload_bytes": 10_000_000, "letters": 1000, "k": 24, "max_k": 200, "depth": 5000}
    }
    assert client.get("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/api/search", 422, "query text: Field required"),
        ("/api/search?text=%20%0a", 422, "query text: String should have at least 1"),
        ("/api/search?text=" + "a" * 1001, 422, "query text: String should have at most 1000"),
        ("/api/search?text=nothing", 422, "text: ('nothing') has no known word"),
        ("/api/search?text=red&k=0", 422, "query k: Input should be greater than or equal to 1"),
        ("/api/search?text=red&k=201", 422, "query k: Input should be less than or equal to 200"),
        ("/api/search?text=red&k=" + "9" * 5000, 422, "query k: Unable to parse"),
        ("/api/search?text=red&k=", 422, "query k: Input should be a valid integer"),
        ("/api/search?text=red&k=%D9%A3", 422, "query k: Input should be a valid integer"),
        ("/api/search?text=red&offset=-1", 422, "query offset: Input should be greater"),
        ("/api/search?text=red&offset=4990", 422, "offset: offset + k is at most 5000"),
        ("/api/search?text=red&where=year=3", 422, "where: "),
        ("/api/search?text=red&modality=sound", 422, "query modality: Input should be 'image' or"),
        ("/api/search?text=red&kk=1", 422, "query kk: Extra inputs are not permitted"),
        ("/api/item/60", 404, "item: 60 is not in the database"),
        ("/api/item/-1", 404, "item: -1 is not in the database"),
        ("/api/item/x/picture", 404, "item: expected a number"),
        ("/api/item/a%00b/similar", 422, "item: its id contains a NUL"),
        ("/api/item/1/similar?by=sound", 422, "query by: Input should be 'image' or 'text'"),
        ("/api/item/..%2f..%2fetc%2fpasswd", 404, "item: expected a number"),
        ("/page.py", 404, "Not Found"),
        ("/../pyproject.toml", 404, "Not Found"),
        ("//etc/passwd", 404, "Not Found"),
        ("/api/search/?text=red", 404, "Not Found"),
        ("/docs", 404, "Not Found"),  # such pages would fetch scripts from elsewhere
    ],
)
def test_errors(client, target, status, message):
    answer = client.get(target)
    assert answer.status == status
    detail = answer.json["detail"]
    if isinstance(detail, list):  # of the framework
        detail = "; ".join(f"{' '.join(map(str, e['loc']))}: {e['msg']}" for e in detail)
    assert message in detail
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty"),
        (b"text", 422, "image: cannot be read as a picture; send one of PNG, JPEG"),
        (png()[:40], 422, "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "cannot be read"),
        (b"x" * 2_001, 413, "larger than the limit of 2,000 bytes"),
        (b"x" * 9_000, 413, "larger than the limit of 2,000 bytes"),
    ],
)
def test_bad_pictures(engine, body, status, message):
    answer = Client(engine, limits=Limits(upload_bytes=2000)).post("/api/search", body)
    assert answer.status == status
    assert message in answer.json["detail"]


def test_too_many_pixels(client):
    bomb = io.BytesIO()
    image_module.new("1", (6_000, 5_000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    answer = client.post("/api/search", bomb.getvalue())
    assert answer.status == 422
    assert (
        "at most 25,000,000 and 16,384 on a side are read; make it smaller" in answer.json["detail"]
    )


def test_a_form_is_no_picture(client):
    answer = client.post("/api/search", b"x", [("content-type", "multipart/form-data; boundary=x")])
    assert answer.status == 415
    assert "not a form" in answer.json["detail"]


def test_methods(client):
    assert client.send("DELETE", "/api/search").status == 405
    assert client.send("HEAD", "/healthz").status == 200


def test_headers_everywhere(client):
    for target in ("/", "/page.css", "/page.js", "/healthz", "/api/search", "/none", "/api/item/1"):
        headers = client.get(target).headers
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:80",
        "",
        "[::2]:1",
        "[::1].evil.example",
        "localhost:1:2",
    ],
)
def test_other_names_are_not_answered_to(client, host):
    answer = client.get("/api/run", host=host)
    assert answer.status == 421
    assert "host" in answer.json["detail"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/healthz", host=host).status == 200  # a balancer asks by address
    assert client.get("/readyz", host=host).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "LOCALHOST", "[::1]:8765"])
def test_own_names_are(client, host):
    assert client.get("/api/run", host=host).status == 200


def test_every_name_where_wanted(engine):
    assert Client(engine, hosts=None).get("/healthz", host="far.example").status == 200


def test_runs_without_encoders_say_so():
    client = Client(make_engine(encoders=["text"], texts=False, notes=["No pictures."]))
    answer = client.post("/api/search", png())
    assert answer.status == 422
    assert "no image encoder; search with text instead" in answer.json["detail"]
    assert client.get("/api/search?text=red").json["answers"][0]["picture"] is None
    assert client.get("/api/item/3/picture").json == {"detail": "item: 3 has no picture"}
    assert client.get("/api/run").json["notes"] == ["No pictures."]
    nothing = Client(make_engine(encoders=[]))
    answer = nothing.get("/api/search?text=red")
    assert answer.json["detail"].endswith("no text encoder; search by its items instead")
    assert nothing.get("/api/item/3/similar").status == 200
    assert nothing.get("/api/run").json["queries"] == []


def test_a_lost_picture_names_no_path(tmp_path):
    engine = make_engine(tmp_path)
    (tmp_path / "4.png").write_bytes(b"broken")
    (tmp_path / "5.png").unlink()
    client = Client(engine)
    for row in (4, 5):
        answer = client.get(f"/api/item/{row}/picture")
        assert answer.status == 404
        assert answer.json["detail"] == "picture: its file is missing or cannot be read"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_no_fault_of_a_picture(tmp_path):
    client = Client(make_engine(tmp_path))

    @contextmanager
    def full():
        for name in ("query.ppm", "small.jpg"):
            (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / name).symlink_to("/dev/full")
        yield str(tmp_path)

    client.app.state.work.pictures.folder = full
    for answer in (client.get("/api/picture?id=4"), client.post("/api/search", png())):
        assert answer.status == 507 and "No space left" in answer.json["detail"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
def test_a_picture_that_is_known_is_not_sent(tmp_path, form):
    client = Client(make_engine(tmp_path))
    tag = client.get("/api/picture?id=4").headers["etag"]
    assert client.get("/api/picture?id=4", **{"if-none-match": form.format(tag)}).status == 304
    assert client.get("/api/picture?id=4", **{"if-none-match": '"x", "y"'}).status == 200


def test_odd_strings_of_the_data_can_be_sent(tmp_path):
    engine = make_engine()
    items = RunItems(["\ud800"] * 60, ["\ud800 \x00 </script>"] * 60, [None] * 60, [[]] * 60)
    engine.indexes = {m: with_fields(index, items) for m, index in engine.indexes.items()}
    item = Client(engine).get("/api/item/0").json
    assert (item["id"], item["text"]) == ("\\ud800", "\\ud800 \\0 </script>")


def test_a_damaged_store_is_a_fault_of_the_server(monkeypatch):
    def damaged(*_, **more):
        raise CorruptFileError("/secret/a.store: is damaged")

    client = Client()
    for name in ("search", "relaxed"):
        monkeypatch.setattr(HammingIndex, name, damaged)
        answer = client.get("/api/item/3/similar")
        assert answer.status == 500 and b"secret" not in answer.body
        monkeypatch.undo()


def test_a_path_forges_no_line_of_the_log(client, engine, monkeypatch):
    said = []
    monkeypatch.setattr(logging.getLogger("pyg_hash.serve.guard"), "handle", said.append)
    monkeypatch.setattr(engine, "key", lambda text: 1 / 0)
    assert client.get("/api/item/a%0AERROR%20b%1B").status == 500
    assert said[0].getMessage().startswith("GET /api/item/a\\nERROR b\\x1b (request ")


def test_200_at_a_time(engine):
    client = Client(engine)
    words = ("red", "green", "blue", "gray")
    x = {"text": engine.encoders["text"](words), "image": engine.encoders["image"].rows[0][None]}
    for m in x:  # no bit is all rounding, so that it does not matter who is coded together
        assert relaxed_of_new(engine.model, x[m], m).abs().min() > 1e-5
    targets = [f"/api/search?text={word}&k=5" for word in words]
    alone = [client.get(target).json["answers"] for target in targets]

    async def many():
        return await asyncio.gather(
            *(request(client.app, "GET", targets[i % 4]) for i in range(150)),
            *(request(client.app, "POST", "/api/search", png("red")) for _ in range(50)),
        )

    answers = asyncio.run(many())
    assert {answer.status for answer in answers} == {200}
    found = [[a["row"] for a in answer.json["answers"]] for answer in answers]
    for number, rows in enumerate(found[:150]):
        assert rows == [a["row"] for a in alone[number % 4]]
    assert len(set(map(tuple, found[150:]))) == 1


def test_who_comes_too_many_is_told(monkeypatch):
    engine, hold = make_engine(), threading.Event()
    search = engine.ask_text
    monkeypatch.setattr(engine, "ask_text", lambda *args: hold.wait(20) and search(*args))
    client = Client(engine, limits=Limits(threads=1, waiting=2))

    async def three():
        tasks = [
            asyncio.create_task(request(client.app, "GET", "/api/search?text=red"))
            for _ in range(3)
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        alive = await request(client.app, "GET", "/healthz")  # the loop is not blocked
        hold.set()
        return [task.result() for task in done], alive, await asyncio.gather(*tasks)

    refused, alive, answers = asyncio.run(three())
    assert [answer.status for answer in refused] == [503]
    assert refused[0].headers["retry-after"] == "1"
    assert "2 requests are waiting" in refused[0].json["detail"]
    assert alive.status == 200
    assert sorted(answer.status for answer in answers) == [200, 200, 503]


def test_who_waits_too_long_is_told(monkeypatch):
    engine, hold = make_engine(), threading.Event()
    monkeypatch.setattr(engine, "ask_text", lambda *args: hold.wait(20))
    client = Client(engine, limits=Limits(timeout=0.05))
    answer = client.get("/api/search?text=red")
    hold.set()
    assert answer.status == 503
    assert "no answer within 0.05" in answer.json["detail"]


def test_slow_uploads_end():
    client = Client(limits=Limits(upload_timeout=0.05))

    async def slow():
        messages = []

        async def receive():
            if messages == []:
                messages.append("begun")
                return {"type": "http.request", "body": b"x", "more_body": True}
            await asyncio.sleep(60)

        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/search", "query_string": b""}
        scope |= {"headers": [(b"host", b"localhost")], "http_version": "1.1", "root_path": ""}
        await client.app(scope, receive, send)
        return sent

    sent = asyncio.run(slow())
    assert sent[0]["status"] == 408
    assert b"not received within 0.05 seconds" in sent[1]["body"]


def test_own_faults_are_logged_and_not_told(monkeypatch):
    said = []
    monkeypatch.setattr(logging.getLogger("pyg_hash.serve.guard"), "handle", said.append)
    engine = make_engine()
    monkeypatch.setattr(engine, "ask_text", lambda *args: 1 / 0)
    answer = Client(engine).get("/api/search?text=red")
    assert answer.status == 500
    assert answer.json == {"detail": "the server failed; its log says why"}
    assert [record.exc_info[0] for record in said] == [ZeroDivisionError]


def test_engine_errors(engine):
    assert [engine.key(str(row)) for row in (-(2**63), 2**63 - 1)] == [-(2**63), 2**63 - 1]
    for beyond in (-(2**63) - 1, 2**63, "01"):
        with pytest.raises(QueryError, match="expected a number that fits int64"):
            engine.key(str(beyond))
    with pytest.raises(QueryError, match="60 is not in the database"):
        engine.describe(60)
    with pytest.raises(QueryError):
        engine.describe(-1)
    with pytest.raises(QueryError, match="cannot be read"):
        engine.by_image(b"no", "text", 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"upload_bytes": 0}, "upload_bytes"),
        ({"timeout": 0}, "timeout: expected more than 0"),
        ({"k": 300}, "k: 300 is more than max_k = 200"),
    ],
)
def test_limits_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        Limits(**values)
