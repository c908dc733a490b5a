"""The description of the API is true, and requests made from it never break the server."""

from __future__ import annotations

import random
import re
import string
from urllib.parse import quote

import pytest

pytest.importorskip("starlette")
pytest.importorskip("PIL.Image")

from serve_cases import Client, make_engine, png

ROUNDS = 60  # of each operation

ODD = (
    *("", " ", "0", "-1", "1e9", "1.5", "٣", "9" * 30, "9" * 5000, "NaN", "null", "true", "[]"),
    *(
        "../../etc/passwd",
        "..\\..\\x",
        "/etc/passwd",
        "file:///etc/passwd",
        "\0",
        "%00",
        "a\r\nb: c",
    ),
    *(
        "<script>",
        "' OR 1=1 --",
        "${7*7}",
        "{{7*7}}",
        "\ufeff",
        "\u202e",
        "\U0001f600",
        "ﬀ",
        "é" * 99,
    ),
    *("a" * 999, "red", "image", "text", "5", "red\x00blue", "\x7f", "İ", "ß" * 500),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return Client(make_engine(tmp_path_factory.mktemp("pictures")))


@pytest.fixture(scope="module")
def described(client):
    return client.get("/api/openapi.json").json


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def check(value, schema, described):
    """The parts of JSON Schema that the description uses."""
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
    kinds["number"] = (int, float)
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    assert any(isinstance(value, kinds[kind]) for kind in wanted)
    assert value in schema.get("enum", [value])
    if isinstance(value, dict) and "properties" in schema:
        assert set(value) == set(schema["required"]) == set(schema["properties"])
        for name, inner in schema["properties"].items():
            check(value[name], inner, described)
    for inner in value if isinstance(value, list) else ():
        check(inner, schema["items"], described)
    if isinstance(value, int) and "minimum" in schema:
        assert value >= schema["minimum"]


def test_every_route_is_described(client, described):
    routes = {
        (method, route.path)
        for route in client.app.routes
        for method in route.methods - {"HEAD"}
        if route.path.startswith(("/api", "/healthz"))
    }
    assert {(method, path) for method, path, _ in operations(described)} == routes
    assert described["openapi"].startswith("3.1")
    for _, path, operation in operations(described):
        inside = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert re.findall(r"\{(.*?)\}", path) == inside


def test_answers_are_as_described(client, described):
    for method, path, operation in operations(described):
        path = path.replace("{row}", "5")
        needed = [
            p["name"] for p in operation["parameters"] if p["required"] and p["in"] == "query"
        ]
        target = path + "?" * bool(needed) + "&".join(f"{name}=red" for name in needed)
        answer = client.send(method, target, png() if method == "POST" else b"")
        assert answer.status == 200, target
        content = operation["responses"]["200"]["content"]
        (kind,) = content
        assert answer.headers["content-type"] == kind
        if kind == "application/json":
            check(answer.json, content[kind]["schema"], described)


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
    """Bytes that are no picture, or one that was hurt."""
    kind = rng.random()
    if kind < 0.3:
        return rng.randbytes(rng.randrange(0, 3000))
    picture = bytearray(png("blue", form=rng.choice(["PNG", "JPEG", "GIF", "BMP", "WEBP"])))
    if kind < 0.5:
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
        for _ in range(ROUNDS):
            target = path.replace("{row}", coded(rng, word(rng))) if rng.random() < 0.7 else path
            names = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
            chosen = [n for n in names if rng.random() < 0.6]
            chosen += [word(rng)] if rng.random() < 0.2 else []
            pairs = [f"{coded(rng, n)}={coded(rng, word(rng))}" for n in chosen]
            target += "?" + "&".join(pairs) if pairs else ""
            verb = (
                method if rng.random() < 0.9 else rng.choice(["PUT", "PATCH", "OPTIONS", "X" * 20])
            )
            headers = [("content-type", word(rng).encode().decode("latin-1"))]
            answer = client.send(verb, target, body(rng) if verb != "GET" else b"", headers)
            statuses.add(answer.status)
            assert answer.status < 500, (verb, target)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"] in ("application/json", "image/jpeg")
            if answer.status >= 400:
                message = answer.json["error"]
                assert set(answer.json) == {"error"} and len(message) > 10
                assert "Traceback" not in message and "/tmp" not in message.replace(target, "")
    assert {200, 400, 404, 405, 422} <= statuses
