"""Attacks over real connections: each costs its own request, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress

import pytest

exceptions = pytest.importorskip("fastapi.exceptions")
pytest.importorskip("uvicorn")
image_module = pytest.importorskip("PIL.Image")

from serve_cases import Client, make_engine, png, request, running  # noqa: E402

from pyg_hash.serve import Limits  # noqa: E402
from pyg_hash.serve.guard import (  # noqa: E402
    VISIT,
    Guard,
    Metrics,
    Pictures,
    _client,
    with_mapped,
)
from pyg_hash.utils import pictures  # noqa: E402

HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def engine():
    return make_engine()


def ask(address, path, body=None, **headers):
    """Status and JSON of a request of its own connection."""
    request = urllib.request.Request(address + path, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def connect(address, content=b""):
    """A connection on which something was sent."""
    port = int(re.search(r":(\d+)/", address)[1])
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(content)
    return connection


def rest(connection):
    """All that the server sends until it ends the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    connection.close()
    return b"".join(parts)


def scan_bomb(scans, side=300):
    """A progressive JPEG that repeats its last scan."""
    buffer = io.BytesIO()
    image_module.new("L", (side, side), 128).save(buffer, "JPEG", progressive=True, quality=5)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def test_scans_are_counted(engine):
    answer = Client(engine).post("/api/search", scan_bomb(100))
    assert answer.status == 422
    assert re.search(r"it has 1\d\d scans, and at most 64 are read", answer.json["detail"])
    assert Client(engine).post("/api/search", scan_bomb(1)).status == 200
    for side, least in ((200, 64), (300, 28)):  # a larger one may have fewer, in proportion
        client = Client(engine, limits=Limits(pixels=200 * 200))
        assert client.post("/api/search", scan_bomb(1, side)).status == 200
        answer = client.post("/api/search", scan_bomb(65, side))
        assert answer.status == 422 and f"at most {least} are read" in answer.json["detail"]


def test_a_slow_picture_ends_and_others_are_answered(engine):
    bomb = scan_bomb(9_000, 2000)
    with running(engine, scans=1 << 20, decode_timeout=0.6, threads=1) as address:
        ask(address, "api/search", png())  # its process runs
        found = []
        thread = threading.Thread(target=lambda: found.append(ask(address, "api/search", bomb)))
        thread.start()
        while not found:
            assert ask(address, "healthz")[0] == 200
            assert ask(address, "api/search?text=red")[0] == 200
        thread.join()
        assert found[0][0] == 422 and "takes more than 0.6 seconds" in found[0][1]["detail"]
        assert ask(address, "api/search", png())[0] == 200  # by another process


@pytest.mark.parametrize(
    ("size", "limits", "message"),
    [
        (
            (3000, 10),
            {"side": 2000},
            "3000 x 10 pixels, and at most 25,000,000 and 2,000 on a side",
        ),
        ((300, 300), {"pixels": 10_000}, "at most 10,000"),
        ((4000, 4000), {"decode_memory": 200 << 20, "pixels": 10**8}, "memory|ended without"),
    ],
)
def test_large_pictures(engine, size, limits, message):
    buffer = io.BytesIO()
    image_module.new("RGBA", size).save(buffer, "PNG", compress_level=1)
    answer = Client(engine, limits=Limits(**limits)).post("/api/search", buffer.getvalue())
    assert answer.status == 422
    assert re.search(message, answer.json["detail"])


def test_slow_and_endless_requests(engine):
    """Heads, bodies and silence that never end; each connection does."""
    heads = [
        b"",
        b"GET / HT",
        HEAD + b"X-A: b\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET",
    ]
    with running(engine, header_timeout=0.4, upload_timeout=0.6, idle_timeout=0.3) as address:
        slow = [connect(address, content) for content in heads]
        body = connect(address, HEAD + b"Content-Length: 5000\r\n\r\nxx")
        huge = connect(address, HEAD + b"X: " + b"y" * 70_000)
        assert ask(address, "api/search?text=red")[0] == 200
        for part in (b"X-B: c\r\n", b"X-C: d\r\n"):  # a drop now and then helps nobody
            time.sleep(0.1)
            for connection, more in ((slow[2], part), (body, b"y")):
                with suppress(OSError):  # it has ended by now, on a busy machine
                    connection.sendall(more)
        answers = [rest(connection) for connection in slow]
        assert answers[:3] == [b"", b"", b""] and answers[3].startswith(b"HTTP/1.1 200")
        late = rest(body)
        assert late.startswith(b"HTTP/1.1 408") and b"not received within 0.6 seconds" in late
        assert rest(huge).startswith(b"HTTP/1.1 400")
        assert ask(address, "api/search?text=red")[0] == 200


@pytest.mark.parametrize(("send_timeout", "whole"), [(20, True), (0.2, False)])
def test_an_answer_may_be_read_slowly_but_not_for_ever(engine, send_timeout, whole):
    body = json.dumps({"queries": [{"by": "image", "code": [1] * 12, "k": 48}] * 2000}).encode()
    head = HEAD.replace(b"search", b"search/batch") + b"Content-Type: application/json\r\n"
    many = {"batch": 2000, "waiting": 4000}
    with running(engine, header_timeout=0.2, send_timeout=send_timeout, **many) as address:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        slow.settimeout(30)
        slow.connect(("127.0.0.1", int(re.search(r":(\d+)/", address)[1])))
        slow.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        got = slow.recv(4096)  # the answer is there
        time.sleep(1.0)
        head, _, got = (got + rest(slow)).partition(b"\r\n\r\n")
        assert (len(got) == int(re.search(rb"length: (\d+)", head)[1])) is whole


def test_a_body_that_is_on_its_way_at_the_end_is_told_so(engine):
    with running(engine, drain=0.2) as address:
        body = connect(address, HEAD + b"Content-Length: 5000\r\n\r\nxx")
        assert ask(address, "healthz")[0] == 200
        time.sleep(0.2)
    answer = rest(body)
    assert answer.startswith(b"HTTP/1.1 503") and b"stopping: the server ends" in answer


def test_many_connections(engine):
    """A new one takes the place of the one whose request is waited for the longest."""
    with running(engine, connections=20) as address, ExitStack() as stack:
        for content in (b"", HEAD, HEAD + b"Content-Length: 5000\r\n\r\nxx"):
            for _ in range(20):
                stack.enter_context(connect(address, content))
            assert ask(address, "api/search?text=red")[0] == 200


def test_pools_know_for_whom_they_work():
    async def app(scope, receive, send):
        known = {"type": "http.response.body", "body": VISIT.get().client.encode()}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(known)

    guard = Guard(app, None, Limits(), None, False, Metrics())
    assert asyncio.run(request(guard, "GET", "/")).body == b"127.0.0.1"


def test_who_hangs_up_gives_its_place_back(monkeypatch):
    """The next one has it, while what was asked first still runs."""
    engine, hold, asked = make_engine(), threading.Event(), []
    answer = engine.ask_text

    def ask_text(text, wanted):
        asked.append(text)
        if text == "red":
            hold.wait(20)
        return answer(text, wanted)

    monkeypatch.setattr(engine, "ask_text", ask_text)
    search = b"GET /api/search?text=%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running(engine, waiting=2, threads=1) as address, ExitStack() as stack:
        stack.enter_context(connect(address, search % b"red"))
        while not asked:
            time.sleep(0.01)
        waits = stack.enter_context(connect(address, search % b"green"))
        while ask(address, "readyz")[0] != 503:
            time.sleep(0.01)
        waits.close()
        while ask(address, "readyz")[0] != 200:
            time.sleep(0.01)
        hold.set()
        assert ask(address, "api/search?text=blue")[0] == 200
    assert asked == ["red", "blue"]


def test_who_hangs_up_leaves_no_file(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content, until = png(), time.monotonic() + 20
    with running(engine) as address:
        for _ in range(20):
            connect(address, HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content).close()
        assert ask(address, "api/search", content)[0] == 200
        while found := list(tmp_path.glob("pyg_hash-serve-*/*")):
            assert time.monotonic() < until, found
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("address", "client"),
    {
        "192.0.2.7": "192.0.2.7",
        "::ffff:c000:207": "192.0.2.7",
        "2001:db8::a:1:2": "2001:db8::",
        "2001:db8:0:0:b::2": "2001:db8::",
        "2001:db8:0:1::1": "2001:db8:0:1::",
        "::1": "::1",
        "a name": "a name",
    }.items(),
)
def test_a_client_is_an_address_or_a_network_of_ipv6(address, client):
    assert _client({"client": (address, 80)}) == client
    assert _client({}) == ""


def test_few_pictures_are_decoded_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine, found = make_engine(), []
    features = engine.features

    def slow(modality, path):
        time.sleep(0.02)
        found.append(len([*tmp_path.glob("*/*/*.ppm")]))
        return features(modality, path)

    monkeypatch.setattr(engine, "features", slow)
    client = Client(engine, limits=Limits(threads=1))

    async def many():
        posts = (request(client.app, "POST", "/api/search", png(), client=str(i)) for i in range(9))
        return await asyncio.gather(*posts)

    assert {answer.status for answer in asyncio.run(many())} == {200}
    assert len(found) == 9 and max(found) <= 2


def test_a_proxy_of_ipv4_is_known_at_a_socket_of_ipv6():
    known = "127.0.0.1, 10.0.0.0/8,2001:db8::1"
    assert with_mapped(known) == f"{known},::ffff:127.0.0.1,::ffff:10.0.0.0/104"
    assert [with_mapped(same) for same in ("*", None)] == ["*", None]


def test_a_prefix_that_a_proxy_takes_away(engine):
    with running(engine, root_path="/a/b") as address:
        first = ask(address, "api/run")[1]["first"]
        assert first.startswith("/a/b/api/item?id=")
        assert ask(address, first.removeprefix("/a/b/"))[1]["item"] == first
    for wrong in ("a", "/a/", "/é", "https://a/b"):
        with pytest.raises(ValueError, match="root_path: expected a path"):
            running(engine, root_path=wrong).__enter__()


def test_uploads_have_a_budget(engine):
    with running(engine, upload_total=100_000) as address, ExitStack() as stack:
        part = HEAD + b"Content-Length: 90000\r\n\r\n" + b"x" * 60_000
        first = stack.enter_context(connect(address, part))
        while ask(address, "api/search", png())[0] != 200:
            time.sleep(0.05)
        time.sleep(0.2)  # all of it is there
        status, answer = ask(address, "api/search", b"x" * 60_000)
        assert (status, answer["detail"]) == (503, "busy: too much is being uploaded")
        assert ask(address, "api/search", png())[0] == 200
        first.close()
        time.sleep(0.2)
        assert ask(address, "api/search", b"x" * 60_000)[0] == 422  # read, and no picture


def test_one_client_has_half_of_the_uploads():
    hold, answered = asyncio.Event(), []

    async def app(scope, receive, send):
        answered.append(len((await receive())["body"]))
        await hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(app, None, Limits(upload_bytes=50, upload_total=100), None, False, Metrics())

    async def upload(client, size):
        return (await request(guard, "POST", "/", b"x" * size, client=client)).status

    async def run():
        first = [asyncio.create_task(upload(*one)) for one in (("a", 50), ("b", 30), ("c", 19))]
        while len(answered) < 3:
            await asyncio.sleep(0)
        assert [await upload(*one) for one in (("a", 1), ("b", 2), ("d", 2))] == [503] * 3
        hold.set()
        assert await asyncio.gather(*first) == [200] * 3
        assert await upload("a", 50) == 200
        assert not guard._uploading

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"x", "multipart/form-data; boundary=x", 415, "not a form"),
        (b"--x\r\nContent-Disp", "multipart/form-data", 415, "not a form"),
        (b"{", "application/json", 422, "cannot be read as a picture"),
    ],
)
def test_bodies_of_another_kind(engine, content, kind, status, message):
    answer = Client(engine).post("/api/search", content, [("content-type", kind)])
    assert (answer.status, message in answer.json["detail"]) == (status, True)


def test_json_is_limited(engine):
    client, kind = Client(engine, limits=Limits(json_bytes=1000)), [("content-type", "a/json")]
    assert client.post("/api/search/batch", b" " * 1001, kind).status == 413
    deep = b'{"queries":' * 80 + b"1" + b"}" * 80
    assert client.post("/api/search/batch", deep, kind).status == 422


@pytest.mark.parametrize("length", [b"Content-Length: 600000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(("host", "status"), [(b"localhost", 413), (b"elsewhere", 421)])
def test_who_sends_all_before_it_reads_hears_the_refusal(engine, length, host, status):
    """As proxies do, for which a reset is a server that does not work."""
    part = b"x" * 60_000
    with running(engine, upload_bytes=60_000) as address, connect(address) as sender:
        head = HEAD.replace(b"localhost", host) + b"Connection: close\r\n"  # as nginx does
        sender.sendall(head + length + b"\r\n\r\n")
        for _ in range(10):
            sender.sendall(b"%x\r\n%b\r\n" % (60_000, part) if b"chunked" in length else part)
            time.sleep(0.02)
        sender.sendall(b"0\r\n\r\n" * (b"chunked" in length))
        answer = sender.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 %d" % status)


def test_a_refused_body_does_not_count_while_its_sender_goes_on(engine):
    part = b"%x\r\n%b\r\n" % (60_000, b"x" * 60_000)
    limits = {"upload_bytes": 60_000, "upload_total": 120_000}
    with running(engine, **limits) as address, connect(address) as refused:
        refused.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 5 * part)
        assert refused.recv(1 << 16).startswith(b"HTTP/1.1 413")
        with connect(address) as other:
            other.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + part + b"0\r\n\r\n")
            assert other.recv(1 << 16).startswith(b"HTTP/1.1 422")  # it is no picture


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("search/batch", {"queries": [{str(i): 0 for i in range(999)}]}),
        ("search/batch", {"queries": [{"by": "text", "vector": ["a"] * 999}]}),
        ("search/batch", {"queries": [{"by": "text", "code": [3] * 999}]}),
        ("search/batch", {"queries": [{str(i): 0 for i in range(15)}]}),
        ("items", {"items": [{"id": "a", "text_vector": ["a"] * 999, "labels": [1] * 999}]}),
        ("items", {"items": [{"id": "a", "image_vector": ["a"] * 999}]}),
        ("items", {str(i): 0 for i in range(999)}),
    ],
)
def test_mistakes_are_not_collected_by_the_thousand(engine, target, body):
    client, kind = Client(engine, token="t" * 16), ("content-type", "application/json")
    refused, found = client.app.exception_handlers[exceptions.RequestValidationError], []

    async def counted(request, error):
        found.extend(error.errors())
        return await refused(request, error)

    client.app.exception_handlers[exceptions.RequestValidationError] = counted
    headers = [kind, ("authorization", "Bearer " + "t" * 16)]
    answer = client.post(f"/api/{target}", json.dumps(body).encode(), headers)
    assert answer.status == 422 and len(found) <= 15 and 1 <= len(answer.json["detail"]) <= 10


def test_parameters_are_counted(engine):
    client = Client(engine, limits=Limits(batch=3))
    many = "/api/search?text=red" + "".join(f"&{i}=0" for i in range(103))
    assert client.get(many).json == {"detail": "query: more than 103 parameters"}
    (only,) = client.get(many[:-6]).json["detail"]
    assert "expected at most 15 names, got 103" in only["msg"]


def test_rate(engine):
    client = Client(engine, limits=Limits(rate=0.5, burst=3))
    statuses = [client.get("/api/search?text=red").status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    refused = client.get("/api/item/1")
    assert (
        refused.headers["retry-after"] == "2" and "more than 0.5 requests" in refused.body.decode()
    )
    assert client.get("/healthz").status == 200


def test_pictures_are_the_same_in_less_memory(tmp_path):
    """What has no transparent part is not laid on white, which changes nothing."""
    for mode in ("RGB", "L", "1", "CMYK", "P", "LA", "RGBA"):
        picture = image_module.effect_noise((40, 30), 90).convert(mode)
        layers = image_module.new("RGBA", picture.size, "white")
        layers.alpha_composite(picture.convert("RGBA"))
        picture.format = None
        assert pictures.on_white(picture).tobytes() == layers.convert("RGB").tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_leaves_the_folder_of_pictures_to_its_parent(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = Pictures(Limits())
    assert os.listdir(tmp_path) == []
    with work.folder() as folder:
        if not (child := os.fork()):
            with work.folder() as own:
                shared = os.path.dirname(own) == os.path.dirname(folder)
            work.close()
            os._exit(shared)
        assert os.waitpid(child, 0)[1] == 0 and os.path.isdir(folder)
    work.close()
    assert os.listdir(tmp_path) == []


def test_nothing_is_left_in_the_temporary_folder(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with running(engine) as address:
        assert ask(address, "api/search", png())[0] == 200
        assert len(os.listdir(tmp_path)) == 1
        assert os.listdir(next(tmp_path.iterdir())) == []
    assert os.listdir(tmp_path) == []
