"""benchmarks/serve_load.py counts errors, and writes its page."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("PIL.Image")


def test_every_kind_of_failure_is_an_error():
    from benchmarks.serve_load import load, message

    answers = iter(
        (
            b'HTTP/1.1 200 OK\r\n\r\n{"answers": [1]}',
            b'HTTP/1.1 200 OK\r\n\r\n{"answers": []}',
            b'HTTP/1.1 200 OK\r\n\r\n{"answers": [1',
            b'HTTP/1.1 503 Busy\r\n\r\n{"error": "busy"}',
            b"",
        )
    )

    async def measured():
        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(next(answers))
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        seen = await load(port, lambda i: message("GET", "/"), 1, 5)
        server.close()
        await server.wait_closed()
        gone = await load(port, lambda i: message("GET", "/"), 2, 1)
        return seen, gone

    seen, gone = asyncio.run(measured())
    assert (len(seen.latencies), seen.errors) == (1, 4)
    row = seen.row("any", 1)
    assert (row["requests"], row["errors"]) == (5, 4)
    assert row["p50, ms"] == row["p99, ms"] == row["slowest, ms"]
    assert (gone.latencies, gone.errors) == ([], 2)


def test_requests_are_those_the_run_can_answer(monkeypatch, tmp_path):
    from benchmarks import serve_load

    (tmp_path / "a.png").write_bytes(b"picture")
    items = SimpleNamespace(texts=["a b", None], image_paths=[str(tmp_path / "a.png"), None])
    index = SimpleNamespace(ids=torch.tensor([0, 1]))
    run = SimpleNamespace(items=lambda: items, index=lambda modality: index)
    monkeypatch.setattr(serve_load, "get", lambda port, path: {"queries": ["image", "text"]})
    asks = serve_load.kinds(1, run)
    assert list(asks) == ["words", "picture", "similar item"]
    assert asks["words"](2).startswith(b"GET /api/search?text=a%20b HTTP/1.1\r\n")
    assert asks["picture"](5).endswith(b"Content-Length: 7\r\n\r\npicture")
    assert asks["similar item"](3).startswith(b"GET /api/item/1/similar ")
    monkeypatch.setattr(serve_load, "get", lambda port, path: {"queries": []})
    assert list(serve_load.kinds(1, run)) == ["similar item"]


def test_short_form(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.serve_load import main

    main(["--short", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "serve_load.json").read_text())
    assert [row["at a time"] for row in stored["tables"][0]["rows"]] == [1, 20]
    assert all(row["errors"] == 0 for row in stored["tables"][0]["rows"])
    assert stored["goals"][0]["reached"] == 0
