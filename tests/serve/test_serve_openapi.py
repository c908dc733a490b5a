"""The framework's description of the API, and requests made from it that never break the server."""

from __future__ import annotations

import json
import random
import string
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("PIL.Image")

from serve_cases import Client, make_engine, png

ROUNDS = 40  # of each operation

ODD = (
    *("", " ", "0", "-1", "1e9", "1.5", "٣", "9" * 30, "9" * 5000, "NaN", "null", "true", "[]"),
    *("../../etc/passwd", "..\\..\\x", "/etc/passwd", "file:///etc/passwd", "\0", "%00"),
    *("a\r\nb: c", "<script>", "' OR 1=1 --", "${7*7}", "{{7*7}}", "\ufeff", "\u202e"),
    *("\U0001f600", "ﬀ", "é" * 99, "a" * 999, "red", "image", "text", "5", "red\x00blue"),
    *("\x7f", "İ", "ß" * 500, "year = 3", "a in (", "((((", "not " * 300 + "a"),
)
VALUES = (None, True, -1, 1e308, 10**40, "red", "\ud800", [], {}, [[1]], ["a"], [1.5] * 9, "zz")
BY_PATH = {  # addresses of earlier versions
    "/api/item": "/api/item/{}",
    "/api/picture": "/api/item/{}/picture",
    "/api/similar": "/api/item/{}/similar",
}
QUERY = ("text", "item", "vector", "code", "by", "modality", "k", "offset", "where", "odd")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return Client(make_engine(tmp_path_factory.mktemp("pictures")), token="a secret")


@pytest.fixture(scope="module")
def described(client):
    return client.get("/api/openapi.json").json


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_what_is_described(described):
    assert described["openapi"].startswith("3.1")
    assert {f"{method} {path}" for method, path, _ in operations(described)} == {
        *("GET /healthz", "GET /readyz", "GET /metrics", "GET /api/run", "POST /api/session"),
        *("GET /api/search", "POST /api/search", "POST /api/search/batch"),
        *("GET /api/item", "GET /api/similar", "GET /api/picture"),
        *("POST /api/items", "DELETE /api/items"),
    }
    answer = described["components"]["schemas"]["Answer"]
    fields = ("distance", "score", "item", "row", "id", "text", "labels", "picture", "metadata")
    assert set(answer["required"]) == set(fields)
    (k,) = (p for p in described["paths"]["/api/search"]["get"]["parameters"] if p["name"] == "k")
    bounds = {"minimum": 1, "maximum": 200, "default": 24}
    assert bounds.items() <= k["schema"].items()


def word(rng):
    """A value that nobody expects."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(ODD)
    if kind < 0.8:
        points = (*range(1, 0x300), 0x301, 0x5D0, 0x3042, 0xAC00, 0xE000, 0xFFFF, 0x10FFFF)
        return "".join(map(chr, rng.choices(points, k=rng.randrange(1, 40))))
    return "".join(rng.choices(string.printable, k=rng.randrange(1, 60)))


def body(rng):
    """Bytes that are no picture, or one that was hurt, or JSON of the right kind or not."""
    kind = rng.random()
    if kind < 0.2:
        return rng.randbytes(rng.randrange(0, 3000))
    if kind < 0.6:
        queries = [
            {name: rng.choice(VALUES) for name in rng.sample(QUERY, rng.randrange(1, 5))}
            for _ in range(rng.randrange(1, 4))
        ]
        return json.dumps({rng.choice(["queries", "items", "odd"]): queries}).encode()
    picture = bytearray(png("blue", form=rng.choice(["PNG", "JPEG", "GIF", "BMP", "WEBP"])))
    if kind < 0.7:
        return bytes(picture[: rng.randrange(len(picture))])
    for _ in range(rng.randrange(0, 12)):
        picture[rng.randrange(len(picture))] = rng.randrange(256)
    return bytes(picture) + rng.randbytes(rng.randrange(0, 9))


def coded(rng, value):
    """Percent-encoded, or raw bytes as a careless client sends them."""
    if rng.random() < 0.8:
        return quote(value, safe="")
    return value.encode("utf-8", "replace").decode("latin-1").replace("#", "")


@pytest.mark.parametrize("seed", range(2))
def test_nothing_breaks_the_server(client, described, seed):
    rng = random.Random(seed)
    statuses = set()
    for method, path, operation in operations(described):
        if path == "/metrics":
            continue
        for _ in range(ROUNDS):
            target = path
            if path in BY_PATH and rng.random() < 0.5:
                target = BY_PATH[path].format(coded(rng, word(rng)))
            names = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            chosen = [n for n in names if rng.random() < 0.6]
            chosen += [word(rng)] if rng.random() < 0.2 else []
            pairs = [f"{coded(rng, n)}={coded(rng, word(rng))}" for n in chosen]
            target += "?" + "&".join(pairs) if pairs else ""
            verb = (
                method if rng.random() < 0.9 else rng.choice(["PUT", "PATCH", "OPTIONS", "X" * 20])
            )
            kind = rng.choice(["application/json", word(rng).encode().decode("latin-1")])
            headers = [("content-type", kind), ("authorization", "Bearer a secret")]
            answer = client.send(verb, target, body(rng) if verb != "GET" else b"", headers)
            statuses.add(answer.status)
            ready = path == "/readyz" and answer.status == 503
            assert answer.status < 500 or ready, (verb, target)
            assert answer.headers["x-content-type-options"] == "nosniff"
            if answer.status in (204, 304):
                continue
            assert answer.headers["content-type"] in ("application/json", "image/jpeg")
            if answer.status >= 400 and not ready:
                message = str(answer.json["detail"])
                assert set(answer.json) == {"detail"} and len(message) > 8
                assert "Traceback" not in message and "/tmp" not in message.replace(target, "")
    assert {200, 404, 405, 409, 422} <= statuses
